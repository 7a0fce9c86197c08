"""A film to work on: looked through once, then read from any frame on."""

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import InputError
from ..progress import Report, silent
from ..sampling.cuts import change, coarse, cuts_among
from ..video import VideoReader, pixels_of

_HASHED = 2**20  # bytes of the beginning, the middle and the end
_EVEN = 0.2  # of a frame's time, which frames of an even rate may be off by
_SHORT = 0.02  # of the length that a file promises, by which it may end early, and ...
_SHORT_SECONDS = 1.0  # ... how many seconds
_EVERY = 25  # frames between two reports


@dataclass(frozen=True)
class Source:
    """What one look through a film has found.

    frames: how many there are.
    rate: frames per second on average, as a fraction (numerator, denominator).
    width, height: of a frame as it is shown.
    aspect: width of a pixel over its height, as a fraction.
    tick: seconds, as a fraction, that `times` count.
    times: when each frame is shown; empty where that is not known.
    even: whether frames come at an even rate, so that `rate` says it all.
    starts: numbers of the frames that can be decoded without those before.
    changes: how much each frame but the first differs from the one before (sampling.cuts).
    """

    frames: int
    rate: tuple[int, int]
    width: int
    height: int
    aspect: tuple[int, int]
    tick: tuple[int, int]
    times: list[int]
    even: bool
    starts: list[int]
    changes: list[float]

    @property
    def fps(self) -> Fraction:
        return Fraction(*self.rate)

    @property
    def begin(self) -> Fraction:
        """Seconds at which the first frame is shown."""
        return self.times[0] * Fraction(*self.tick) if self.times else Fraction(0)

    def time(self, frame: int) -> Fraction:
        """Seconds from the first frame to this one; past the last, at the rate."""
        if self.even:
            return frame / self.fps
        known = min(frame, self.frames - 1)
        return (self.times[known] - self.times[0]) * Fraction(*self.tick) + (
            frame - known
        ) / self.fps

    def cuts(self) -> list[int]:
        return cuts_among(self.changes)

    def as_data(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_data(cls, data: dict[str, Any]) -> "Source":
        pairs = {name: tuple(data[name]) for name in ("rate", "aspect", "tick")}
        return cls(**{**data, **pairs})


def identity(path: Path) -> str:
    """What tells a file from others of its name: its size, and a hash of three places in it.

    Raises InputError where it cannot be read.
    """
    try:
        size = path.stat().st_size
        digest = hashlib.sha256(str(size).encode())
        with path.open("rb") as file:
            for place in (0, max(0, size // 2 - _HASHED // 2), max(0, size - _HASHED)):
                file.seek(place)
                digest.update(file.read(_HASHED))
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"'{path}' cannot be read: {why}. Give another file") from None
    return f"{size} bytes, {digest.hexdigest()[:16]}"


def look_through(path: Path, report: Report = silent) -> Source:
    """Decodes a film once, keeping a few numbers of each frame.

    Raises InputError, naming the file, where it is damaged, ends before its time, or changes its
    size.
    """
    with FilmReader(path) as film:
        return film.looked_through(report)


class FilmReader(VideoReader):
    """A film that can be read from any frame on."""

    def looked_through(self, report: Report) -> Source:
        """The file's facts; reads it to its end."""
        times, starts, changes, before, size = [], [], [], None, None
        for number, frame in enumerate(self._checked(self._all())):
            image = pixels_of(frame)
            size = size or image.shape[:2]
            if image.shape[:2] != size:
                was, now = (f"{wide}x{high}" for high, wide in (size, image.shape[:2]))
                raise InputError(
                    f"'{self.path}' changes its size at frame {number}, from {was} to {now}. "
                    "Convert it to one size"
                )
            now = coarse(image)
            changes += [] if before is None else [change(before, now)]
            before = now
            times.append(frame.pts)
            starts += [number] if frame.key_frame else []
            if number % _EVERY == 0:
                report(0, max(self._stream.frames, number + 1), None)
        self._refuse_if_cut_off(len(times))
        times = times if _rising(times) else []
        rate = self._rate(times)
        tick = Fraction(self._stream.time_base)
        return Source(
            frames=len(changes) + 1,
            rate=rate.as_integer_ratio(),
            width=size[1],
            height=size[0],
            aspect=self._aspect(turned=image.shape[:2] != (frame.height, frame.width)),
            tick=tick.as_integer_ratio(),
            times=[time - self._zero(tick) for time in times],
            even=not times or _even(times, float(tick * rate)),
            starts=starts,
            changes=changes,
        )

    def frames_from(self, source: Source, start: int) -> Iterator[Tensor]:
        """The frames from number `start` on, (H, W, 3) float32 in [0, 1]: those of reading all."""
        decoded = self._checked(self._container.decode(self._stream))
        # One start earlier than need be: frames may refer to some before the start they follow.
        nearest = max(0, bisect_right(source.starts, start) - 2)
        if not source.times or not source.starts or source.starts[nearest] == 0:
            return self._skipped(decoded, start)
        zero = self._zero(Fraction(self._stream.time_base))
        self._container.seek(source.times[source.starts[nearest]] + zero, stream=self._stream)
        return self._after(decoded, source.times[start] + zero)

    def _skipped(self, decoded: Iterator[Any], count: int) -> Iterator[Tensor]:
        for number, frame in enumerate(decoded):
            if number >= count:
                yield pixels_of(frame)

    def _after(self, decoded: Iterator[Any], time: int) -> Iterator[Tensor]:
        """The frames from one that is shown at a time on."""
        found = False
        for frame in decoded:
            found = found or frame.pts == time
            if not found and frame.pts is not None and frame.pts > time:
                break
            if found:
                yield pixels_of(frame)
        if not found:
            raise InputError(
                f"'{self.path}' cannot be read from its middle on. Convert it to an mp4"
            )

    def _all(self) -> Iterator[Any]:
        """Every frame, while the other streams are followed to their ends, too."""
        self._end = Fraction(0)
        for packet in self._container.demux():
            if packet.dts is not None and packet.time_base is not None:
                end = (packet.dts + (packet.duration or 0)) * packet.time_base
                self._end = max(self._end, end)
            if packet.stream is self._stream:
                yield from packet.decode()

    def _refuse_if_cut_off(self, count: int) -> None:
        """A file that is shorter than it says was not copied to its end."""
        promised = Fraction(self._container.duration or 0, 10**6)
        end = self._end - Fraction(self._container.start_time or 0, 10**6)
        missing = float(promised - end)
        index = getattr(self._stream, "index_entries", None) or ()
        size = os.path.getsize(self.path)
        beyond = any(entry.pos + entry.size > size for entry in index)
        if beyond or missing > max(_SHORT_SECONDS, _SHORT * float(promised)):
            raise InputError(
                f"'{self.path}' is cut off: it ends after {count} frames, {float(end):.1f} s, and "
                f"says it has {float(promised):.1f} s. Get the whole file, or convert what is there"
            )

    def _zero(self, tick: Fraction) -> int:
        """The time at which the file as a whole begins."""
        return round(Fraction(self._container.start_time or 0, 10**6) / tick)

    def _rate(self, times: list[int]) -> Fraction:
        """Frames per second: the file's own number, or that of its frames' times."""
        own = Fraction(self.fps).limit_denominator(1001)
        if len(times) < 2:
            return own
        tick = Fraction(self._stream.time_base)
        seen = (len(times) - 1) / ((times[-1] - times[0]) * tick)
        return own if _even(times, float(tick * own)) else seen.limit_denominator(1001)

    def _aspect(self, turned: bool) -> tuple[int, int]:
        found = self._stream.codec_context.sample_aspect_ratio or Fraction(1)
        found = Fraction(1) if found <= 0 else found
        return (1 / found if turned else found).as_integer_ratio()


def _rising(times: list[int | None]) -> bool:
    if None in times:
        return False
    return all(before < after for before, after in zip(times, times[1:]))


def _even(times: list[int], frames_per_tick: float) -> bool:
    """Whether frames come at that rate, but for rounding."""
    return all(
        abs((time - times[0]) * frames_per_tick - number) <= _EVEN
        for number, time in enumerate(times)
    )
