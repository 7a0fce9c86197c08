"""Students of few steps: a guided teacher's way down, stretch by stretch, learned as one step each.

A student's timesteps cut the way from noise to the clip into stretches. A clip is noised to the
start of one; the teacher walks it to the stretch's end, guided, in a few steps of DPM-Solver++;
the student learns what leads there in a single one (progressive distillation, Salimans and Ho
2022, in one round; with the clip itself at the end of the last stretch).
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..models.unet import UNet
from ..sampling.presets import preset
from ..sampling.samplers import begun_at, schedule_for, with_sampler
from ..sampling.schedules import Stepper, make_scheduler
from .batch import Batch

_LEAST_SIGNAL = 0.04  # with less at its start, a student predicts velocity


def student_config(teacher: dict[str, Any], steps: int, kind: str) -> dict[str, Any]:
    """The scheduler config that a student of `steps` steps travels with: the teacher's noise
    schedule, in steps of first order down to no noise. A student with a condition begins where the
    presets do.

    Where the first timestep leaves hardly any of the clip, noise tells nothing of it: an error is
    divided by the signal. Such a student predicts velocity, the others noise as their teacher.
    """
    config = with_sampler(teacher, "dpmpp_2m")
    start = preset("fast", kind).start or config.get("lambda_min_clipped", -math.inf)
    config = {
        **begun_at(config, start),
        "solver_order": 1,
        "thresholding": False,
        "student_steps": steps,
    }
    schedule = schedule_for(config, "default", steps)
    velocity = schedule.stepper().signal(schedule.timesteps[0]) < _LEAST_SIGNAL
    return {**config, "prediction_type": "v_prediction" if velocity else "epsilon"}


def stretches(config: dict[str, Any]) -> list[tuple[int, int]]:
    """A student's timesteps, each with the one that a step from there ends on; -1: no noise."""
    starts = schedule_for(config, "default", config["student_steps"]).timesteps
    return list(zip(starts, [*starts[1:], -1]))


class Teacher:
    """Makes of a batch what a student is to predict.

    Args:
        network: the teacher's, frozen, on the device of the batches.
        config: its scheduler config.
        student: the student's.
        nothing: text states (1, tokens, width) that it is guided away from.
        cfg: its classifier-free guidance; up to 1 it is not guided.
        steps: how many it takes in a stretch.
    """

    def __init__(
        self,
        network: UNet,
        config: dict[str, Any],
        student: dict[str, Any],
        *,
        nothing: Tensor,
        cfg: float,
        steps: int,
    ):
        if config.get("prediction_type", "epsilon") != "epsilon":
            raise InputError("a student cannot teach; give --teacher the model that it came from")
        self._network = network.requires_grad_(False).eval()
        self._stepper = Stepper(make_scheduler(config), 0)
        self.velocity = student["prediction_type"] == "v_prediction"
        self._ends = dict(stretches(student))
        self._nothing, self._cfg, self._steps = nothing, cfg, steps
        alphas = make_scheduler(config).alphas_cumprod.float()
        self._alphas = torch.cat([alphas, alphas.new_ones(1)])  # at -1: no noise

    @torch.no_grad()
    def shown(self, batch: Batch) -> Batch:
        """The batch with the student's prediction in the place of the noise, every stretch weighted
        as the error of its velocity.
        """
        channels, starts = batch.noise.shape[1], batch.timesteps
        ends = torch.tensor([self._ends[int(start)] for start in starts], device=starts.device)
        x, beside = batch.sample[:, :channels], batch.sample[:, channels:]

        def predict(sample: Tensor, timesteps: Tensor) -> Tensor:
            return self._guided(replace(batch, sample=torch.cat([sample, beside], 1)), timesteps)

        clean = self._led_to(predict, x, starts, ends=ends)
        signal, sigma = self._levels(starts)
        target, weight = (x - signal * clean) / sigma, signal.flatten() ** -2
        if self.velocity:
            target, weight = (signal * x - clean) / sigma, torch.ones_like(weight)
        return replace(batch, noise=target, weight=weight)

    def _levels(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and sigma, (B, 1, 1, 1, 1) each."""
        alphas = self._alphas.to(timesteps.device)[timesteps].view(-1, 1, 1, 1, 1)
        return alphas.sqrt(), (1 - alphas).sqrt()

    def _guided(self, batch: Batch, timesteps: Tensor) -> Tensor:
        """The teacher's noise."""
        channels = batch.noise.shape[1]
        x, text, labels = batch.sample, batch.text, batch.labels
        if self._cfg <= 1:
            return self._network(x, timesteps, text, class_labels=labels)[:, :channels].float()
        away = self._nothing.to(text).expand_as(text)
        out = self._network(
            torch.cat([x, x]),
            torch.cat([timesteps, timesteps]),
            torch.cat([away, text]),
            class_labels=None if labels is None else torch.cat([labels, labels]),
        )
        without, wanted = out[:, :channels].float().chunk(2)
        return without + self._cfg * (wanted - without)

    def _led_to(
        self,
        predict: Callable[[Tensor, Tensor], Tensor],
        start: Tensor,
        starts: Tensor,
        *,
        ends: Tensor,
    ) -> Tensor:
        """The clean sample whose single step from `starts` ends where the teacher's steps do: it
        takes DPM-Solver++ of second order (Lu et al. 2022, algorithm 2), every clip on its own
        timesteps.
        """
        x, before, width = start, None, None
        for i in range(self._steps):
            now, after = (
                (starts + (ends - starts) * part / self._steps).round().long()
                for part in (i, i + 1)
            )
            (signal, sigma), (to_signal, to_sigma) = self._levels(now), self._levels(after)
            clean = (x - sigma * predict(x, now)) / signal
            aim = clean = self._stepper.thresholded(clean)
            step = (to_signal / to_sigma).log() - (signal / sigma).log()
            if before is not None:
                # The last step, to no noise, is infinitely wide: the prediction itself.
                aim = clean + (clean - before) * (step / (2 * width)).where(to_sigma > 0, 0)
            x = to_sigma / sigma * x + (to_signal - to_sigma * signal / sigma) * aim
            before, width = clean, step
        (signal, sigma), (to_signal, to_sigma) = self._levels(starts), self._levels(ends)
        return (x - to_sigma / sigma * start) / (to_signal - to_sigma * signal / sigma)
