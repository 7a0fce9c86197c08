"""When every frame of the result is shown, and from which of the source's it comes."""

from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from ..stages.interpolate import rate
from .source import Source

TICKS = 90_000  # in a second, where frames do not come at an even rate


@dataclass(frozen=True)
class Timeline:
    """The result's frames in time: `factor` of them for each of the source's but the last.

    A source of an even rate gives a result of an even rate. Of any other, each frame keeps its
    time, and new ones between two are spread evenly: the result is as long, and its sound fits.

    fps: frames per second to come to, each of them the nearest in time of those that are made; 0:
        all that are made.
    """

    source: Source
    factor: int = 1
    fps: float = 0.0

    @property
    def made(self) -> int:
        """How many frames are made of the whole film."""
        return self.factor * (self.source.frames - 1) + 1

    @property
    def frames(self) -> int:
        """How many frames the result has."""
        return self.made if self._taken is None else len(self._taken)

    @property
    def rate(self) -> Fraction:
        """Frames per second, on average."""
        if self.fps:
            return Fraction(self.fps).limit_denominator(1001)
        return self.source.fps * self.factor

    @property
    def ticks(self) -> int | None:
        """Ticks in a second by which frames are timed; None where their rate is even."""
        return None if self.source.even or self.fps else TICKS

    def part(self, start: int, stop: int) -> range:
        """The result's frames that come of the source's start..stop-1."""
        first, last = self.factor * start, min(self.factor * stop, self.made)
        if self._taken is None:
            return range(first, last)
        return range(bisect_left(self._taken, first), bisect_left(self._taken, last))

    def picked(self, start: int, stop: int) -> list[int]:
        """Which of the frames that are made of start..stop-1 these are, counted from 0."""
        part = self.part(start, stop)
        if self._taken is None:
            return list(range(len(part)))
        return [self._taken[i] - self.factor * start for i in part]

    def time(self, frame: int) -> Fraction:
        """Seconds after the first frame at which one of the result is shown."""
        if self.fps or self.source.even:
            return frame / self.rate
        return self._made_at(frame)

    def _made_at(self, made: int) -> Fraction:
        number, between = divmod(made, self.factor)
        before, after = (self.source.time(n) for n in (number, number + 1))
        return before + (after - before) * between / self.factor

    @cached_property
    def _taken(self) -> list[int] | None:
        """The made frame that each of the result's is; None where it is all of them."""
        if not self.fps:
            return None
        if self.source.even:
            return rate(self.source.frames, float(self.source.fps), self.fps).frames
        made = [float(self._made_at(i)) for i in range(self.made)]
        count = max(1, int(made[-1] * self.fps + 1e-6) + 1)
        return [_nearest(made, i / self.fps) for i in range(count)]


def _nearest(times: list[float], time: float) -> int:
    right = min(bisect_left(times, time), len(times) - 1)
    left = max(0, right - 1)
    return left if time - times[left] < times[right] - time else right
