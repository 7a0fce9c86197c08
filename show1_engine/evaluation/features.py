"""Features on disk, a small file for each clip: what a killed run leaves, the next one skips.

A store is a folder: `settings.json` (metric, network, weights, which frames, and of what source)
and `ID.npy` for each clip, float32. It holds a clip's row (d,), or its frames' rows (F, d). Order,
shards and interruptions leave no trace in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, ResultError
from .choices import METRICS, Sampling
from .clips import TooShort, frame_count, number_of, read_clip, seen, windows
from .networks import Network
from .networks.clip import similarities
from .sets import Clip, write_text, written

Progress = Callable[[int, int], None]
FRAMES, VIDEOS = "frames", "videos"  # what features are of: before any codec, or files


class Store:
    """Features of one metric of one set of clips."""

    def __init__(self, folder: Path, settings: dict[str, Any] | None = None):
        """`settings`: what the features are made with; left out to read a store that is there.

        InputError if the folder holds features made otherwise, naming what differs.
        """
        self.folder = folder
        file = folder / "settings.json"
        there = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        if settings is None and there is None:
            raise InputError(f"'{folder}' holds no features; run evaluate features or real first")
        if settings is not None and there is not None:
            _check_same(folder, there, settings)
        if there is None:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps(settings, indent=1) + "\n")
        self.settings = there or settings

    def path(self, name: str) -> Path:
        """Where a clip's features lie; InputError for a name that leads out of the store."""
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise InputError(f"{name!r} is no name of a clip")
        return self.folder / f"{name}.npy"

    def __contains__(self, name: str) -> bool:
        return self.path(name).is_file()

    def __len__(self) -> int:
        return sum(1 for _ in self.folder.rglob("[!.]*.npy"))

    def names(self) -> list[str]:
        """All clips by name."""
        found = self.folder.rglob("[!.]*.npy")
        return sorted(path.relative_to(self.folder).as_posix()[:-4] for path in found)

    def add(self, name: str, features: Tensor) -> None:
        """A clip's features; they are whole on disk or not there."""
        if not bool(features.isfinite().all()):
            raise ResultError(f"the features of '{name}' are NaN or infinite; compute in fp32")
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with written(path) as partial, partial.open("wb") as file:
            np.save(file, features.float().numpy(), allow_pickle=False)

    def read(self, name: str) -> np.ndarray:
        """(d,) or (F, d)."""
        try:
            return np.load(self.path(name), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"'{self.path(name)}' is damaged ({error}); delete it") from error

    def rows(self, names: Iterable[str]) -> Iterator[np.ndarray]:
        """(n, d) of each clip, one after the other."""
        return (np.atleast_2d(self.read(name)) for name in names)

    def table(self, names: Sequence[str]) -> np.ndarray:
        """(clips, d) of features that are one row a clip."""
        return np.concatenate(list(self.rows(names)))


def _check_same(folder: Path, there: dict[str, Any], asked: dict[str, Any]) -> None:
    asked = json.loads(json.dumps(asked))
    for name in sorted(there.keys() | asked.keys()):
        if there.get(name) != asked.get(name):
            raise InputError(
                f"'{folder}' holds features made with {name} {there.get(name)!r}, not "
                f"{asked.get(name)!r}; give another folder, or delete this one"
            )


@dataclass(frozen=True)
class Job:
    """One metric of one set: with which network, from which frames, into which store."""

    metric: str
    network: Network
    sampling: Sampling
    store: Store

    @property
    def source(self) -> str:
        """FRAMES or VIDEOS."""
        return self.store.settings["source"]

    @classmethod
    def into(
        cls,
        folder: Path,
        metric: str,
        network: Network,
        *,
        sampling: Sampling,
        seed: int,
        source: str = VIDEOS,
    ) -> Job:
        """A job whose store lies in `folder`/`metric`. source: FRAMES or VIDEOS, never both."""
        sees = asdict(sampling)
        settings = {
            "metric": metric,
            "network": network.name,
            "weights": network.digest,
            "note": network.note,
            "source": source,
            **sees,
            "seed": seed if sampling.place in ("random", "windows") else 0,
        }
        del settings["real_stride"]  # stride is what was used
        return cls(metric, network, sampling, Store(folder / metric, settings))

    def row(self, features: Tensor, caption: str) -> Tensor:
        """What the store holds of a clip, from its network's features."""
        metric = METRICS[self.metric]
        if metric.captions:
            return similarities(features, self.network.caption(caption))
        if self.metric == "is":
            return self.network.logits(features)
        if metric.of == "clips" and features.ndim == 2:  # a network of single frames
            return features.mean(0)
        return features


def check_usable(metric: str, network: Network) -> None:
    """InputError where a network has nothing that a metric could be of."""
    lacks = (METRICS[metric].captions and network.caption is None) or (
        metric == "is" and network.logits is None
    )
    video = METRICS[metric].of == "frames" and network.name in ("i3d", "c3d")
    if lacks or video:
        reads = "reads no captions" if METRICS[metric].captions else "gives nothing for it"
        raise InputError(f"{metric} cannot be of {network.name}, which {reads}")


def shard_of(items: Sequence[Any], shard: tuple[int, int]) -> list[Any]:
    """Every `shard[1]`-th item from number `shard[0]` (1-based) on: all parts have a like mix."""
    index, parts = shard
    return list(items[index - 1 :: parts])


def measure(
    clips: Sequence[Clip],
    jobs: Sequence[Job],
    *,
    seed: int = 0,
    shard: tuple[int, int] = (1, 1),
    skip_short: bool = False,
    progress: Progress = lambda done, total: None,
) -> list[str]:
    """Features of all clips for all jobs; what is there is not made again.

    Each clip is read once for jobs that see the same frames. Returns the names of clips that were
    left out because they are too short (`skip_short`; else TooShort).
    """
    mine, short = shard_of(clips, shard), []
    for done, clip in enumerate(mine, 1):
        try:
            _measure_one(clip, jobs, seed)
        except TooShort:
            if not skip_short:
                raise
            short.append(clip.id)
        progress(done, len(mine))
    return short


def _measure_one(clip: Clip, jobs: Sequence[Job], seed: int) -> None:
    def frames(sampling: Sampling) -> Tensor:
        return read_clip(clip.path, sampling, clip.id, seed=seed, start=clip.start)

    _add(clip.id, clip.caption, jobs, frames=frames)


def _add(
    name: str, caption: str, jobs: Sequence[Job], *, frames: Callable[[Sampling], Tensor]
) -> None:
    """Adds a clip to the stores that lack it; what several of them are of is computed once."""
    read: dict[Sampling, Tensor] = {}
    features: dict[tuple[str, Sampling], Tensor] = {}
    for job in jobs:
        if name in job.store or (METRICS[job.metric].captions and not caption):
            continue
        sampling, known = job.sampling, (job.network.name, job.sampling)
        if sampling not in read:
            read[sampling] = frames(sampling)
        if known not in features:
            features[known] = job.network.features(read[sampling])
        job.store.add(name, job.row(features[known], caption))


def measure_frames(
    name: str, images: Tensor, jobs: Sequence[Job], *, caption: str = "", seed: int = 0
) -> None:
    """The same of a clip in memory (F, H, W, C) in [0, 1]: what was generated, before any codec."""

    def frames(sampling: Sampling) -> Tensor:
        return seen(images, sampling, name, seed=seed)

    _add(name, caption, jobs, frames=frames)


def drawn_windows(clips: Sequence[Clip], sampling: Sampling, number: int, seed: int) -> list[Clip]:
    """`number` clips that are windows, drawn evenly from those of all clips."""
    counts = [frame_count(clip.path) for clip in clips]
    found = []
    for index, start in windows(counts, sampling, number, seed=seed):
        clip = clips[index]
        found.append(replace(clip, id=f"{clip.id}@{start}", start=start))
    return found


def drawn(names: Sequence[str], number: int, seed: int) -> list[str]:
    """`number` of the clips, drawn by their names: whatever else there is, the same seed prefers
    the same ones. All of them in this order where there are no more.
    """
    return sorted(names, key=lambda name: number_of(seed, name))[:number]


def device_of(asked: str) -> str:
    """ "auto": cuda where there is one."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked
