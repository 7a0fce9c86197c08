"""Who makes clips: one process with the whole cascade, on one device, for row after row."""

import errno
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..cascade import Cascade, Loaded, run_on
from ..checkpoints.find import cascade_in, text_encoder_in
from ..errors import Show1Error, printable
from ..identity import host
from ..models.kinds import KEYFRAMES, LATENT_EXPERT
from ..models.text import CLIP, T5
from ..out_of_memory import free_cached, is_out_of_memory
from ..progress import Report, silent
from ..runtime import PlainRuntime, device_and_dtype, device_name
from ..stages.given import GivenFrames, parsed_indices
from ..stages.registry import STAGES
from ..video import read_frames, write_mp4, write_sheet
from .commit import Clips
from .jobs import Row
from .plan import PLACE, PLAN, Fields, compared, digest, fingerprint, plan_of, settle

DONE, FAILED, REFUSED = "done", "failed", "refused"
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # no other row would fare better
_KINDS = {stage.result: kind for kind, stage in STAGES.items()}
_BY_OPTION = {stage.option: kind for kind, stage in STAGES.items()}


class Worker:
    """Makes the clips of rows (jobs.multiplied) in a folder with a plan.

    Models are loaded for the first row and kept.

    Args:
        folder: the clips', with a plan.json.
        asked: see plan.plan_of; what it gives here must be the folder's plan.
        attempts: a row that was begun so often, and whose process ended each time, has failed.
        reporter: gives a stage's report() by the name of its result.
        observe: is called with (row, name of the result, frames (F, H, W, 3)) after every stage.
        lacks: whether a row whose clip is there is to be made again, for what `observe` keeps.
    """

    def __init__(
        self,
        folder: str,
        asked: Fields,
        attempts: int = 3,
        *,
        reporter: Callable[[str], Report] = lambda name: silent,
        observe: Callable[[Row, str, Tensor], None] = lambda row, name, images: None,
        lacks: Callable[[Row], bool] = lambda row: False,
    ):
        self._clips, self._asked, self._attempts = Clips(Path(folder)), asked, attempts
        self._reporter, self._observe, self._lacks = reporter, observe, lacks
        self._cascade: _Cascade | None = None

    def __call__(self, row: Row) -> Row:
        """The row's sidecar, its `status` "done". Or the row with an `error` in one line, its
        status "failed", or "refused" where no row can be made here.
        """
        began = time.monotonic()
        try:
            attempt = self._clips.begin(row)
            if attempt > self._attempts:
                return self._clips.fail(
                    row,
                    f"its process ended {attempt - 1} times while making it (killed, or no memory)",
                    attempt=attempt - 1,
                    host=host(),
                )
            cascade = self._ready()
        except (Show1Error, OSError) as error:
            return self._refused(row, error)
        try:
            return self._made(cascade, row, attempt, began=began)
        except (Show1Error, OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not is_out_of_memory(error):
                raise
            if getattr(error, "errno", None) in _OF_THE_DISK:
                return self._refused(row, error)
            failure = printable(error)
        free_cached()  # out here: the error no longer holds the tensors of what failed
        if (facts := self._done(row, cascade.plan)) is not None:  # by another attempt
            return facts
        return self._clips.fail(row, failure, attempt=attempt, host=host())

    def _done(self, row: Row, plan: str) -> Row | None:
        """The sidecar of a row with nothing left to make; else None."""
        facts = self._clips.sidecar(row)
        done = self._clips.is_done(row, facts, plan) and not self._lacks(row)
        return facts if done else None

    def _refused(self, row: Row, error: Exception) -> Row:
        self._clips.clear(row)
        return {**row, "status": REFUSED, "error": printable(error), "host": host()}

    def _ready(self) -> "_Cascade":
        if self._cascade is None:
            self._cascade = _Cascade(self._clips.folder, self._asked)
        return self._cascade

    def _made(self, cascade: "_Cascade", row: Row, attempt: int, *, began: float) -> Row:
        if (facts := self._done(row, cascade.plan)) is not None:
            self._clips.clear(row)
            return facts
        asked = cascade.of(row)
        for name, images in run_on(cascade.loaded, asked, self._reporter):
            rate = asked.fps(_KINDS[name])
            self._observe(row, name, images)
            if cascade.values["save_stages"]:
                write = partial(write_mp4, images=images, fps=rate)
                self._clips.write_stage(row, name, ".mp4", write=write)
                write = partial(write_sheet, images=images)
                self._clips.write_stage(row, name, ".png", write=write)
        unfinished = self._clips.partial(row)
        write_mp4(unfinished, images, rate)
        more = {
            "status": DONE,
            "frames": len(images),
            "height": images.shape[1],
            "width": images.shape[2],
            "fps": rate,
            "frames_sha256": frames_digest(images),
            "seconds": round(time.monotonic() - began, 3),
            "attempt": attempt,
            "host": host(),
            "device": cascade.device,
            "threads": torch.get_num_threads(),
            "plan": cascade.plan,
        }
        return self._clips.commit(row, unfinished, {**row, **more})


class _Cascade:
    """The models and files of a plan, here. Show1Error where this is no place for it."""

    def __init__(self, folder: Path, asked: Fields):
        plan = compared(folder, PLAN, plan_of(asked))
        self.plan, self.values = fingerprint(plan), asked["values"]
        torch.set_num_threads(self.values["threads"])
        self._models = Path(asked["models"])
        text_encoder = asked["text_encoder"] and Path(asked["text_encoder"])
        runtime = PlainRuntime(*device_and_dtype(asked["device"], self.values["dtype"]))
        self.device = device_name(runtime.device)
        loras = {
            _BY_OPTION[stage]: [(Path(path), strength) for path, strength in given]
            for stage, given in asked["loras"].items()
        }
        kinds = Cascade(self._models, "", until=self.values["until"]).kinds()
        place = {
            "torch": torch.__version__,
            "device": self.device,
            "dtype": str(runtime.dtype),
            "memory": runtime.memory(),
            "models": _digests(self._models, kinds, text_encoder),
        }
        runtime.planned = settle(folder, PLACE, place, taken=("memory",))["memory"]
        self.loaded = Loaded(self._models, runtime, loras, text_encoder=text_encoder)
        self.loaded.all(kinds)
        self._given = self._given_frames(asked["files"]["given"])
        start = asked["files"]["start_from"]
        self._start = None if start is None else read_frames(Path(start))

    def _given_frames(self, path: str | None) -> GivenFrames | None:
        if path is None:
            return None
        frames = read_frames(Path(path))
        indices = self.values["given_indices"]
        places = parsed_indices("--given-indices", indices, len(frames))
        return GivenFrames(frames, places, harmonise=self.values["harmonise"])

    def of(self, row: Row) -> Cascade:
        """The cascade with a row's texts, seed and settings."""
        values = self.values
        settings = {}
        for kind, stage in STAGES.items():
            common, own = values["settings"][stage.option], row["settings"].get(stage.option, {})
            settings[kind] = replace(stage.settings, **{**common, **own, "seed": row["seed"]})
        return Cascade(
            self._models,
            row["prompt"],
            row.get("negative_prompt", values["negative_prompt"]),
            pixel_negative_prompt=values["pixel_negative_prompt"],
            settings=settings,
            until=values["until"],
            reference=values["reference"],
            prompts=row.get("prompts", ""),
            transition=values["transition"],
            given=self._given,
            start=self._start,
        )


def frames_digest(images: Tensor) -> str:
    """The SHA-256 of frames as float32, before they are encoded."""
    return sha256(images.float().contiguous().cpu().numpy()).hexdigest()


def _digests(models: Path, kinds: list[str], text_encoder: Path | None) -> dict[str, Any]:
    """Digests of the models that some stages take."""
    paths = cascade_in(models)
    found = {kind: digest(paths[kind]) for kind in kinds if kind in paths}
    t5 = text_encoder or text_encoder_in(models, T5, paths.get(KEYFRAMES))
    texts = {T5: t5}
    if LATENT_EXPERT in kinds:
        texts[CLIP] = text_encoder_in(models, CLIP, paths.get(LATENT_EXPERT))
    return {**found, **{kind: digest(path) for kind, path in texts.items()}}
