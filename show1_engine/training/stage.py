"""A stage's training: the one loop on numbered samples, by one process or several, with its
checkpoints and its log in a folder.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import DivergedError
from ..models.bundle import Show1Model
from ..noise import generator
from ..progress import Report, announce, silent
from ..sampling.schedules import make_scheduler
from .batch import Data
from .learner import Learner
from .loop import Budget, TrainingLoop, WeightAverage, load_state, save_state, warm_up
from .network import checkpointed
from .processes import Alone, Processes
from .settings import StageTrainSettings
from .shards import whole
from .student import Teacher

log = logging.getLogger(__name__)

_BETAS = (0.9, 0.99)
_DELAY = 9  # of the running average
_LOG_EVERY = 10
# The step's number -> metrics by name; called with the averaged weights in place.
Validate = Callable[[int], dict[str, float]]


def _no_validation(step: int) -> dict[str, float]:
    return {}


class StageTraining:
    """A training in a folder: `checkpoints/` by step, `log.jsonl`, `tensorboard/` where that is
    installed. Where checkpoints lie there, it goes on from the last.

    Args:
        stage: its name on the command line, for messages.
        data: samples by number.
        validate: what is measured and sampled every `sample_every` steps, by the first process; of
            shards by all, which run the network together.
        teacher: of a student; `model` has a student's scheduler config then.

    Attributes:
        stopped: set it, and the run ends after the step, all processes at the same.
    """

    def __init__(
        self,
        stage: str,
        model: Show1Model,
        data: Data,
        s: StageTrainSettings,
        folder: Path,
        *,
        place: Processes | None = None,
        validate: Validate = _no_validation,
        teacher: Teacher | None = None,
    ):
        self.stage, self.model, self.data, self.s = stage, model, data, s
        self.folder, self.validate, self.stopped = Path(folder), validate, False
        self.place = place or Alone(torch.device("cpu"))
        alphas = make_scheduler(model.scheduler_config).alphas_cumprod.float()
        device = self.place.device
        # eval: the dropout of the temporal convolutions is for small data
        self.learner = Learner(
            model.network, model.kind, s, alphas=alphas, device=device, teacher=teacher
        ).eval()
        if self.place.shard:
            self.learner.divide(device)
        learned = self.learner.learned
        if self.learner.adapters is not None:
            self.learner.adapters.average = WeightAverage(learned, s.ema, _DELAY)
        average = getattr(self.learner.adapters, "average", None)
        optimiser = torch.optim.AdamW(
            learned.values(), lr=s.learning_rate, betas=_BETAS, weight_decay=s.weight_decay
        )
        self.loop = TrainingLoop(
            stage,
            optimiser,
            average or WeightAverage(learned, s.ema, _DELAY),
            source=generator(s.seed),
            clip=s.clip,
            counters={"clips": 0},
            mean=self.place.mean,
        )
        self._names: dict[str, Tensor] = {}
        self._losses: list[float] = []

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.loop.counters["step"])

    def run(self, report: Report = silent) -> None:
        """Trains until the steps are done or it is stopped, and saves.

        Raises:
            DivergedError: a loss is not finite; named is what it was of. What was learned before is
                saved.
        """
        self.resume(report)
        with ExitStack() as stack:
            if self.s.gradient_checkpointing:
                stack.enter_context(checkpointed(self.model.network))
            if self.learner.adapters is not None:
                stack.enter_context(self.learner.adapters.attached())
            wrapped = self.place.wrapped(self.learner)
            board = stack.enter_context(_Board(self.folder if self.place.rank == 0 else None))
            if self.step == 0 and self.s.sample_every:
                self._validated(board)
            try:
                self._steps(wrapped, board, report)
            except DivergedError as error:
                self.save()
                wrong = [n for n, loss in self._names.items() if not bool(loss.isfinite())]
                raise DivergedError(self.stage, error.step, wrong or list(self._names)) from None
            self.save()

    def _steps(self, wrapped: torch.nn.Module, board: "_Board", report: Report) -> None:
        first, began = self.step, time.monotonic()

        def reported(loss: float, part: float) -> None:
            nonlocal began
            step, s = self.step, self.s
            self._losses.append(loss)
            if step % _LOG_EVERY == 0 or step == s.steps:
                took = (time.monotonic() - began) / len(self._losses)
                began = time.monotonic()
                self._log(board, seconds_a_step=round(took, 4))
            if s.sample_every and (step % s.sample_every == 0 or step == s.steps):
                self._validated(board)
                began = time.monotonic()
            if step % s.save_every == 0 and step < s.steps:
                self.save()
            report(step, s.steps, None)

        def loss(step: int) -> Iterator[Tensor]:
            return self._parts(wrapped, step)

        while self.step < self.s.steps and not self._told_to_stop():
            self.loop.run(loss, self.rate, Budget(steps=1), report=reported)
        if self._losses and self.step > first:
            self._log(board)

    def rate(self, step: int, part: float = 0.0) -> float:
        """The learning rate of a step, from 1."""
        done = min(1.0, (step - 1) / self.s.steps)
        falling = {
            "none": 1.0,
            "linear": 1 - done,
            "cosine": (1 + math.cos(math.pi * done)) / 2,
        }
        return self.s.learning_rate * warm_up(step, self.s.warm_up) * falling[self.s.decay]

    def _parts(self, wrapped: torch.nn.Module, step: int) -> Iterator[Tensor]:
        """The losses of the parts of a step's batch that fall to this process."""
        s, place = self.s, self.place
        self._names = {}
        for part in range(s.accumulate):
            group = ((step - 1) * s.accumulate + part) * place.count + place.rank
            numbers = range(group * s.batch_size, (group + 1) * s.batch_size)
            batch = self.data.batch(numbers).to(place.device)
            last = part == s.accumulate - 1
            with nullcontext() if last else place.apart(wrapped):
                loss = wrapped(batch)
                self._names |= dict.fromkeys(batch.names, loss.detach())
                yield loss / s.accumulate
        self.loop.counters["clips"] += s.accumulate * s.batch_size * place.count

    def _told_to_stop(self) -> bool:
        return bool(self.place.mean(torch.tensor(float(self.stopped), device=self.place.device)))

    def _validated(self, board: "_Board") -> None:
        if self.place.rank == 0 or self.place.shard:
            device = self.place.device
            with self.loop.average.in_place(), torch.no_grad(), self.learner.cast(device):
                metrics = self.validate(self.step)
            if metrics:
                board.add(self.step, **metrics)
        self.place.wait()

    def _log(self, board: "_Board", **values: float) -> None:
        mean = sum(self._losses) / max(1, len(self._losses))
        self._losses.clear()
        board.add(
            self.step,
            loss=mean,
            learning_rate=self.rate(self.step),
            gradient=self.loop.length,
            clips=self.loop.counters["clips"],
            **values,
        )

    def save(self) -> None:
        """A checkpoint by its step's number; only the last `keep` stay. Of shards it is whole, so
        that any number of processes can go on from it.
        """
        lead = self.place.rank == 0
        state = whole(self.loop.state(), keep=lead)
        if lead:
            folder = self.folder / "checkpoints"
            settings = json.dumps(asdict(self.s))
            save_state(folder / f"{self.step:07d}.pt", {**state, "settings": settings})
            for old in checkpoints(self.folder)[: -self.s.keep]:
                old.unlink()
        self.place.wait()

    def learned(self) -> dict[str, Any]:
        """The averaged weights, as "mean", and the "counters" that belong to them. Of shards as
        they were last saved, for which no other process is needed; empty, if they never were.
        """
        if not self.place.shard:
            return {"mean": self.loop.average.mean, "counters": self.loop.counters}
        saved = checkpoints(self.folder)
        return load_state(saved[-1], mapped=True) if saved else {}

    def resume(self, report: Report = silent) -> None:
        """Goes on from the folder's last checkpoint, if there is one."""
        found = checkpoints(self.folder)
        if not found:
            return
        state = load_state(found[-1], mapped=self.place.shard)
        self.loop.restore(state)
        if self.learner.adapters is not None:
            self.loop.average = self.learner.adapters.average = self.loop.average
        before, now = json.loads(state["settings"]), asdict(self.s)
        other = [f"{name} {before[name]} before" for name in now if now[name] != before.get(name)]
        if self.place.rank == 0:
            _forget_after(self.folder / "log.jsonl", self.step)
        announce(
            report,
            self.stage,
            f"goes on from step {self.step}" + (f"; {', '.join(other)}" if other else ""),
        )


def checkpoints(folder: Path) -> list[Path]:
    """Those of a training's folder, by their steps."""
    return sorted((Path(folder) / "checkpoints").glob("*.pt"))


def _forget_after(file: Path, step: int) -> None:
    """Lines of a log past a step that will be taken again."""
    if file.is_file():
        lines = file.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        part = file.with_suffix(".part")
        part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        part.replace(file)


class _Board:
    """`log.jsonl` and, where tensorboard is installed, its folder. None: neither."""

    def __init__(self, folder: Path | None):
        self._folder, self._writer = folder, None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return
            self._writer = SummaryWriter(str(folder / "tensorboard"))

    def __enter__(self) -> "_Board":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, step: int, **values: float) -> None:
        """A line."""
        if self._folder is None:
            return
        entry = {"step": step, **values}
        with (self._folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()
