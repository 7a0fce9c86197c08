"""The frames of a clip that a network sees: which ones, at which size, as uint8."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..video import VideoReader
from .choices import Sampling


class TooShort(InputError):
    """A clip has fewer frames than are to be seen."""


def number_of(*words: object) -> int:
    """63 bits that follow from some words alone: a seed that no order and no shard changes."""
    text = "\0".join(map(str, words))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1


def frame_count(path: Path) -> int:
    """Frames of a video file, counted by its packets: nothing is decoded.

    A container's own count may be missing or wrong; the packets' is that of most files.
    """
    import av

    try:
        with path.open("rb") as file, av.open(file, metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            return sum(packet.size > 0 for packet in container.demux(stream))
    except (av.error.FFmpegError, LookupError, ValueError, OSError) as error:
        raise InputError(f"'{path}' cannot be read as a video: {error}") from error


def chosen(count: int, sampling: Sampling, name: str, seed: int = 0) -> list[int]:
    """Which of a clip's `count` frames are seen, in order.

    Args:
        name: of the clip; with `seed` it decides where a random window lies.
    Raises TooShort.
    """
    if not sampling.frames:
        return list(range(0, count, sampling.stride))
    reach = (sampling.frames - 1) * sampling.stride + 1
    if count < reach and sampling.short == "stretch" and count:
        return [i * count // sampling.frames for i in range(sampling.frames)]
    if count < reach:
        raise TooShort(
            f"'{name}' has {count} frames; {sampling.frames} at stride {sampling.stride} need "
            f"{reach}: give longer clips, fewer --frames, or --short stretch"
        )
    start = {
        "centre": (count - reach) // 2,
        "first": 0,
        "random": number_of(seed, name) % (count - reach + 1),
    }[sampling.place]
    return list(range(start, start + reach, sampling.stride))


def read_clip(
    path: Path, sampling: Sampling, name: str, *, seed: int = 0, start: int | None = None
) -> Tensor:
    """The seen frames of a video file, uint8 (F, H', W', 3). `start`: of a window that is given."""
    if start is not None:
        stop = start + sampling.frames * sampling.stride
        return _read(path, list(range(start, stop, sampling.stride)), sampling)
    wanted = chosen(frame_count(path), sampling, name, seed=seed)
    try:
        return _read(path, wanted, sampling)
    except _Ended as end:  # fewer frames than packets: chosen again, of those there are
        return _read(path, chosen(end.count, sampling, name, seed=seed), sampling)


class _Ended(InputError):
    def __init__(self, path: Path, count: int):
        super().__init__(f"'{path}' ends after {count} frames, before those that are to be seen")
        self.count = count


def _read(path: Path, wanted: list[int], sampling: Sampling) -> Tensor:
    found: dict[int, Tensor] = {}
    needed, last, count = set(wanted), max(wanted, default=-1), 0
    with VideoReader(path) as video:
        for count, frame in enumerate(video, 1):
            if count - 1 in needed:
                found[count - 1] = fitted(frame[None], sampling)[0]
            if count - 1 == last:
                break
    if last not in found:
        raise _Ended(path, count)
    return torch.stack([found[i] for i in wanted])


def seen(images: Tensor, sampling: Sampling, name: str, seed: int = 0) -> Tensor:
    """The seen frames of a clip in memory, (F, H, W, C) in [0, 1]: before any codec."""
    return fitted(images[chosen(len(images), sampling, name, seed=seed), ..., :3], sampling)


def fitted(images: Tensor, sampling: Sampling) -> Tensor:
    """Frames (F, H, W, 3) in [0, 1] at the sampling's size, rounded to uint8."""
    if sampling.size:
        images = _resized(images.movedim(-1, 1), sampling).movedim(1, -1)
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def _resized(planes: Tensor, sampling: Sampling) -> Tensor:
    side = sampling.size
    height, width = planes.shape[-2:]
    tall, wide = side, side
    if sampling.fit == "crop":
        scale = Fraction(side, min(height, width))
        tall, wide = max(side, round(height * scale)), max(side, round(width * scale))
    if (tall, wide) != (height, width):
        smooth = {"antialias": sampling.antialias} if sampling.resize != "area" else {}
        planes = F.interpolate(planes, size=(tall, wide), mode=sampling.resize, **smooth)
    top, left = (tall - side) // 2, (wide - side) // 2
    return planes[..., top : top + side, left : left + side]


def windows(counts: list[int], sampling: Sampling, number: int, seed: int) -> Iterator[list[int]]:
    """(clip, start) of `number` windows drawn evenly, without repeats, from those of all clips.

    Long clips count more, and one may come twice. Yields them in the order they were drawn.
    """
    reach = (sampling.frames - 1) * sampling.stride + 1
    ends = torch.tensor([max(0, count - reach + 1) for count in counts]).cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    if total < number:
        raise InputError(f"{number} windows are asked for; these clips have {total}")
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:number]
    for place in order.tolist():
        clip = int(torch.searchsorted(ends, place, right=True))
        before = int(ends[clip - 1]) if clip else 0
        yield [clip, place - before]
