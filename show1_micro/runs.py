"""A training in a folder of its own: state.pt, log.jsonl, sheets. What every micro training shares;
the steps themselves are the engine's one loop.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from show1_engine.training.loop import (
    Budget,
    TrainingLoop,
    WeightAverage,
    load_state,
    save_state,
)

log = logging.getLogger(__name__)
WARM_UP = 100
_KEEP, _DELAY = 0.995, 9  # of the running average
_CLIP_NORM = 1.0
_LOG_EVERY = 50


def unheard(text: str) -> None:
    """A show() nobody looks at."""


def half_precision() -> torch.autocast:
    """bfloat16 where the CPU has AMX: a third of the time, and noise far below the data's own.
    With AVX-512 alone it takes longer than float32, and where it is imitated forty times as long.
    """
    able = getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16", False)
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=able)


class Run:
    """One network's training; a kind of training says what `loss`, `rate` and `report` are.

    Args:
        name: in lines of progress and in errors.
        folder: where everything is written; what lies there is gone on from by `resume`.
        ahead: steps that the running average counts as done before the first.
        counters: what is counted beside "step" and "seconds".
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        network: nn.Module,
        *,
        generator: Generator,
        ahead: int = 0,
        counters: dict[str, float] | None = None,
    ):
        self.name, self.folder, self.generator = name, Path(folder), generator
        _contiguous_norms(network)
        parameters = dict(network.named_parameters())
        self.loop = TrainingLoop(
            name,
            torch.optim.AdamW(parameters.values(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0),
            WeightAverage(parameters, _KEEP, _DELAY, ahead=ahead),
            source=generator,
            clip=_CLIP_NORM,
            counters=counters,
        )

    def loss(self, step: int) -> Tensor:
        """The loss of a batch drawn with `generator`; `step` counts from 1."""
        raise NotImplementedError

    def rate(self, step: int, part: float) -> float:
        """The learning rate of a step whose `loss` was just taken; `part` of the run, 0 to 1, is
        annealed away.
        """
        raise NotImplementedError

    def report(self) -> None:
        """Judge what is learned; the state was just saved."""
        raise NotImplementedError

    def extra(self) -> dict[str, Any]:
        """What the state holds beside the loop's."""
        return {}

    @property
    def counters(self) -> dict[str, float]:
        return self.loop.counters

    @property
    def mean(self) -> dict[str, Tensor]:
        """The running average of the weights, by name."""
        return self.loop.average.mean

    def mean_weights(self) -> AbstractContextManager[None]:
        """The network with the mean weights, for as long as the context lasts."""
        return self.loop.average.in_place()

    def train(
        self,
        minutes: float,
        anneal: bool = False,
        steps: int | None = None,
        every: float = 900.0,
        show: Callable[[str], None] = unheard,
    ) -> None:
        """Train for some minutes of wall clock, or for `steps` steps if those are done sooner.

        `anneal` lets the learning rate fall to zero over the run. Every `every` seconds the state
        is saved and `report` called; `show` gets a line of progress after each step.
        """
        start = saved = time.monotonic()

        def stepped(loss: float, part: float) -> None:
            nonlocal saved
            left = (1 / part - 1) * (time.monotonic() - start) / 60 if part else minutes
            step = self.counters["step"]
            show(f"{self.name}: {part:4.0%}, step {step}, loss {loss:.4f}, {left:.0f} min left")
            if step % _LOG_EVERY == 0:
                self.log(loss=round(loss, 4))
            if time.monotonic() - saved > every:
                self.save()
                self.report()
                saved = time.monotonic()

        try:
            budget = Budget(steps=steps, minutes=minutes)
            rate = self.rate if anneal else self._even_rate
            self.loop.run(self.loss, rate, budget, report=stepped)
        finally:
            self.save()  # also when interrupted or told to end
        self.report()

    def _even_rate(self, step: int, part: float) -> float:
        return self.rate(step, part=0.0)

    def save(self) -> None:
        """Write `state.pt`; a run that starts in this folder continues from it."""
        save_state(self.folder / "state.pt", {**self.loop.state(), **self.extra()})

    def resume(self) -> bool:
        """Go on from the folder's state; False if there is none."""
        if not (self.folder / "state.pt").exists():
            return False
        state = load_state(self.folder / "state.pt")
        self.loop.restore(_as_written_now(state, list(self.mean)))
        return True

    def log(self, **values: object) -> None:
        """Add a line to `log.jsonl`: the counters, and `values`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        entry = {**self.counters, "seconds": round(self.counters["seconds"]), **values}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        log.info("%s %s", self.name, entry)


def _contiguous_norms(network: nn.Module) -> None:
    """bfloat16 convolutions hand on pictures with the channels last, on which GroupNorm's backward
    pass is slow: a step with whole pictures takes a third less so.
    """
    for layer in network.modules():
        if isinstance(layer, nn.GroupNorm):
            layer.register_forward_pre_hook(lambda _, given: (given[0].contiguous(),))


def _as_written_now(state: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Before the loops were one, weights were called after their network, the VAE's moments were
    numbered in the order of its parameters, and temporal convolutions had five axes.
    """
    state = dict(state)
    for network in ("unet", "vae"):
        if network in state:
            state["weights"] = state.pop(network)
    if "param_groups" in state["optimiser"]:
        numbered = state["optimiser"]["state"]
        state["optimiser"] = {names[index]: moments for index, moments in numbered.items()}
    state["weights"], state["mean"] = _flat(state["weights"]), _flat(state["mean"])
    state["optimiser"] = {name: _flat(moments) for name, moments in state["optimiser"].items()}
    return state


def _flat(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """(out, in, frames, 1, 1) as (out, in, frames, 1)."""
    return {name: value[..., 0] if value.ndim == 5 else value for name, value in tensors.items()}
