"""Noise levels: which timesteps a training step is taken at, and what its loss counts there."""

import math

import torch
from torch import Generator, Tensor

_DECISIVE = 0.8  # share of steps at the noise levels where motion is decided
# Super-resolution is shown the clip's own low resolution, noised at any of these levels (sampled at
# 150 and 250).
_LOW_RESOLUTION = 300


def draw_timesteps(
    alphas: Tensor, count: int, timesteps: str, *, size: tuple[int, int], source: Generator
) -> Tensor:
    """Timesteps (count,) of as many clips of a (height, width), from 0 to below len(alphas).

    `alphas` (T,) are the cumulated alphas of those that may be drawn, on the CPU; `timesteps` is
    one of settings.TIMESTEPS.
    """
    drawn = torch.randint(len(alphas), (count,), generator=source)
    if timesteps == "even":
        return drawn
    where = torch.rand(count, generator=source)
    decisive = decisive_timesteps(alphas, *size, where)
    return torch.where(torch.rand(count, generator=source) < _DECISIVE, decisive, drawn)


def draw_low_resolution_levels(count: int, source: Generator) -> Tensor:
    """Noise levels (count,) of the low resolution that super-resolution is shown."""
    return torch.randint(_LOW_RESOLUTION, (count,), generator=source)


def loss_weights(alphas: Tensor, timesteps: str, size: tuple[int, int]) -> Tensor:
    """What the loss of each clip of a (height, width) counts at its cumulated alpha, (B,) each.
    Unweighted, the highest noise, where motion is decided, would hardly count.
    """
    if timesteps == "even":
        return torch.ones_like(alphas)
    height, width = size
    return 0.1 / (alphas * (height * width / 16**2) + 0.01)


def decisive_timesteps(alphas: Tensor, height: int, width: int, where: Tensor) -> Tensor:
    """Timesteps where the motion of a clip of that size is decided, from the least noisy (`where`
    0) to the most (1).

    That is where the signal of a whole frame rises out of its noise: on show1-micro at signal
    levels of 0.3 down to 0.04 for 16x16 pixels, evenly in their logarithm; more pixels show the
    same at lower levels.
    """
    high, low = (level * 16 / math.sqrt(height * width) for level in (0.3, 0.04))
    wanted = (
        min(high, 0.9) * (low / min(high, 0.9)) ** where
        if low < 0.9
        else torch.full_like(where, 0.9)
    )
    steps = torch.searchsorted(-alphas.sqrt().contiguous(), -wanted.contiguous())
    return steps.clamp(max=len(alphas) - 1)
