"""Who works on a row of the plan: a shot, or a stretch of one. Rows do not depend on each other."""

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, Show1Error, printable
from ..out_of_memory import is_out_of_memory
from ..progress import Report, silent
from .parts import Parts, State
from .plan import Plan, Stretch
from .source import FilmReader, Source
from .steps import Prepare, Step

# (stretch, step's number) -> its report
Reporter = Callable[[Stretch, int], Report]


class Worker:
    """Makes rows of a film's plan, each in files of its own in the folder of parts.

    Args:
        folder: of the parts, with the plan and what is known of the source in it.
        prepare: gives the steps; called when the first row needs them, once.
        reporter: gives each step's report().
    """

    def __init__(
        self,
        folder: Path | str,
        prepare: Prepare,
        reporter: Reporter = lambda stretch, step: silent,
    ):
        self._parts, self._prepare, self._reporter = Parts(Path(folder)), prepare, reporter
        self._steps: list[Step] = []
        self._known: tuple[Plan, Source] | None = None
        self._ahead: _Ahead | None = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the film."""
        if self._ahead is not None:
            self._ahead.film.close()
        self._ahead = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Makes what a row (plan.Plan.rows) lacks: the row, its status "done" or "failed" (then
        with the error, one line), its frames, their hashes by part, and the seconds it took.
        """
        begin = time.monotonic()
        try:
            made = self.work(row)
        except (Show1Error, OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not is_out_of_memory(error):
                raise
            return {**row, "status": "failed", "error": printable(error)}
        return {
            **row,
            "status": "done",
            "frames": sum(facts["frames"] for facts in made),
            "frames_sha256": [facts["frames_sha256"] for facts in made],
            "seconds": round(time.monotonic() - begin, 3),
        }

    def work(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Makes what a row lacks: the facts of its parts. What goes wrong is raised."""
        plan, source = self._planned()
        stretches, key = plan.stretches(row), plan.fingerprint
        facts = [self._parts.facts(stretch, key) for stretch in stretches]
        first = next((i for i, known in enumerate(facts) if known is None), len(facts))
        state: State = {}
        if plan.carries and 0 < first < len(facts):
            kept = self._parts.state(stretches[first - 1])
            first = 0 if kept is None else first  # a shot is begun again where nothing leads on
            state = kept or {}
        timeline = plan.timeline(source)
        for i, stretch in enumerate(stretches[first:], first):
            images = self._read(Path(row["path"]), source, stretch)
            made = self._made(images, stretch, state)
            facts[i] = self._parts.commit(
                stretch,
                made[timeline.picked(stretch.start, stretch.stop)],
                timeline,
                state=state or None,
                plan=key,
            )
            if i:
                self._parts.forget_state(stretches[i - 1])
        return facts

    def _planned(self) -> tuple[Plan, Source]:
        """The plan and the film's facts, read once."""
        if self._known is None:
            plan, source = self._parts.plan(), self._parts.found()
            if plan is None:
                raise InputError(f"'{self._parts.folder}' holds no plan of a film; start again")
            self._known = plan, source
        return self._known

    def _read(self, path: Path, source: Source, stretch: Stretch) -> Tensor:
        """A stretch's frames up to `stretch.read`; the film stays open, as the next row may follow
        where this one ends.
        """
        ahead = self._ahead
        if ahead is None or (ahead.film.path, ahead.number) != (path, stretch.start):
            self.close()
            ahead = self._ahead = _Ahead(FilmReader(path), source, stretch.start)
        return ahead.taken(stretch)

    def _made(self, images: Tensor, stretch: Stretch, state: State) -> Tensor:
        """All steps of a stretch, each with a state of its own."""
        self._steps = self._steps or self._prepare()
        for number, step in enumerate(self._steps):
            mark = f"{number}."
            own = {
                name.removeprefix(mark): state.pop(name)
                for name in list(state)
                if name.startswith(mark)
            }
            images = step.make(images, stretch, own, report=self._reporter(stretch, number))
            state |= {mark + name: value for name, value in own.items()}
        return images


class _Ahead:
    """A film's frames in order from number `number` on, of which a stretch may also see the one
    after it.
    """

    def __init__(self, film: FilmReader, source: Source, number: int):
        self.film, self.number = film, number
        self._frames, self._seen = film.frames_from(source, number), []

    def taken(self, stretch: Stretch) -> Tensor:
        """A stretch's frames up to `stretch.read`, (n, H, W, 3)."""
        wanted = stretch.read - stretch.start
        images = [*self._seen, *islice(self._frames, wanted - len(self._seen))]
        if len(images) < wanted:
            end = stretch.start + len(images)
            raise InputError(f"'{self.film.path}' ends at frame {end} now; it was changed")
        self._seen, self.number = images[stretch.stop - stretch.start :], stretch.stop
        return torch.stack(images)
