"""Scores from features, in float64: Frechet distance, Inception score, CLIPSIM.

Features are numpy arrays (n, d); what comes in float32 is widened before anything is summed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

Array = np.ndarray
EPSILON = 1e-20  # added to probabilities before the logarithm, as the code for the video IS does
_CHUNK = 4096  # rows that are widened at once


@dataclass(frozen=True)
class Moments:
    """Count, mean (d,) and centred scatter (d, d) of features: what a Frechet distance needs.

    Parts are merged without loss of precision, as the scatter is centred before it is summed.
    """

    count: int
    mean: Array
    scatter: Array

    @classmethod
    def of(cls, features: Array) -> Moments:
        """Of features (n, d), n >= 1; InputError for another shape, NaN and infinite values."""
        features = np.asarray(features)
        if features.ndim != 2 or not len(features):
            raise InputError(
                f"features have shape {features.shape}; they must be (clips, features) with at "
                "least one clip"
            )
        whole: Moments | None = None
        for start in range(0, len(features), _CHUNK):
            part = cls._of_chunk(features[start : start + _CHUNK].astype(np.float64))
            whole = part if whole is None else whole.merged(part)
        return whole

    @classmethod
    def _of_chunk(cls, features: Array) -> Moments:
        mean = features.mean(axis=0)
        if not np.isfinite(mean).all():
            raise InputError("features hold NaN or infinite values; make them again, in fp32")
        centred = features - mean
        return cls(len(features), mean, centred.T @ centred)

    @classmethod
    def of_parts(cls, parts: Iterable[Array]) -> Moments:
        """Of features that come in parts (n_i, d), never all of them in memory."""
        whole: Moments | None = None
        waiting: list[Array] = []
        for part in parts:
            waiting.append(part)
            if sum(map(len, waiting)) >= _CHUNK:
                whole, waiting = _joined(whole, waiting), []
        if waiting:
            whole = _joined(whole, waiting)
        if whole is None:
            raise InputError("there are no features; compute them first (evaluate features)")
        return whole

    def merged(self, other: Moments) -> Moments:
        """Of both parts together."""
        count = self.count + other.count
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.count / count)
        between = np.outer(shift, shift) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    def covariance(self, ddof: int = 1) -> Array:
        """(d, d). `ddof`: 1 divides by n - 1, 0 by n."""
        if self.count <= ddof:
            raise InputError(f"a covariance needs at least {ddof + 1} clips; there is 1")
        return self.scatter / (self.count - ddof)


def _joined(whole: Moments | None, parts: list[Array]) -> Moments:
    part = Moments.of(np.concatenate(parts))
    return part if whole is None else whole.merged(part)


def frechet(a: Moments, b: Moments, ddof: int = 1) -> float:
    """Squared Frechet distance of two Gaussians: |mean difference|^2 + tr(A + B - 2 sqrt(AB)).

    The trace of the root is the sum of the roots of the eigenvalues of R^T B R, where R R^T = A:
    it is symmetric, so no complex numbers and no root of a matrix (Heusel et al. 2017, eq. 6).
    """
    first, second = a.covariance(ddof), b.covariance(ddof)
    root = _factor(first)
    between = np.linalg.eigvalsh(root.T @ second @ root).clip(min=0)
    shift = float(np.square(a.mean - b.mean).sum())
    return shift + float(np.trace(first) + np.trace(second) - 2 * np.sqrt(between).sum())


def _factor(covariance: Array) -> Array:
    """R with R R^T = the covariance: Cholesky's; of one without full rank, from its eigenvectors,
    which take far longer.
    """
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        return vectors * np.sqrt(values.clip(min=0))


def frechet_of_few(a: Array, b: Array, ddof: int = 1) -> float:
    """The same distance from features (n, d), (m, d) themselves: exact, and the fastest where n and
    m are below d.

    With centred A and B the trace of the root is the nuclear norm of A B^T / sqrt((n - ddof)
    (m - ddof)): their covariances are never built.
    """
    first, second = (np.asarray(x).astype(np.float64) for x in (a, b))
    if min(len(first), len(second)) <= ddof:
        raise InputError(f"a covariance needs at least {ddof + 1} clips; there is 1")
    shift = first.mean(axis=0) - second.mean(axis=0)
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    n, m = len(first) - ddof, len(second) - ddof
    root = np.linalg.svd(first @ second.T, compute_uv=False).sum() / np.sqrt(n * m)
    traces = np.square(first).sum() / n + np.square(second).sum() / m
    return float(np.square(shift).sum() + traces - 2 * root)


def frechet_distance(a: Array, b: Array, ddof: int = 1) -> float:
    """Of features (n, d) and (m, d), by whichever form is exact and cheaper."""
    if max(len(a), len(b)) <= np.shape(a)[1]:
        return frechet_of_few(a, b, ddof)
    return frechet(Moments.of(a), Moments.of(b), ddof)


def expected_bias(dimensions: int, count: int) -> float:
    """What the distance of two samples of one standard normal is, `count` of each: it is not 0.

    Why two distances compare only at equal counts.
    """
    return (dimensions * (dimensions + 1) / 2 + 2 * dimensions) / count


def inception_score(
    probabilities: Array, splits: int = 10, seed: int | None = 2020
) -> tuple[float, float]:
    """Mean and standard deviation over `splits` of exp(mean KL(p(y|x) || p(y))).

    Args:
        probabilities: (n, classes), each row sums to 1.
        seed: of the shuffle before the splits; None: as they come.
    """
    rows = np.asarray(probabilities).astype(np.float64)
    if not 1 <= splits <= len(rows):
        raise InputError(f"{splits} splits of {len(rows)} clips; take 1 to {len(rows)}")
    if seed is not None:
        rows = rows[np.random.RandomState(seed).permutation(len(rows))]
    scores = []
    for i in range(splits):
        part = rows[i * len(rows) // splits : (i + 1) * len(rows) // splits] + EPSILON
        divergence = part * (np.log(part) - np.log(part.mean(axis=0, keepdims=True)))
        scores.append(np.exp(divergence.sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def softmax(logits: Array) -> Array:
    """(n, classes) of logits, in float64."""
    rows = np.asarray(logits).astype(np.float64)
    rows = np.exp(rows - rows.max(axis=1, keepdims=True))
    return rows / rows.sum(axis=1, keepdims=True)


def cosines(images: Array, text: Array) -> Array:
    """Cosine of each frame's features (F, d) with a caption's (d,), from -1 to 1."""
    images, text = np.asarray(images).astype(np.float64), np.asarray(text).astype(np.float64)
    return (images @ text) / (np.linalg.norm(images, axis=1) * np.linalg.norm(text))


def mean_and_error(values: Iterable[float]) -> tuple[float, float]:
    """Mean and its standard error; the error of a single value is NaN."""
    values = np.asarray(list(values), dtype=np.float64)
    if len(values) < 2:
        return float(values.mean()), float("nan")
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
