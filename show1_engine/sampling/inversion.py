"""From a clip back to the noise it could have been sampled from (DDIM inversion), on the model's
own schedule.
"""

import torch
from torch import Tensor

from ..errors import InputError
from ..progress import Report, silent
from .samplers import Predict
from .schedules import Schedule


def invert(predict: Predict, clean: Tensor, schedule: Schedule, report: Report = silent) -> Tensor:
    """Walks `clean` (N, C, F, H, W) up the schedule's timesteps without chance, to the first one
    that sampling uses.

    Each step keeps the noise that the model sees at the step's lower end (Song et al. 2021, section
    4.3). `predict`
    should be unguided: guidance does not invert.
    """
    alphas = schedule.scheduler().alphas_cumprod.to(clean.device, torch.float32)
    steps = schedule.timesteps[::-1]
    sample, level = clean, torch.tensor(1.0, device=clean.device)
    for i, timestep in enumerate(steps):
        noise = predict(sample, steps[max(i - 1, 0)])[:, : clean.shape[1]]
        original = (sample - (1 - level).sqrt() * noise) / level.sqrt()
        level = alphas[timestep]
        sample = level.sqrt() * original + (1 - level).sqrt() * noise
        report(i + 1, len(steps), None)
    return sample


def mixed(inverted: Tensor, noise: Tensor, share: float) -> Tensor:
    """sqrt(share) of inverted noise and sqrt(1 - share) of fresh noise: unit variance stays
    (MotionDirector).
    """
    if not 0 <= share <= 1:
        raise InputError(
            f"motion_mix is {share}; it is a share, 0 (random noise) to 1 (inverted noise alone)"
        )
    return share**0.5 * inverted + (1 - share) ** 0.5 * noise
