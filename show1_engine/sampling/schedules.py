"""The checkpoints' own schedules, through diffusers.

Steps are taken in float32 with frames folded into the batch, so that dynamic thresholding is per
frame, as in the original. A scheduler object keeps state, so each run makes its own.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Generator, Tensor

from ..errors import CheckpointError, InputError, printable

_CLASSES = (
    "DDPMScheduler",
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
)
AsNoise = Callable[[Tensor, Tensor, int], Tensor]
_LEAST_SIGNAL = 1e-12  # of a cumulated alpha; a cosine schedule of 1000 steps ends at 2e-9


def make_scheduler(config: dict[str, Any]) -> Any:
    """A diffusers scheduler from a checkpoint's scheduler_config.json, with the numbers of its
    time.

    Newer diffusers end DPM-Solver at sigma 0 unless told otherwise; configs of 2023 mean the last
    timestep. It is stepped on noise, whatever the model predicts (`as_noise`).
    """
    import diffusers

    name = config.get("_class_name")
    if name not in _CLASSES:
        raise CheckpointError(
            f"scheduler '{name}' is not supported; expected one of {', '.join(_CLASSES)}"
        )
    cls = getattr(diffusers, name)
    known = inspect.signature(cls.__init__).parameters
    settings = {k: v for k, v in config.items() if k in known} | {"prediction_type": "epsilon"}
    if "final_sigmas_type" in known:
        settings.setdefault("final_sigmas_type", "sigma_min")
    try:
        scheduler = cls(**settings)
    except (ValueError, TypeError, NotImplementedError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(
            f"the scheduler config cannot be used by {name}: {printable(error, 300)}. Use the "
            "scheduler_config.json that belongs to the model."
        ) from None
    if not bool((scheduler.alphas_cumprod > _LEAST_SIGNAL).all()):
        raise CheckpointError(
            "the scheduler config's betas (beta_start, beta_end, trained_betas) leave no signal at "
            "all in the noisiest samples, or are no numbers. Use the scheduler_config.json that "
            "belongs to the model."
        )
    return scheduler


def as_noise(config: dict[str, Any]) -> AsNoise | None:
    """How a model's prediction is turned into noise: (prediction, sample, timestep) -> noise, all
    (B, C, F, H, W). None where it is noise already.

    A model of velocity predicts signal * noise - sigma * clean (Salimans and Ho 2022, section 4).
    """
    kind = config.get("prediction_type", "epsilon")
    if kind == "epsilon":
        return None
    alphas = make_scheduler(config).alphas_cumprod

    def noise(prediction: Tensor, sample: Tensor, timestep: int) -> Tensor:
        alpha = float(alphas[timestep])
        signal, sigma = alpha**0.5, (1 - alpha) ** 0.5
        if kind == "sample":
            return (sample - signal * prediction) / sigma
        return signal * prediction + sigma * sample

    return noise


class Schedule:
    """One run's timesteps and the scheduler steps along them.

    Args:
        config: scheduler_config.json of the checkpoint.
        steps: number of timesteps, 1 to the schedule's length (1000). Where that many would repeat
            a timestep, or leave the table, which no sampler survives, there are so many fewer as do
            not: `dropped`.
        timesteps: explicit descending timesteps instead of `steps` (DDPM-type schedulers).
        strength: start that far up: only the last int(steps * strength) timesteps are used.
        sampler: name of the sampler that walks down (sampling.samplers).
    """

    def __init__(
        self,
        config: dict[str, Any],
        steps: int,
        timesteps: list[int] | None = None,
        strength: float = 1.0,
        sampler: str = "default",
    ):
        self._config, self._steps, self._custom, self.sampler = config, steps, timesteps, sampler
        limit = config.get("num_train_timesteps", 1000)
        if timesteps is None and not 1 <= steps <= limit:
            raise InputError(
                f"steps is {steps}; the model's schedule has {limit} timesteps, so use 1 to {limit}"
            )
        self._first, self.timesteps = self._used(strength)
        while self._custom is None and self._steps > 1 and not self._sound(limit):
            self._steps -= 1
            self._first, self.timesteps = self._used(strength)
        self.dropped = steps - self._steps

    def _used(self, strength: float) -> tuple[int, list[int]]:
        """The first of the table's timesteps that is used, and all of them from there."""
        table = self.scheduler().timesteps
        used = len(table) if strength >= 1 else int(len(table) * strength)
        return len(table) - used, [int(t) for t in table[len(table) - used :]]

    def _sound(self, limit: int) -> bool:
        """Whether no noise level is repeated and every timestep is one of the model's."""
        levels = getattr(self.scheduler(), "sigmas", None)
        if levels is None:
            levels = self.timesteps
        else:
            levels = levels[self._first : self._first + len(self.timesteps)].tolist()
        repeated = any(one == other for one, other in zip(levels, levels[1:]))
        return not repeated and all(0 <= timestep < limit for timestep in self.timesteps)

    def scheduler(self) -> Any:
        """A fresh diffusers scheduler at the start of this schedule."""
        scheduler = make_scheduler(self._config)
        if self._custom is None:
            scheduler.set_timesteps(self._steps)
        else:
            scheduler.set_timesteps(timesteps=self._custom)
        return scheduler

    def stepper(self) -> "Stepper":
        return Stepper(self.scheduler(), self._first)


class Stepper:
    """One scheduler on its way along the timesteps."""

    def __init__(self, scheduler: Any, first: int):
        self._scheduler = scheduler
        if first and hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        self._learned_variance = type(scheduler).__name__ == "DDPMScheduler" and str(
            scheduler.config.variance_type
        ).startswith("learned")

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: int) -> Tensor:
        return self._scheduler.add_noise(clean, noise, torch.tensor([timestep]))

    def step(
        self, prediction: Tensor, timestep: int, sample: Tensor, generator: Generator
    ) -> Tensor:
        """The next sample (B, C, F, H, W), or (N, C, H, W).

        `prediction` holds the noise and, for pixel models, the variance: twice as many channels.
        """
        if not self._learned_variance:
            prediction = prediction[:, : sample.shape[1]]
        # A tensor, not a number: diffusers below 0.28 compares it with its table by tensor methods.
        after = self._scheduler.step(
            _folded(prediction), torch.tensor(timestep), _folded(sample), generator=generator
        )
        return _unfolded(after.prev_sample, sample)

    def signal(self, timestep: int) -> float:
        """What is left of the clean sample at a timestep: sqrt(alpha)."""
        return float(self._scheduler.alphas_cumprod[timestep]) ** 0.5

    def noise_to_signal(self, timestep: int) -> float:
        """Sigma: how much noise there is for each part of the clean sample."""
        alpha = float(self._scheduler.alphas_cumprod[timestep])
        return ((1 - alpha) / alpha) ** 0.5

    def thresholded(self, clean: Tensor) -> Tensor:
        """A predicted clean sample as the scheduler's config bounds it: dynamically for each frame
        (Saharia et al. 2022, section 2.3), clipped, or not at all.
        """
        config = self._scheduler.config
        if config.get("thresholding"):
            frames = _folded(clean)
            sizes = torch.quantile(
                frames.flatten(1).abs().float(), config.dynamic_thresholding_ratio, dim=1
            )
            bounds = sizes.clamp(1, config.sample_max_value)[:, None, None, None]
            return _unfolded(torch.minimum(torch.maximum(frames, -bounds), bounds) / bounds, clean)
        if config.get("clip_sample"):
            return clean.clamp(
                -config.get("clip_sample_range", 1.0), config.get("clip_sample_range", 1.0)
            )
        return clean

    def predict_clean(self, prediction: Tensor, timestep: int, sample: Tensor) -> Tensor:
        """The clean sample a noise prediction implies, for previews."""
        alpha = float(self._scheduler.alphas_cumprod[timestep])
        return (sample - (1 - alpha) ** 0.5 * prediction[:, : sample.shape[1]]) / max(
            alpha, 1e-4
        ) ** 0.5


def _folded(x: Tensor) -> Tensor:
    return x if x.ndim == 4 else rearrange(x, "b c f h w -> (b f) c h w")


def _unfolded(x: Tensor, like: Tensor) -> Tensor:
    return x if like.ndim == 4 else rearrange(x, "(b f) c h w -> b c f h w", f=like.shape[2])
