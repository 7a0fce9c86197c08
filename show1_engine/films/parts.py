"""The folder of what is done so far: one mp4 for each stretch. The file of facts beside it is what
says that it is there.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import InputError
from ..video import VideoWriter, picture_bytes
from .plan import Plan, Stretch
from .source import Source
from .timeline import Timeline

SO_FAR = "so-far.mp4"
_OURS = ("part-*.mp4", "part-*.json", "part-*.safetensors", ".*.part")
_FILES = ("plan.json", "source.json", SO_FAR)

State = dict[str, Tensor]  # what a stretch hands on to the next, by name


class Parts:
    """A folder NAME.parts beside the film that is to be, or where one is wanted."""

    def __init__(self, folder: Path):
        self.folder = folder

    def open(self) -> None:
        """Makes the folder; InputError where that cannot be."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"'{self.folder}' cannot be made: {error.strerror or error}. Give another file name"
            ) from None

    def plan(self) -> Plan | None:
        """The plan that what is there was made by; None without one."""
        data = self._read("plan.json")
        try:
            return None if data is None else Plan(**data)
        except TypeError:
            return None

    def keep_plan(self, plan: Plan) -> None:
        self._write("plan.json", asdict(plan))

    def source(self, known: str) -> Source | None:
        """What was found in the film of that identity; None where it was another one."""
        data = self._read("source.json")
        if data is None or data.pop("identity", None) != known:
            return None
        try:
            return Source.of_data(data)
        except (TypeError, KeyError):
            return None

    def keep_source(self, source: Source, known: str) -> None:
        self._write("source.json", {"identity": known, **source.as_data()})

    def found(self) -> Source:
        """The film's facts, whatever film it is. InputError where they are gone."""
        data = self._read("source.json")
        if data is None:
            raise InputError(f"'{self.folder}' holds no plan of a film; start again")
        data.pop("identity", None)
        return Source.of_data(data)

    def film(self, stretch: Stretch) -> Path:
        return self.folder / f"{stretch.name}.mp4"

    def facts(self, stretch: Stretch, plan: str) -> dict[str, Any] | None:
        """What is known of a stretch that is done by that plan; None if it is not, or not whole."""
        facts = self._read(f"{stretch.name}.json")
        if facts is None or facts.get("plan") != plan:
            return None
        try:
            whole = not facts["frames"] or self.film(stretch).stat().st_size == facts["bytes"]
        except (OSError, KeyError):
            return None
        return facts if whole else None

    def state(self, stretch: Stretch) -> State | None:
        """What a stretch hands on; None where it is not kept (any more)."""
        try:
            return load_file(self._state(stretch))
        except (OSError, SafetensorError):
            return None

    def commit(
        self,
        stretch: Stretch,
        images: Tensor,
        timeline: Timeline,
        *,
        state: State | None,
        plan: str,
    ) -> dict[str, Any]:
        """Writes a stretch's frames (F, H, W, 3), then what it hands on, then the facts."""
        film, numbers = self.film(stretch), timeline.part(stretch.start, stretch.stop)
        pictures = picture_bytes(images) if numbers else np.zeros(0, np.uint8)
        if numbers:  # none where the result has fewer frames than the source
            _write_film(film, pictures, numbers, timeline=timeline)
        if state is not None:
            self._keep_state(stretch, state)
        facts = {
            "plan": plan,
            "start": stretch.start,
            "stop": stretch.stop,
            "first": numbers.start,
            "frames": len(pictures),
            "frames_sha256": hashlib.sha256(pictures.tobytes()).hexdigest(),
            "bytes": film.stat().st_size if numbers else 0,
        }
        self._write(f"{stretch.name}.json", facts)
        return facts

    def forget_state(self, stretch: Stretch) -> None:
        self._state(stretch).unlink(missing_ok=True)

    def remove(self, keep: Iterable[str] = ()) -> None:
        """Deletes what is ours in the folder, and the folder if nothing else is in it."""
        found = [path for pattern in _OURS for path in self.folder.glob(pattern)]
        for path in [*found, *(self.folder / name for name in _FILES)]:
            if path.name not in keep:
                path.unlink(missing_ok=True)
        self.tidy()

    def tidy(self) -> None:
        """Deletes the folder if nothing is in it."""
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _state(self, stretch: Stretch) -> Path:
        return self.folder / f"{stretch.name}.safetensors"

    def _keep_state(self, stretch: Stretch, state: State) -> None:
        partial = self._partial(self._state(stretch).name)
        try:
            save_file({name: value.contiguous() for name, value in state.items()}, partial)
            partial.replace(self._state(stretch))
        except SafetensorError as error:  # its way of saying that the disk is full
            raise OSError(f"'{partial.parent}' cannot be written to: {error}") from error
        finally:
            partial.unlink(missing_ok=True)

    def _partial(self, name: str) -> Path:
        return self.folder / f".{name}.{os.getpid()}.part"

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            data = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return data if isinstance(data, dict) else None

    def _write(self, name: str, data: dict[str, Any]) -> None:
        partial = self._partial(name)
        try:
            partial.write_text(json.dumps(data), encoding="utf-8")
            partial.replace(self.folder / name)
        finally:
            partial.unlink(missing_ok=True)


def _write_film(path: Path, pictures: np.ndarray, numbers: range, *, timeline: Timeline) -> None:
    """The result's frames of these numbers as a film of their own, from time 0 on."""
    times, ticks = None, timeline.ticks
    if ticks is not None:
        begin = timeline.time(numbers[0])
        times = [round((timeline.time(n) - begin) * ticks) for n in numbers]
    aspect = Fraction(*timeline.source.aspect)
    with VideoWriter(path, timeline.rate, ticks=ticks, aspect=aspect) as video:
        video.write_bytes(pictures, times)
