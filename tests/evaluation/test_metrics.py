"""The numbers against closed forms, against other implementations, and against themselves."""

import warnings

import numpy as np
import pytest
import torch

from show1_engine.errors import InputError
from show1_engine.evaluation.metrics import (
    Moments,
    cosines,
    expected_bias,
    frechet,
    frechet_distance,
    frechet_of_few,
    inception_score,
    mean_and_error,
    softmax,
)


def random(seed: int = 0) -> np.random.RandomState:
    return np.random.RandomState(seed)


def correlated(count: int, dimensions: int, seed: int = 0) -> np.ndarray:
    r = random(seed)
    return r.randn(count, dimensions) @ r.randn(dimensions, dimensions) + r.randn(dimensions)


def moments(mean: np.ndarray, covariance: np.ndarray) -> Moments:
    return Moments(101, mean, covariance * 100)


def test_the_distance_of_covariances_that_commute():
    """Closed form: |mean difference|^2 + sum (sqrt(a) - sqrt(b))^2, in any rotation."""
    r = random()
    a, b, shift = r.rand(60) + 0.1, r.rand(60) + 0.1, r.randn(60)
    turn, _ = np.linalg.qr(r.randn(60, 60))
    wanted = np.square(shift).sum() + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    found = frechet(
        moments(np.zeros(60), turn * a @ turn.T), moments(shift, turn * b @ turn.T), ddof=1
    )
    assert found == pytest.approx(wanted, rel=1e-12)


def test_a_set_is_not_apart_from_itself():
    a = correlated(300, 40)
    trace = np.trace(Moments.of(a).covariance())
    assert abs(frechet_distance(a, a)) < 1e-6 * trace
    few = a[:30]
    assert abs(frechet_distance(few, few)) < 1e-6 * trace


def test_symmetry_rotation_shift_and_scale():
    a, b = correlated(300, 40, seed=1), correlated(300, 40, seed=2)
    distance = frechet_distance(a, b)
    turn, _ = np.linalg.qr(random(3).randn(40, 40))
    assert frechet_distance(b, a) == pytest.approx(distance, rel=1e-11)
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(distance, rel=1e-11)
    assert frechet_distance(a + 7, b + 7) == pytest.approx(distance, rel=1e-11)
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * distance, rel=1e-11)


@pytest.mark.parametrize("counts", [(12, 12), (30, 17), (300, 200)])
@pytest.mark.parametrize("ddof", [0, 1])
def test_both_forms_agree(counts, ddof):
    a, b = correlated(counts[0], 40, seed=1), correlated(counts[1], 40, seed=2)
    eigen = frechet(Moments.of(a), Moments.of(b), ddof)
    enough = min(counts) > 40  # else both covariances lack rank, and roots of zeros are noise
    assert frechet_of_few(a, b, ddof) == pytest.approx(eigen, rel=1e-11 if enough else 1e-7)


def test_scipy_agrees():
    linalg = pytest.importorskip("scipy.linalg")
    a, b = Moments.of(correlated(500, 50, seed=1)), Moments.of(correlated(500, 50, seed=2))
    root = linalg.sqrtm(a.covariance() @ b.covariance())
    wanted = np.square(a.mean - b.mean).sum() + np.trace(
        a.covariance() + b.covariance() - 2 * np.real(root)
    )
    assert frechet(a, b) == pytest.approx(wanted, rel=1e-9)


def test_merged_parts_are_the_whole():
    a = correlated(1000, 20) + 1e4  # far from zero: plain sums of float32 are off by hundreds
    whole = Moments.of(a)
    cuts = np.array_split(a, 7)
    for order in (range(7), reversed(range(7))):
        parts = [Moments.of(cuts[i]) for i in order]
        merged = parts[0]
        for part in parts[1:]:
            merged = merged.merged(part)
        assert merged.count == 1000
        np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
        np.testing.assert_allclose(merged.covariance(), whole.covariance(), rtol=1e-9, atol=1e-9)
    streamed = Moments.of_parts(iter(cuts))
    np.testing.assert_allclose(streamed.covariance(), whole.covariance(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("count", "dimensions"), [(1024, 100), (2048, 200)])
def test_the_bias_of_few_clips_is_as_said(count, dimensions):
    values = [
        frechet_distance(
            random(i).randn(count, dimensions), random(99 - i).randn(count, dimensions)
        )
        for i in range(4)
    ]
    assert np.mean(values) == pytest.approx(expected_bias(dimensions, count), rel=0.03)


def test_ddof_matters_where_clips_are_few():
    a, b = correlated(64, 20, seed=1), correlated(64, 20, seed=2)
    assert frechet_distance(a, b, ddof=0) != pytest.approx(frechet_distance(a, b), rel=1e-4)


@pytest.mark.parametrize(
    ("features", "word"),
    [
        (np.zeros((0, 4)), "at least one clip"),
        (np.zeros(4), "(4,)"),
        (np.full((3, 4), np.nan), "NaN"),
    ],
)
def test_what_are_no_features(features, word):
    with pytest.raises(InputError, match="(?s).*" + word.replace("(", r"\(").replace(")", r"\)")):
        Moments.of(features)


def test_one_clip_has_no_covariance():
    with pytest.raises(InputError, match="at least 2"):
        frechet_distance(np.zeros((1, 3)), np.ones((1, 3)))


# Inception score


def test_the_score_of_uniform_answers_is_one():
    assert inception_score(np.full((200, 101), 1 / 101))[0] == pytest.approx(1)


def test_the_score_of_sure_and_balanced_answers_is_the_number_of_classes():
    """Exact zeros stay finite; splits hold fewer clips of each class and score less."""
    sure = np.eye(101).repeat(100, axis=0)
    assert inception_score(sure, splits=1)[0] == pytest.approx(101)
    assert 90 < inception_score(sure, splits=10)[0] < 101


def test_the_score_follows_the_share_of_classes():
    share = np.array([0.5, 0.3, 0.2])
    rows = np.eye(3).repeat((share * 1000).astype(int), axis=0)
    wanted = np.exp(-(share * np.log(share)).sum())
    assert inception_score(rows, splits=1)[0] == pytest.approx(wanted)


def test_the_score_is_torch_fidelitys():
    """Recorded with torch-fidelity 0.4.0: splits 10, shuffled with seed 2020."""
    rows = softmax(random().randn(2048, 101) * 3)
    mean, spread = inception_score(rows, 10, seed=2020)
    assert mean == pytest.approx(12.272112411276108, rel=1e-11)
    assert spread == pytest.approx(0.44781409100828684, rel=1e-9)
    assert inception_score(rows, 1)[0] > mean  # fewer splits, higher score


@pytest.mark.parametrize("splits", [0, 11])
def test_splits_have_clips(splits):
    with pytest.raises(InputError, match="10"):
        inception_score(np.full((10, 3), 1 / 3), splits)


def test_softmax_of_large_logits():
    rows = softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]]))
    np.testing.assert_allclose(rows, [[1, 0], [0.5, 0.5]], atol=1e-12)


# Others' implementations, where they are installed


class Extractor(torch.nn.Module):
    """Random features of small pictures, in double precision: the same one for everybody."""

    num_features = 64

    def __init__(self):
        super().__init__()
        weights = random(7).randn(64, 3 * 8 * 8) / 14
        self.weights = torch.nn.Parameter(torch.from_numpy(weights), requires_grad=False)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.tanh(pictures.double().flatten(1) / 64 @ self.weights.T)


@pytest.fixture(scope="module")
def pictures() -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    dark = torch.randint(0, 200, (400, 3, 8, 8), generator=g, dtype=torch.uint8)
    return [dark, torch.randint(40, 256, (400, 3, 8, 8), generator=g, dtype=torch.uint8)]


def test_torchmetrics_agrees(pictures):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fid = pytest.importorskip("torchmetrics.image.fid")
    network = Extractor()
    theirs = fid.FrechetInceptionDistance(feature=network, input_img_size=(3, 8, 8))
    theirs.set_dtype(torch.float64)
    for side, real in zip(pictures, (True, False), strict=True):
        theirs.update(side, real=real)
    ours = frechet_distance(*(network(side).numpy() for side in pictures))
    assert ours > 1 and ours == pytest.approx(float(theirs.compute()), rel=1e-9)


def test_torch_fidelity_agrees(pictures):
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    features = [Extractor()(side) for side in pictures]
    theirs = [fid.fid_features_to_statistics(x) for x in features]
    wanted = fid.fid_statistics_to_metric(*theirs, False)["frechet_inception_distance"]
    assert frechet_distance(*(x.numpy() for x in features)) == pytest.approx(wanted, rel=1e-9)


def test_torch_fidelity_agrees_on_the_inception_score(pictures):
    """The same splits, after the same shuffle."""
    isc = pytest.importorskip("torch_fidelity.metric_isc")
    logits = 3 * Extractor()(pictures[0])
    theirs = isc.isc_features_to_metric(logits, splits=10, shuffle=True, rng_seed=2020)
    mean, spread = inception_score(softmax(logits.numpy()), 10, seed=2020)
    assert mean == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
    assert spread == pytest.approx(theirs["inception_score_std"], rel=1e-9)


def test_torchmetrics_agrees_on_the_inception_score(pictures):
    """Of one split, as its shuffle has no seed."""
    inception = pytest.importorskip("torchmetrics.image.inception")
    network = Extractor()
    theirs = inception.InceptionScore(feature=network, splits=1).set_dtype(torch.float64)
    theirs.update(pictures[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the spread of one split
        wanted = float(theirs.compute()[0])
    mean, _ = inception_score(softmax(network(pictures[0]).numpy()), 1)
    assert mean == pytest.approx(wanted, rel=1e-9)


# Small things


def test_cosines():
    images = np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    np.testing.assert_allclose(cosines(images, np.array([5.0, 0.0])), [1, 0, -1])


def test_mean_and_error():
    mean, error = mean_and_error([1.0, 2.0, 3.0])
    assert mean == 2 and error == pytest.approx(1 / np.sqrt(3))
    assert np.isnan(mean_and_error([1.0])[1])
