"""The hybrid loss of models that predict their variance, too (Nichol and Dhariwal 2021, section
3.1).
"""

import math

import torch
from torch import Tensor

from .batch import Batch


def variance_loss(predicted: Tensor, batch: Batch, alphas: Tensor) -> Tensor:
    """The variational bound's term at the batch's timesteps, in bits, times T / 1000: what is
    trained is the variance alone, the predicted noise is held.

    Args:
        predicted: noise and variance (B, 2C, F, H, W); the second is between -1, the smallest
            possible variance, and 1, the largest, in logarithms.
        alphas: cumulated alphas (T,).
    """
    channels = batch.noise.shape[1]
    if predicted.shape[1] != 2 * channels:
        return predicted.sum() * 0
    noise, share = predicted[:, :channels].detach(), predicted[:, channels:] / 2 + 0.5
    noisy, t = batch.sample[:, :channels], batch.timesteps
    now, before = (_each(a[t], noisy) for a in (alphas, torch.cat([alphas.new_ones(1), alphas])))
    beta = 1 - now / before
    first = _each(t == 0, noisy)
    # The posterior's variance is 0 at the first timestep: that of the next stands for it.
    least = (beta * (1 - before) / (1 - now)).where(~first, 1 - alphas[0])
    least = least.clamp(min=1e-20).log()
    log_variance = share * beta.log() + (1 - share) * least
    clean = ((noisy - (1 - now).sqrt() * noise) / now.sqrt()).clamp(-1, 1)
    towards, stays = (
        before.sqrt() * beta / (1 - now),
        (now / before).sqrt() * (1 - before) / (1 - now),
    )
    made, true = (towards * x + stays * noisy for x in (clean, batch.clean))
    squared = (true - made).square() * torch.exp(-log_variance)
    kl = 0.5 * (log_variance - least - 1 + torch.exp(least - log_variance) + squared)
    # At the first timestep nothing is left but how likely the clean sample is.
    likelihood = 0.5 * (math.log(2 * math.pi) + log_variance + squared)
    bits = torch.where(first, likelihood, kl).mean((1, 2, 3, 4)) / math.log(2)
    return (bits * batch.weight).mean() * (len(alphas) / 1000)


def _each(values: Tensor, like: Tensor) -> Tensor:
    """(B,) for (B, C, F, H, W)."""
    return values.view(-1, *(1,) * (like.ndim - 1))
