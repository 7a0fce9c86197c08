"""python -m show1_engine batch: a table of jobs to a folder of videos.

torch comes with the first clip that is to be made: where all are done, that is found in a second.
"""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ..batch import jobs, plan
from ..batch.commit import Clips
from ..batch.jobs import Row
from ..batch.plan import PLAN
from ..errors import InputError, whole_within
from . import declared
from .common import (
    MOST_WORKERS,
    bundled,
    check_workers,
    models_folder,
    on_ray,
    share_of_card,
)
from .terminal import Bar, bar, say

if TYPE_CHECKING:
    from ..evaluation.generated import GeneratedFeatures

_INTERRUPTED = 130  # as shells have it


def run(args: argparse.Namespace, features: GeneratedFeatures | None = None) -> int:
    """0 where every clip is there in the end, 1 where one could not be made.

    features: of the frames before they are encoded; a clip without them is made again.
    """
    check_workers(args)
    whole_within("--attempts", args.attempts, 1, most=MOST_WORKERS)
    kinds = declared.stages()
    table = jobs.multiplied(
        jobs.read_jobs(args.jobs, kinds),
        jobs.parsed_seeds(args.seeds),
        jobs.parsed_sweep(args.sweep, kinds),
        names=args.names,
    )
    rows = jobs.sharded(table, jobs.parsed_shard(args.shard))
    clips, asked = Clips(args.folder), _asked(args, kinds)
    fields = plan.plan_of(asked)
    if (args.folder / PLAN).exists():
        plan.compared(args.folder, PLAN, fields)
    key, verify = plan.fingerprint(fields), args.verify
    todo = [row for row in rows if not clips.is_done(row, clips.sidecar(row), key, verify=verify)]
    if features is not None:
        todo = _with_unmeasured(rows, todo, features)
    say(f"batch: {len(rows)} clips, {len(rows) - len(todo)} done, {len(todo)} to do")
    if args.dry_run:
        for row in todo:
            print(json.dumps(row, ensure_ascii=False))
        return 0
    if features is not None:
        features.settle()
    plan.settle(args.folder, PLAN, fields)
    return _worked_through(args, clips, todo, asked=asked, features=features)


def _with_unmeasured(rows: list[Row], todo: list[Row], features: GeneratedFeatures) -> list[Row]:
    """Those to do, and those whose clip is there without all its features."""
    waiting = {row["id"] for row in todo}
    again = {row["id"] for row in rows if row["id"] not in waiting and features.lacks(row)}
    if again:
        say(f"batch: {len(again)} made again, as features of their frames are not there")
    return [row for row in rows if row["id"] in waiting | again]


def _maker(features: GeneratedFeatures | None) -> Callable[..., Callable[[Row], Row]]:
    """A worker, which also measures frames where features are asked for."""
    from ..batch.worker import Worker

    if features is None:
        return Worker
    return partial(Worker, observe=features.add, lacks=features.lacks)


def _asked(args: argparse.Namespace, kinds: jobs.Kinds) -> plan.Fields:
    """All that workers are told, as plain values."""
    loras = {"keyframes": args.lora, "pixel-sr": args.pixel_sr_lora}
    files = {"given": args.given, "start_from": args.start_from}
    values = {
        "settings": {stage: _settings(args, stage, fields) for stage, fields in kinds.items()},
        "save_stages": args.save_stages,
    }
    as_they_are = (
        *("until", "negative_prompt", "pixel_negative_prompt", "reference", "transition"),
        *("given_indices", "harmonise", "dtype", "threads"),
    )
    return {
        "models": str(models_folder(args).absolute()),
        "text_encoder": args.text_encoder and str(args.text_encoder.absolute()),
        "device": args.device,
        "files": {name: path and str(path.absolute()) for name, path in files.items()},
        "loras": {
            stage: [[str(path.absolute()), strength] for path, strength in given]
            for stage, given in loras.items()
        },
        "values": {**values, **{name: getattr(args, name) for name in as_they_are}},
    }


def _settings(args: argparse.Namespace, stage: str, fields: dict) -> dict[str, Any]:
    """A stage's settings but its seed: as given, else what suits the micro models, else the
    defaults.
    """
    field = stage.replace("-", "_")
    found = {name: setting.default for name, setting in fields.items() if name != "seed"}
    if edition := bundled(args):
        found |= edition.settings[field]
    if args.preset:
        found["preset"] = args.preset
    given = {name: getattr(args, f"{field}_{name}", None) for name in found}
    return found | {name: value for name, value in given.items() if value is not None}


def _worked_through(
    args: argparse.Namespace,
    clips: Clips,
    todo: list[Row],
    *,
    asked: plan.Fields,
    features: GeneratedFeatures | None,
) -> int:
    """Makes the rows, then writes the tables: what the command returns."""
    before = clips.failures()
    for row in todo:
        if row["id"] in before:
            clips.forget(row)
    if on_ray(args):
        work = _on_workers(args, asked, todo, features=features)
    else:
        work = _here(args, clips, asked, todo=todo, features=features)
    terminated = signal.signal(signal.SIGTERM, signal.default_int_handler)
    missing, failed = {row["id"]: row for row in todo}, 0
    try:
        for facts in _shown(work, len(todo)):
            failed += facts["status"] != "done"
            del missing[facts["id"]]
        for row in missing.values():
            clips.fail(row, "its worker was lost, and nothing came back; see Ray's logs")
    except KeyboardInterrupt:
        say("batch: stopped; the same command goes on from here")
        return _INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, terminated)
        done, _ = clips.write_tables()
    failed += len(missing)
    say(f"batch: '{args.folder}' holds {done} clips" + (f"; {failed} failed" if failed else ""))
    print(args.folder / ("failed.jsonl" if failed else "manifest.jsonl"))
    return 1 if failed else 0


def _shown(work: Iterator[Row], total: int) -> Iterator[Row]:
    """The rows as they come, a line and a step of a bar for each. InputError where one was
    refused.
    """
    with bar("clips", total=total, unit="clip") as clips:
        for facts in work:
            if facts["status"] == "refused":
                raise InputError(f"{facts['host']}: {facts['error']}")
            if facts["status"] == "done":
                size = f"{facts['frames']} frames {facts['width']}x{facts['height']}"
                say(f"{facts['id']}: {size}, {facts['seconds']:.1f} s")
            else:
                say(f"{facts['id']}: failed: {facts['error']}")
            clips.update()
            yield facts


def _here(
    args: argparse.Namespace,
    clips: Clips,
    asked: plan.Fields,
    *,
    todo: list[Row],
    features: GeneratedFeatures | None,
) -> Iterator[Row]:
    """The rows made by this process."""
    if not todo:
        return

    def report(name: str) -> Any:
        return Bar(name).__call__  # without its plan, which would be said for every clip

    worker = _maker(features)(str(args.folder), asked, args.attempts, reporter=report)
    for row in todo:
        try:
            yield worker(row)
        except KeyboardInterrupt:
            clips.clear(row)  # no attempt that the row is to blame for
            raise


def _on_workers(
    args: argparse.Namespace,
    asked: plan.Fields,
    todo: list[Row],
    *,
    features: GeneratedFeatures | None,
) -> Iterator[Row]:
    """The rows made by Ray's workers."""
    if not todo:
        return
    from ..batch.on_ray import mapped

    yield from mapped(
        _maker(features),
        (str(args.folder.absolute()), asked, args.attempts),
        todo,
        workers=args.workers,
        address=args.address,
        gpus=share_of_card(args),
        threads=args.threads,
        attempts=-1,  # the worker counts them
    )
