"""Samplers: how a sample is walked down a schedule. Each is one function that owns its steps.

A sampler asks the model as often as it likes. The released ones are diffusers' schedulers, which
are the reference; CONTRIBUTING.md says how to add one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from ..errors import one_of
from ..progress import Preview
from .schedules import Schedule

# As published: a cosine schedule's first timesteps are too noisy to predict a clean sample from.
_LEAST_LOG_SNR = -5.1
_LAST_PART = 1 / 3  # best of those tried on show1-micro, 4 to 16 steps

Predict = Callable[[Tensor, int], Tensor]  # (sample, timestep) -> noise and variance
# (steps done, the sample now, its preview), after every step -> the sample to go on from
Reported = Callable[[int, Tensor, Preview], Tensor]
Run = Callable[[Predict, Tensor, Schedule, list[Generator], Reported], Tensor]


def scheduled(
    predict: Predict, start: Tensor, schedule: Schedule, sources: list[Generator], report: Reported
) -> Tensor:
    """One evaluation a step, stepped by the schedule's diffusers scheduler; each window by
    its own.
    """
    steppers = [schedule.stepper() for _ in sources]
    sample = start
    for i, timestep in enumerate(schedule.timesteps):
        prediction = predict(sample, timestep)
        preview = partial(steppers[0].predict_clean, prediction, timestep, sample)
        rows = zip(steppers, prediction.chunk(len(sources)), sample.chunk(len(sources)), sources)
        sample = torch.cat(
            [stepper.step(p, timestep, x, generator=source) for stepper, p, x, source in rows]
        )
        sample = report(i + 1, sample, preview)
    return sample


def heun(
    predict: Predict,
    start: Tensor,
    schedule: Schedule,
    sources: list[Generator],
    report: Reported,
) -> Tensor:
    """Heun's method on the probability-flow ODE, two evaluations a step.

    The ODE is taken in x / signal over the logarithm of the signal-to-noise ratio, where its linear
    part is solved exactly (Lu et al. 2022, equation 3.7): between two timesteps the clean sample is
    a straight line through its predictions at both ends, the second of them at where the first
    alone would lead (Karras et al. 2022, algorithm 1, in this variable). The last step, to no
    noise, is the prediction itself. Clean samples are clipped or thresholded as the scheduler's
    config says. No noise is drawn on the way. Its timesteps are those of `even_log_snr`.
    """
    stepper, timesteps = schedule.stepper(), schedule.timesteps
    sample = start

    def clean_at(x: Tensor, timestep: int) -> Tensor:
        return stepper.thresholded(stepper.predict_clean(predict(x, timestep), timestep, x))

    for i, timestep in enumerate(timesteps):
        clean = clean_at(sample, timestep)
        if i + 1 == len(timesteps):
            sample = clean
        else:
            after = timesteps[i + 1]
            left = stepper.noise_to_signal(after) / stepper.noise_to_signal(timestep)
            scaled = left * sample / stepper.signal(timestep) + (1 - left) * clean
            change = clean_at(scaled * stepper.signal(after), after) - clean
            scaled = scaled + (1 + (1 - left) / math.log(left)) * change
            sample = scaled * stepper.signal(after)
        sample = report(i + 1, sample, lambda clean=clean: clean)
    return sample


def even_log_snr(schedule: Schedule) -> list[int]:
    """As many timesteps as the schedule has, evenly over the logarithm of signal to noise.

    There the steps of a single-step solver are equally hard (Lu et al. 2022, section 3.4). The
    first stays, unless nothing can be predicted from so much noise; the last is a third of an even
    step above the end. So many that they would not fit are the scheduler's.
    """
    stepper, count = schedule.stepper(), len(schedule.timesteps)
    noise = torch.tensor([stepper.noise_to_signal(t) for t in range(schedule.timesteps[0] + 1)])
    levels = -noise.log()
    first = max(float(levels[-1]), _LEAST_LOG_SNR)
    last = float(levels[int(schedule.timesteps[0] * _LAST_PART / count)])
    taken: list[int] = []
    for level in torch.linspace(first, last, count):
        nearest = int((levels - level).abs().argmin())
        taken.append(min([nearest, *(t - 1 for t in taken[-1:])]))  # none of them twice
    return taken if taken[-1] >= 0 else schedule.timesteps


@dataclass(frozen=True)
class Sampler:
    """A way down, what it changes of the checkpoint's scheduler config, and the timesteps it takes
    instead of the scheduler's.
    """

    run: Run = scheduled
    changes: dict[str, Any] = field(default_factory=dict)
    timesteps: Callable[[Schedule], list[int]] | None = None


SAMPLERS: dict[str, Sampler] = {
    "default": Sampler(),
    "dpmpp_2m": Sampler(
        changes={
            "_class_name": "DPMSolverMultistepScheduler",
            "algorithm_type": "dpmsolver++",
            "solver_order": 2,
            "solver_type": "midpoint",
            "lower_order_final": True,
            "timestep_spacing": "linspace",
        }
    ),
    "ddpm": Sampler(changes={"_class_name": "DDPMScheduler", "timestep_spacing": "leading"}),
    "ddim": Sampler(
        changes={
            "_class_name": "DDIMScheduler",
            "timestep_spacing": "leading",
            "set_alpha_to_one": False,
        }
    ),
    "heun": Sampler(run=heun, timesteps=even_log_snr),
}


def sampler_of(name: str) -> Sampler:
    """The sampler of that name; InputError if there is none."""
    one_of("sampler", name, SAMPLERS)
    return SAMPLERS[name]


def schedule_for(
    config: dict[str, Any],
    name: str,
    steps: int,
    *,
    strength: float = 1.0,
    start: float | None = None,
) -> Schedule:
    """The schedule of a checkpoint's scheduler config, as the sampler of that name walks it.
    `start`: see `begun_at`.
    """
    changed = with_sampler(config, name)
    if start is not None:
        changed = begun_at(changed, start)
    schedule = Schedule(changed, steps, strength=strength, sampler=name)
    own = sampler_of(name).timesteps
    if own and schedule.timesteps:
        schedule.timesteps = own(schedule)
    return schedule


def begun_at(config: dict[str, Any], start: float) -> dict[str, Any]:
    """A config of DPM-Solver that begins where the logarithm of signal to noise is `start`, and
    ends on no noise at all.
    """
    return {**config, "lambda_min_clipped": start, "final_sigmas_type": "zero"}


def with_sampler(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The scheduler config with another sampler on the same noise schedule; "default" keeps the
    checkpoint's.
    """
    changed = {**config, **sampler_of(name).changes}
    if name == "dpmpp_2m" and config.get("beta_schedule") == "squaredcos_cap_v2":
        changed.setdefault("lambda_min_clipped", _LEAST_LOG_SNR)
    if name == "ddpm" and "variance_type" not in config:
        changed["variance_type"] = "fixed_small"
    return changed
