"""The one training loop: a clipped step down the gradient, the learning rate's course, a running
average of what learns, a state to go on from. Its owner draws batches and says what a loss is.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..errors import CheckpointError, DivergedError
from .shards import alike, own, whole

Parameters = dict[str, nn.Parameter]
# Number of the step, from 1 -> a scalar, or those of the parts of its batch one after another.
Loss = Callable[[int], Tensor | Iterable[Tensor]]
Rate = Callable[[int, float], float]  # number of the step, share of the run behind it, 0 to 1
Reported = Callable[[float, float], None]  # loss of the step, share of the run behind its start
Mean = Callable[[Tensor], Tensor]  # values of one process -> their means over all processes


def warm_up(step: int, steps: int) -> float:
    """Factor of the learning rate at a step, from 1: it rises evenly until it is 1 at `steps`."""
    return min(1.0, step / steps)


def annealed(part: float) -> float:
    """Factor of the learning rate with a share (0 to 1) of the run done: it falls evenly to 0."""
    return 1 - part


def alone(values: Tensor) -> Tensor:
    """The means over all processes where there is one."""
    return values


def slope(optimiser: torch.optim.Optimizer, loss: Tensor | Iterable[Tensor]) -> Tensor:
    """Gradients of a loss, or of the sum of several, each of which is let go before the next is
    made; returns that sum.
    """
    optimiser.zero_grad(set_to_none=True)
    total = None
    for part in [loss] if isinstance(loss, Tensor) else loss:
        part.backward()
        total = part.detach() if total is None else total + part.detach()
    return total


def descend(
    optimiser: torch.optim.Optimizer,
    loss: Tensor | Iterable[Tensor],
    rate: float,
    clip: float,
    mean: Mean = alone,
) -> Tensor | None:
    """One step at a learning rate, with each group's gradient cut to the length `clip`: the loss
    and the lengths. None, and nothing changed, if the loss or its slope is not finite, in any of
    several processes.
    """
    steepness = [slope(optimiser, loss)]
    for group in optimiser.param_groups:
        group["lr"] = rate
        steepness.append(whole(nn.utils.clip_grad_norm_(group["params"], clip)).to(steepness[0]))
    found = mean(torch.stack(steepness))
    if not bool(found.isfinite().all()):
        return None
    optimiser.step()
    return found


class WeightAverage:
    """Running average of what learns: smoother than the weights of any one step.

    Args:
        parameters: what is averaged, by name; `mean` has a copy of each, of the same shape.
        most: share of the average that a late step keeps, 0 to 1.
        delay: early steps keep less, step / (step + delay), so that the start is soon forgotten.
        ahead: steps that count as done before the first.
    """

    def __init__(self, parameters: Parameters, most: float, delay: int, *, ahead: int = 0):
        self.parameters, self.most, self.delay, self.ahead = parameters, most, delay, ahead
        self.restart()

    def restart(self) -> None:
        """Begin from the parameters as they are."""
        self.mean = {name: value.detach().clone() for name, value in self.parameters.items()}

    def update(self, step: int) -> None:
        """To be called after each step, with its number from 1."""
        done = step + self.ahead
        keep = min(self.most, done / (done + self.delay))
        means = [own(self.mean[name]) for name in self.parameters]
        values = [own(value.detach()) for value in self.parameters.values()]
        torch._foreach_lerp_(means, values, 1 - keep)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The parameters have their averages for values, for as long as the context lasts."""
        current = {name: value.detach().clone() for name, value in self.parameters.items()}
        _fill(self.parameters, self.mean)
        try:
            yield
        finally:
            _fill(self.parameters, current)


@dataclass(frozen=True)
class Budget:
    """How long a run goes on: until its steps or its minutes of wall clock are over, whichever is
    sooner. None: no such end.
    """

    steps: int | None = None
    minutes: float | None = None

    def part(self, steps: int, seconds: float) -> float:
        """Share of the run that is behind it; 1 or more: it is over."""
        parts = [0.0]
        if self.steps is not None:
            parts.append(steps / self.steps if self.steps > 0 else 1.0)
        if self.minutes is not None:
            parts.append(seconds / (self.minutes * 60) if self.minutes > 0 else 1.0)
        return max(parts)


class TrainingLoop:
    """Steps, counts and reports; what it holds is all that a later run needs to go on.

    Args:
        name: of the training, for errors.
        optimiser: over the parameters that `average` names.
        source: random numbers that the owner draws batches and noise from.
        clip: longest gradient.
        counters: what the owner counts beside "step" and "seconds".
        mean: of losses over the processes that train together.
    """

    def __init__(
        self,
        name: str,
        optimiser: torch.optim.Optimizer,
        average: WeightAverage,
        *,
        source: Generator,
        clip: float = 1.0,
        counters: dict[str, float] | None = None,
        mean: Mean = alone,
    ):
        self.name, self.optimiser, self.average = name, optimiser, average
        self.source, self.clip, self.mean, self.length = source, clip, mean, 0.0
        self.counters: dict[str, float] = {"step": 0, "seconds": 0.0, **(counters or {})}

    def run(self, loss: Loss, rate: Rate, budget: Budget, report: Reported) -> None:
        """Steps until the budget is spent; `report` is called after every one, and may raise to
        end the run.

        Raises:
            DivergedError: a loss or its slope is not finite. That step has changed nothing.
        """
        start, first = time.monotonic(), self.counters["step"]
        while (part := budget.part(self.counters["step"] - first, time.monotonic() - start)) < 1:
            began = time.monotonic()
            value = self.step(loss, rate, part)
            self.counters["seconds"] += time.monotonic() - began
            report(value, part)

    def step(self, loss: Loss, rate: Rate, part: float = 0.0) -> float:
        """One step, and its loss; see `run`."""
        step = int(self.counters["step"]) + 1
        found = loss(step)
        taken = descend(self.optimiser, found, rate(step, part), clip=self.clip, mean=self.mean)
        if taken is None:
            raise DivergedError(self.name, step)
        self.average.update(step)
        self.counters["step"] = step
        self.length = float(taken[1])
        return float(taken[0])

    def state(self) -> dict[str, Any]:
        """Weights, their average, the optimiser's moments by the names of the parameters (its own
        numbering changes with their order), random numbers and counters; for `save_state`.
        """
        named = self.average.parameters
        moments = self.optimiser.state
        return {
            "weights": {name: value.detach() for name, value in named.items()},
            "mean": self.average.mean,
            "optimiser": {
                name: moments[value] for name, value in named.items() if value in moments
            },
            "generator": self.source.get_state(),
            "counters": self.counters,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`: the next steps are those that would have followed it.

        Raises:
            CheckpointError: the state is of a training of other parameters.
        """
        named = self.average.parameters
        if not named.keys() == state["weights"].keys() == state["mean"].keys():
            raise CheckpointError(
                f"{self.name}: the saved state is of a network with other layers; give another "
                "folder, or remove the state to begin anew"
            )
        _fill(named, state["weights"])
        self.average.mean = {name: alike(state["mean"][name], named[name]) for name in named}
        self.counters.update(state["counters"])
        for name, found in state["optimiser"].items():
            value = named[name]
            self.optimiser.state[value] = {  # beside the moments: the count of steps
                key: alike(moment, value) if moment.shape == value.shape else moment
                for key, moment in found.items()
            }
        self.source.set_state(state["generator"])


def save_state(file: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors, numbers and texts. The file has the earlier state, whole, until it
    has the new one; folders are made.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    with part.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(file)


def load_state(file: Path, mapped: bool = False) -> dict[str, Any]:
    """A state that `save_state` wrote, on the CPU; nothing in the file is executed. `mapped`: its
    tensors stay in the file until they are read.
    """
    return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)


def _fill(parameters: Parameters, values: dict[str, Tensor]) -> None:
    """Copies values into parameters, in place; both have the same names."""
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(alike(value, parameters[name]))
