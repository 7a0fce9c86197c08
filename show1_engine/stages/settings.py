"""What the settings of all stages share, and how they are checked and turned into guidance."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import InputError
from ..models.bundle import Show1Model
from ..models.kinds import LATENT_EXPERT
from ..sampling.guidance import Guidance
from ..sampling.schedules import as_noise
from .prompts import Prompt, PromptSchedule, at, share


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """How a stage samples. Every stage sets the released inference script's defaults.

    Every line is also the help of the command line's option.

    steps: sampling steps, 1 to 1000.
    cfg: classifier-free guidance scale, 0 to 50; up to 1 there is no guidance and half the time.
    seed: of all noise; the same seed, inputs and device give the same frames.
    sampler: default follows the checkpoint's scheduler config; dpmpp_2m (DPM-Solver++) needs few
        steps, ddpm many, ddim adds no noise on the way, heun asks the model twice a step.
    preset: reference runs the steps as they are; balanced is about twice, fast four times as fast:
        fewer steps, by DPM-Solver++, most with reuse 2, fast guided in the first part only; where
        frames are given they begin at less noise. A student has its own steps.
    guidance_start: share of the steps, 0 to 1, after which guidance begins.
    guidance_end: share of the steps, 0 to 1, after which guidance ends.
    reuse: every how many-th step, 1 to 3, computes the whole network; those between its top level
        alone, on what the rest gave before: 2 is about 1.5 times as fast, 3 about 2 times.
    """

    steps: int
    cfg: float
    seed: int = 0
    sampler: str = "default"
    preset: str = "reference"
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    reuse: int = 1


AnySettings = TypeVar("AnySettings", bound=StageSettings)


def own(model: Show1Model, s: AnySettings) -> AnySettings:
    """The settings as the model can be sampled: a student has steps of its own, and guidance, kept
    features and other samplers mean nothing to it.
    """
    if not model.student_steps:
        return s
    return replace(
        s,
        steps=model.student_steps,
        cfg=1.0,
        sampler="default",
        preset="reference",
        guidance_start=0.0,
        guidance_end=1.0,
        reuse=1,
    )


def samples_per_video(cfg: float) -> int:
    """How many samples one video costs per step: classifier-free guidance runs two."""
    return 2 if cfg > 1 else 1


def one_prompt(stage: str, positive: Prompt, negative: Prompt) -> None:
    """InputError unless both are the states of one prompt, or a schedule of such: a batch would be
    paired with windows that it does not belong to.
    """
    for name, states in (("positive", positive), ("negative", negative)):
        if isinstance(states, PromptSchedule):
            continue
        if not isinstance(states, Tensor) or len(states) != 1:
            count = len(states) if isinstance(states, Tensor) else type(states).__name__
            raise InputError(
                f"{stage}: '{name}' is a batch of {count} prompts; it reads one, so encode one "
                "text alone"
            )


def check_noise_level(stage: str, name: str, level: int) -> None:
    """InputError unless `level` is a timestep of the noising schedule."""
    if not 0 <= level <= 999:
        raise InputError(
            f"{stage}: '{name}' is {level}; a noise level is a timestep, 0 (clean) to 999 (pure "
            "noise)"
        )


def guidance(
    stage: str,
    model: Show1Model,
    positive: Tensor,
    negative: Tensor,
    cfg: float,
    *,
    device: torch.device,
    noise_level: Tensor | None = None,
    at_once: int | None = None,
    guided_timesteps: frozenset[int] | None = None,
    reuse: int = 1,
) -> Guidance:
    """The model as a guided noise predictor on the device; InputError if it reads other text."""
    texts = [
        model.text(stage, name, states, device)
        for name, states in (("positive", positive), ("negative", negative))
    ]
    channels = 4 if model.kind == LATENT_EXPERT else 3
    return Guidance(
        model.network,
        *texts,
        cfg,
        dtype=model.unet.dtype,
        channels=channels,
        noise_level=noise_level,
        at_once=at_once,
        guided_timesteps=guided_timesteps,
        reuse=reuse,
        as_noise=as_noise(model.scheduler_config),
    )


def prompted(
    stage: str,
    model: Show1Model,
    positive: Prompt,
    negative: Prompt,
    cfg: float,
    *,
    frames: int,
    **options: Any,
) -> Callable[[float], Guidance]:
    """`guidance` at every position, in frames, of a clip of so many, by the prompts there."""

    @cache
    def of(moment: float) -> Guidance:
        texts = at(positive, moment), at(negative, moment)
        return guidance(stage, model, *texts, cfg=cfg, **options)

    constant = not any(isinstance(text, PromptSchedule) for text in (positive, negative))
    return lambda position: of(0.0 if constant else share(position, frames))
