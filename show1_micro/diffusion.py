"""The noise schedules of training, and the weights of its loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor

STEPS = 1000


def cosine_alphas() -> Tensor:
    """Cumulative alphas (1000,) of the pixel stages' schedule, squaredcos_cap_v2."""

    def level(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [
        min(1 - level((step + 1) / STEPS) / level(step / STEPS), 0.999) for step in range(STEPS)
    ]
    return torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), 0).float()


def linear_alphas() -> Tensor:
    """Cumulative alphas (1000,) of the latent stage's schedule, scaled linear."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, STEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def noised(clean: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """The forward process: clean (B, ...) at cumulative alpha (B,)."""
    alpha = alpha.view(-1, *(1,) * (clean.dim() - 1))
    return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise


def loss_weight(alpha: Tensor, floor: float = 0.01) -> Tensor:
    """Weight of the squared error of the noise: that of v-prediction (1/alpha), capped at high
    noise.

    Unweighted, the noise error at high noise hardly depends on the picture, and what the caption
    says is decided there. The mean over even timesteps of the cosine schedule is about 1.
    """
    return 0.1 / (alpha + floor)
