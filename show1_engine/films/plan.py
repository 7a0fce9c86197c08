"""What is done in which order: shots, the stretches of long ones, and the settings they hang on."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import number_within
from ..stages.pixel_sr import WINDOW
from .source import Source
from .timeline import Timeline

_STEP = WINDOW - 1


@dataclass(frozen=True)
class Stretch:
    """Frames start..stop-1 of the source, which are worked on together.

    row, number: of the row it is a part of, and its own in there; they name its file.
    end: where its shot ends. A stretch that ends before is also given the frame after it.
    film: frames of the whole source.
    """

    row: int
    number: int
    start: int
    stop: int
    end: int
    film: int

    @property
    def name(self) -> str:
        return f"part-{self.row:05}-{self.number:03}"

    @property
    def read(self) -> int:
        """Where reading for it stops."""
        return min(self.stop + 1, self.end)


@dataclass(frozen=True)
class Plan:
    """The work on a film.

    settings: everything the frames hang on, by its name; what is compared before a run goes on.
    edges: numbers of the frames that begin a shot, from 0.
    stretch: how many frames of the source are worked on together, at most 8 more.
    carries: whether a stretch goes on from the one before it. Then a row is a shot, else a stretch.
    factor, fps: of the result (timeline.Timeline).
    """

    settings: dict[str, Any]
    edges: list[int]
    stretch: int
    carries: bool
    factor: int = 1
    fps: float = 0.0

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def rows(self, path: Path, frames: int) -> list[dict[str, Any]]:
        """What can be worked on independently, in the film's order: small, and JSON.

        path, start, stop, index: the file, the frames start..stop-1 of it, and the row's number;
        end: where the row's shot ends; film: how many frames the file has.
        """
        shots = list(zip(self.edges, [*self.edges[1:], frames]))
        parts = [
            (start, stop, end)
            for begin, end in shots
            for start, stop in ([(begin, end)] if self.carries else self._cut(begin, end))
        ]
        return [
            {"path": str(path), "start": start, "stop": stop, "index": i, "end": end}
            | {"film": frames}
            for i, (start, stop, end) in enumerate(parts)
        ]

    def stretches(self, row: dict[str, Any]) -> list[Stretch]:
        """A row's stretches in order."""
        whole = row["start"], row["stop"]
        parts = self._cut(*whole) if self.carries else [whole]
        return [
            Stretch(row["index"], i, start, stop=stop, end=row["end"], film=row["film"])
            for i, (start, stop) in enumerate(parts)
        ]

    def _cut(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Equal stretches; the last one is not shorter than a window."""
        edges = list(range(start, stop, self.stretch))
        if len(edges) > 1 and stop - edges[-1] < WINDOW:
            edges.pop()
        return zip(edges, [*edges[1:], stop])

    def timeline(self, source: Source) -> Timeline:
        return Timeline(source, self.factor, self.fps)


def stretch_of(asked: int, factor: int) -> int:
    """Frames of the source that give about `asked` of the result; whole windows, so that a chain of
    them is what it would be without stretches.
    """
    number_within("'stretch'", asked, 8, most=100_000)
    return max(_STEP, asked // factor // _STEP * _STEP)


def changed(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """In words, which settings of two plans differ."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name, "not there"), new.get(name, "not there")
        if was != now:
            found.append(f"{name} is {now} and was {was}")
    return found
