"""Temporal windows and spatial tiles as data: which frames and pixels are sampled together, and how
much each counts.

One planner serves every axis: `spans` covers a length with overlapping stretches whose weights sum
    to one everywhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """Frames start..stop-1 of a clip. `continues`: its first frame is already there, from the
    window before.
    """

    start: int
    stop: int
    continues: bool = False

    @property
    def frames(self) -> slice:
        return slice(self.start, self.stop)


def scenes(frames: int, cuts: list[int]) -> list[tuple[int, int]]:
    """(start, stop) of every scene; a cut is the number of a scene's first frame."""
    edges = [0, *cuts, frames]
    return list(zip(edges, edges[1:]))


def chained_windows(frames: int, window: int = 8, cuts: list[int] = ()) -> list[Window]:
    """Windows that each start on the last frame of the one before; the last of a scene is moved
    back to end with it.

    Every frame is covered, a scene cut starts a new chain, and a scene shorter than a window is one
    window. 29 frames give starts 0, 7, 14, 21.
    """
    out = []
    for begin, end in scenes(frames, list(cuts)):
        starts = [*range(begin, end - window, window - 1), max(begin, end - window)]
        out += [Window(start, min(start + window, end), start > begin) for start in starts]
    return out


def original_windows(frames: int, window: int = 8) -> list[Window]:
    """The original's loop, kept for comparison: trailing frames stay uncovered unless (frames - 1)
    % 7 == 0.
    """
    return [
        Window(start, start + window, start > 0)
        for start in range(0, frames - window + 1, window - 1)
    ]


@dataclass(frozen=True, eq=False)
class Span:
    """Positions start..stop-1 of an axis and the weight of each, (stop - start,).

    round: length of an axis that is a circle, on which the span may run past the end to the
        beginning; 0 for a straight one.
    """

    start: int
    stop: int
    weight: Tensor
    round: int = 0

    @property
    def index(self) -> slice | Tensor:
        """What picks the positions out of a tensor's axis."""
        if self.stop <= self.round or not self.round:
            return slice(self.start, self.stop)
        return torch.arange(self.start, self.stop) % self.round

    @property
    def moment(self) -> float:
        """The position in the middle."""
        middle = (self.start + self.stop - 1) / 2
        return middle % self.round if self.round else middle


def spans(length: int, size: int, overlap: int, multiple: int = 1) -> list[Span]:
    """Covers an axis with equal stretches of at most `size` that overlap by at least `overlap`.

    Weights rise and fall linearly where stretches overlap, stay 1 at the axis' own ends, and sum to
    1 everywhere. Starts (and the size) are multiples of `multiple`, which must divide `length`.
    """
    size = max(multiple, size // multiple * multiple)
    if length <= size:
        return [Span(0, length, torch.ones(length))]
    overlap = min(overlap, size - multiple)
    count = -(-(length - overlap) // (size - overlap))
    room = (length - size) // multiple
    starts = [round(i * room / (count - 1)) * multiple for i in range(count)]
    raw = [
        _ramp(
            size,
            starts[i - 1] + size - start if i else 0,
            start + size - starts[i + 1] if i + 1 < count else 0,
        )
        for i, start in enumerate(starts)
    ]
    total = torch.zeros(length)
    for start, weight in zip(starts, raw):
        total[start : start + size] += weight
    return [
        Span(start, start + size, weight / total[start : start + size])
        for start, weight in zip(starts, raw)
    ]


def _ramp(size: int, before: int, after: int) -> Tensor:
    """One, rising over the first `before` and falling over the last `after` positions."""
    position = torch.arange(size, dtype=torch.float32) + 0.5
    rise = (position / before).clamp(max=1) if before else torch.ones(size)
    fall = ((size - position) / after).clamp(max=1) if after else torch.ones(size)
    return torch.minimum(rise, fall)


def scene_spans(frames: int, window: int, overlap: int, cuts: list[int] = ()) -> list[Span]:
    """`spans` over time that never reach across a scene cut."""
    return [
        Span(begin + span.start, begin + span.stop, span.weight)
        for begin, end in scenes(frames, list(cuts))
        for span in spans(end - begin, window, overlap)
    ]


def loop_spans(length: int, size: int, overlap: int) -> list[Span]:
    """Covers a circle with at least two equal stretches of at most `size`, evenly spread.

    Neighbours overlap by at least `overlap`, the last and the first too; weights sum to 1.
    """
    if length == 1:
        return [Span(0, 1, torch.ones(1))]
    size = min(size, length)
    overlap = min(overlap, size - 1)
    count = max(2, -(-length // (size - overlap)))
    starts = [i * length // count for i in range(count)] + [length]
    steps = [after - start for start, after in zip(starts, starts[1:])]
    weights = [
        _ramp(size, max(0, size - steps[i - 1]), max(0, size - steps[i])) for i in range(count)
    ]
    places = [torch.arange(start, start + size) % length for start in starts[:-1]]
    total = torch.zeros(length)
    for index, weight in zip(places, weights):
        total[index] += weight
    return [
        Span(start, start + size, weight / total[index], round=length)
        for start, weight, index in zip(starts, weights, places)
    ]


@dataclass(frozen=True, eq=False)
class Box:
    """A stretch of time, rows and columns of a (B, C, F, H, W) tensor."""

    time: Span
    rows: Span
    columns: Span

    @property
    def index(self) -> tuple[slice, ...]:
        return (slice(None), slice(None), self.time.index, self.rows.index, self.columns.index)

    @property
    def weight(self) -> Tensor:
        """(frames, rows, columns) of the box."""
        return (self.time.weight[:, None, None] * self.rows.weight[:, None]) * self.columns.weight


def boxes(time: list[Span], rows: list[Span], columns: list[Span]) -> Iterator[Box]:
    """Every combination: their weights sum to 1 at every frame and pixel."""
    return (Box(t, r, c) for t in time for r in rows for c in columns)
