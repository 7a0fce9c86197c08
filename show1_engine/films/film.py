"""A film from file to file: planned, made part by part, joined. What was interrupted goes on."""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, Show1Error, printable
from ..identity import engine
from ..progress import Report, announce, counted, silent
from . import STRETCH
from .join import join
from .parts import SO_FAR, Parts
from .plan import Plan, Stretch, changed, stretch_of
from .source import Source, identity, look_through
from .steps import Step, cut_at
from .timeline import Timeline
from .worker import Worker

log = logging.getLogger(__name__)

Row = dict[str, Any]  # plan.Plan.rows
Elsewhere = Callable[[list[Row]], Iterator[Row]]  # worker.Worker's rows, as they are done


@dataclass(frozen=True, kw_only=True)
class Film:
    """A piece of work.

    source: the video file.
    target: the mp4 that is to be.
    folder: where the parts lie until it is; else TARGET.parts.
    cuts: a shot ends at a scene cut; else the film is one shot.
    stretch: about how many frames of the result are made together where a shot is longer.
    fps: frames per second of the result, from those that are made the nearest in time; 0: all.
    place: what else the frames hang on, by its name: that of who makes them.
    say: where is told what a person should know.
    """

    source: Path
    target: Path
    folder: Path | None = None
    cuts: bool = True
    stretch: int = STRETCH
    fps: float = 0.0
    place: dict[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = log.warning

    @property
    def parts(self) -> Parts:
        return Parts(self.folder or self.target.with_name(f"{self.target.name}.parts"))


@dataclass(frozen=True)
class Prepared:
    """A film whose plan is made, and kept in the folder of its parts.

    steps: fitted to this film.
    rows: all of them; `left` are those that are still to be made.
    """

    film: Film
    plan: Plan
    source: Source
    steps: list[Step]
    rows: list[Row]

    @property
    def timeline(self) -> Timeline:
        return self.plan.timeline(self.source)

    def stretches(self) -> list[Stretch]:
        return [stretch for row in self.rows for stretch in self.plan.stretches(row)]

    def done(self) -> list[dict[str, Any] | None]:
        """The facts of every stretch in order, None where it is not there."""
        key = self.plan.fingerprint
        return [self.film.parts.facts(stretch, key) for stretch in self.stretches()]

    def left(self) -> list[Row]:
        """The rows of which something is still to be made."""
        key, parts = self.plan.fingerprint, self.film.parts
        return [
            row
            for row in self.rows
            if any(parts.facts(part, key) is None for part in self.plan.stretches(row))
        ]

    def finish(self) -> None:
        """Joins all parts to the target, and removes them. Show1Error where one is not there."""
        facts = self.done()
        if None in facts:
            raise InputError(
                f"'{self.film.target}' is not complete: {facts.count(None)} of "
                f"{counted(len(facts), 'part')} are still to be made; start again"
            )
        self._join(self.film.target, facts)
        self.film.parts.remove()

    def so_far(self) -> str:
        """Joins what is there without a gap from the beginning on; says in words where it is."""
        facts = self.done()
        first = facts.index(None) if None in facts else len(facts)
        frames = sum(known["frames"] for known in facts[:first])
        made = f"{frames} of {self.timeline.frames} frames are made"
        if not frames:
            return f"{made}; start it again to go on"
        path = self.film.parts.folder / SO_FAR
        self._join(path, facts[:first])
        return f"{made}, which '{path}' plays; start it again to go on"

    def _join(self, target: Path, facts: list[dict[str, Any]]) -> None:
        files = [
            (self.film.parts.film(stretch), known["frames"])
            for stretch, known in zip(self.stretches(), facts)
            if known["frames"]
        ]
        join(target, files, self.timeline, sound=self.film.source)


def prepare(film: Film, steps: list[Step], report: Report = silent) -> Prepared:
    """Looks through the film, if that was not done, and makes its plan.

    Where the folder of parts holds those of another plan, what has changed is said, and they go.
    """
    known, parts = identity(film.source), film.parts
    parts.open()
    source = parts.source(known)
    if source is None:
        announce(report, f"'{film.source.name}'", "looking for scene cuts")
        try:
            source = look_through(film.source, report)
        finally:
            parts.tidy()  # of a film that cannot be read nothing is left
        parts.open()
    steps = [step.fitted(source, film.fps) for step in steps]
    plan = _plan(film, steps, source, known=known)
    old = parts.plan()
    if old is not None and old.fingerprint != plan.fingerprint:
        why = "; ".join(changed(old.settings, plan.settings)) or "the plan"
        film.say(f"'{film.target}' is begun anew, as this has changed: {printable(why, 600)}")
        parts.remove(keep=("source.json",))
        parts.open()
    if old is None or old.fingerprint != plan.fingerprint:
        parts.keep_plan(plan)
    parts.keep_source(source, known)
    rows = plan.rows(film.source, source.frames)
    return Prepared(film, plan, source, steps=steps, rows=rows)


def make(
    film: Film, steps: list[Step], report: Report = silent, elsewhere: Elsewhere | None = None
) -> Prepared:
    """Makes a film row by row, in this process or `elsewhere`: what was done for it.

    Where it is interrupted, by whatever, the parts stay, and what is there from the beginning on is
    joined to a film in the folder of parts.
    """
    prepared, finished = prepare(film, steps, report), False
    getattr(report, "restart", lambda: None)()
    left = prepared.left()
    total = prepared.timeline.frames
    done = sum(known["frames"] for known in prepared.done() if known)
    text = f"{source_told(prepared)}; {counted(len(prepared.rows), 'part')}, {len(left)} to do"
    announce(report, f"'{film.target.name}'", text)
    if done:
        film.say(f"'{film.target}' goes on: {done} of {total} frames are there already")
    try:
        if elsewhere is None:
            _work_here(prepared, left, report)
        else:
            _gather(prepared, left, report, made=elsewhere(left))
        finished = True
    finally:
        if not finished:
            # What went wrong is on its way; that this, too, may fail is no news.
            with suppress(OSError, Show1Error):
                film.say(f"'{film.target}' was interrupted: {prepared.so_far()}")
    prepared.finish()
    return prepared


def joined_in(film: Film, steps: list[Step]) -> list[Step]:
    """The steps for a film whose plan another process has made, on this machine or another.

    InputError where its frames would be others here, naming what differs.
    """
    plan, source = film.parts.plan(), film.parts.found()
    steps = [step.fitted(source, film.fps) for step in steps]
    mine = _plan(film, steps, source, known=identity(film.source))
    if plan is None or mine.fingerprint != plan.fingerprint:
        why = "; ".join(changed(plan.settings, mine.settings)) if plan else "there is no plan"
        raise InputError(
            f"'{film.target}' would not be the same made by this process: {printable(why, 600)}. "
            "Make these equal on all machines, or start again"
        )
    return steps


def _work_here(prepared: Prepared, rows: list[Row], report: Report) -> None:
    reporter = _Progress(report, prepared, len(prepared.steps))
    with Worker(prepared.film.parts.folder, lambda: prepared.steps, reporter) as worker:
        for row in rows:
            worker.work(row)


def _gather(prepared: Prepared, rows: list[Row], report: Report, *, made: Iterator[Row]) -> None:
    """Waits for rows that others make. InputError, with the first's, where some have failed."""
    timeline, failed = prepared.timeline, []
    done = timeline.frames - sum(
        len(timeline.part(part.start, part.stop))
        for row in rows
        for part in prepared.plan.stretches(row)
    )
    report(done, timeline.frames)
    for facts in made:
        if facts["status"] == "failed":
            failed.append(facts["error"])
            continue
        done += facts["frames"]
        report(done, timeline.frames)
    if failed:
        raise InputError(f"{counted(len(failed), 'part')} failed, the first: {failed[0]}")


def source_told(prepared: Prepared) -> str:
    """The source and its shots in words."""
    source = prepared.source
    shots = counted(len(prepared.plan.edges), "shot")
    return (
        f"{source.frames} frames {source.width}x{source.height} in {shots} -> "
        f"{prepared.timeline.frames} frames"
    )


def _plan(film: Film, steps: list[Step], source: Source, *, known: str) -> Plan:
    settings: dict[str, Any] = {}
    for step in steps:
        settings |= step.settings_by_name()
    factor = max(step.factor for step in steps)
    settings |= {
        "source": known,
        "scene cuts": film.cuts,
        "stretch": film.stretch,
        "fps": film.fps,
        "engine": engine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        **film.place,
    }
    return Plan(
        settings=settings,
        edges=cut_at(steps, source.cuts() if film.cuts else [], source.frames),
        stretch=stretch_of(film.stretch, factor),
        carries=any(step.carries for step in steps),
        factor=factor,
        fps=film.fps,
    )


class _Progress:
    """Reports of stretches and their steps as one over the whole film, in frames of the result."""

    def __init__(self, report: Report, prepared: Prepared, steps: int):
        self._report, self._timeline, self._steps = report, prepared.timeline, steps
        self._edges = prepared.plan.edges

    def __call__(self, stretch: Stretch, step: int) -> Report:
        part = self._timeline.part(stretch.start, stretch.stop)
        shot = sum(edge <= stretch.start for edge in self._edges)
        note = f"shot {shot} of {len(self._edges)}"

        def report(done: int, total: int, preview: Any = None) -> None:
            share = (step + done / max(1, total)) / self._steps
            if hasattr(self._report, "note"):
                self._report.note = note
            at = part.start + int(len(part) * share)
            self._report(at, self._timeline.frames, preview)

        report.plan = self._told
        return report

    def _told(self, text: str) -> None:
        """Nothing: the film's own plan stays."""
