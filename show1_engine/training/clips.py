"""Clips to train on, and samples made of them by number, so that any process makes the same."""

import logging
import math
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from ..errors import CheckpointError, InputError, Show1Error
from ..frames import cover, to_model
from .batch import Batch, joined
from .encoded import Encoded, sampled_latents
from .footage import Scene
from .order import Order, seeded
from .recipes import Noiser

log = logging.getLogger(__name__)
_CPU = torch.device("cpu")


class Clips(Protocol):
    """Captioned clips by their number. `buckets`: only equal ones share a batch."""

    captions: Sequence[str]
    buckets: Sequence[Hashable]
    names: Sequence[str]

    def clip(self, item: int, source: Generator) -> Tensor:
        """(1, 3, F, H, W) in [-1, 1], or latents of the expert. Show1Error if it cannot be had."""


@dataclass(frozen=True)
class Cut:
    """What is cut out of a scene: frames, at how many a second, and sizes (height, width)."""

    frames: int
    rate: float
    sizes: Sequence[tuple[int, int]]

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return (self.frames - 1) / self.rate

    def size(self, scene: Scene) -> tuple[int, int]:
        """The one of the nearest aspect."""
        aspect = math.log(scene.width / scene.height)
        return min(self.sizes, key=lambda size: abs(math.log(size[1] / size[0]) - aspect))


class SceneClips:
    """Clips out of the scenes of a footage, anywhere in them.

    encoded: latents of them, where they were encoded beforehand; the clips then begin at whole
        steps of the frame rate.
    """

    def __init__(self, scenes: Sequence[Scene], cut: Cut, encoded: Encoded | None = None):
        self.scenes, self.cut, self.encoded = scenes, cut, encoded
        self.captions = [scene.source.caption for scene in scenes]
        self.names = [scene.name for scene in scenes]
        self.buckets = [cut.size(scene) for scene in scenes]

    def clip(self, item: int, source: Generator) -> Tensor:
        scene, cut, size = self.scenes[item], self.cut, self.buckets[item]
        where = torch.rand(3, generator=source).tolist()
        room = max(0.0, scene.stop - scene.start - cut.seconds)
        if self.encoded is None:
            start = scene.start + where[0] * room
            times = [start + i / cut.rate for i in range(cut.frames)]
            video = to_model(scene.frames(times), _CPU)
            return cover(video, *size, place=(where[1], where[2]))
        first = int(where[0] * (int(room * cut.rate + 1e-6) + 1))
        file = self.encoded.latents(size, cut.rate, scene.name)
        if not file.is_file():
            raise InputError(f"'{scene.name}' is not among the latents in '{self.encoded.folder}'")
        return sampled_latents(file, first, cut.frames, source=source)


def long_enough(scenes: Sequence[Scene], cut: Cut) -> list[Scene]:
    """Those that a cut fits into. InputError, with the way out, if it fits into none."""
    # Half a frame of the cut may be missing: the last frame then stands for one just past it.
    fits = [scene for scene in scenes if scene.stop - scene.start + 0.5 / cut.rate >= cut.seconds]
    if not fits:
        longest = max((scene.stop - scene.start for scene in scenes), default=0.0)
        raise InputError(
            f"no scene is as long as a clip: {cut.frames} frames at {cut.rate:g} a second are "
            f"{cut.seconds:.2f} s, and the longest scene has {longest:.2f} s; give a higher "
            "'frame_rate' or fewer 'frames'"
        )
    return fits


@dataclass(frozen=True)
class _Taken:
    clip: Tensor
    text: Tensor
    source: Generator
    name: str


class ClipData:
    """`batch.Data` of clips: each sample's window, crop, timestep, noise and dropped caption come
    from (seed, number).

    Args:
        text: states (1, tokens, width) of a caption.
        stride: from one batch's first number to the next one's here: clips are read ahead.
    """

    def __init__(
        self,
        clips: Clips,
        text: Callable[[str], Tensor],
        noiser: Noiser,
        *,
        stride: int,
    ):
        self.clips, self.text, self.noiser, self.s = clips, text, noiser, noiser.s
        self.order = Order(clips.buckets, self.s.batch_size, self.s.seed)
        self.stride, self.broken = stride, dict[str, str]()
        self._pool = ThreadPoolExecutor(self.s.workers) if self.s.workers else None
        self._ahead: dict[int, Future] = {}

    def batch(self, numbers: range) -> Batch:
        taken = [self._of(number) for number in numbers]
        if self._pool is not None:
            behind = -(-2 * self.s.workers // len(numbers))
            wanted = {n + self.stride * i for i in range(1, behind + 1) for n in numbers}
            for number in sorted(wanted - self._ahead.keys()):
                self._ahead[number] = self._pool.submit(self._taken, number)
        return joined(self.noiser.sample(t.clip, t.text, t.source, name=t.name) for t in taken)

    def close(self) -> None:
        """Nothing is read ahead any more."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _of(self, number: int) -> _Taken:
        waiting = self._ahead.pop(number, None)
        return self._taken(number) if waiting is None else waiting.result()

    def _taken(self, number: int) -> _Taken:
        """Of an item that can no longer be read the next one of its bucket takes the place."""
        first = item = self.order.item(number)
        while True:
            source = seeded(self.s.seed, number)
            dropped = float(torch.rand((), generator=source)) < self.s.text_drop
            try:
                clip = self.clips.clip(item, source)
                text = self.text("" if dropped else self.clips.captions[item])
                return _Taken(clip, text, source, name=self.clips.names[item])
            except (InputError, CheckpointError) as error:
                self._lost(self.clips.names[item], error)
            item = self.order.after(item)
            if item == first:
                raise InputError(
                    f"no clip can be read any more; the last was '{self.clips.names[item]}'"
                )

    def _lost(self, name: str, error: Show1Error) -> None:
        if name not in self.broken:
            self.broken[name] = str(error)
            log.warning("%s is left out: %s", name, error)
