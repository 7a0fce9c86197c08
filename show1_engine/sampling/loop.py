"""Classifier-free guidance and the denoising loop."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor

from ..models.unet import UNet
from .schedules import Schedule

Preview = Callable[[], Tensor]
Report = Callable[[int, int, Preview | None], None]
Predict = Callable[[Tensor, int], Tensor]  # (sample and condition channels, timestep) -> noise and variance


def silent(step: int, total: int, preview: Preview | None = None) -> None:
    """A report() nobody listens to."""


def guided(unet: UNet, positive: Tensor, negative: Tensor, scale: float, dtype: torch.dtype, channels: int = 3,
           labels: Tensor | None = None, windows: int = 1) -> Predict:
    """The UNet as a noise predictor with classifier-free guidance.

    Args:
        positive, negative: text states (B, tokens, width) on the UNet's device.
        scale: noise = negative + scale * (positive - negative), when above 1; the variance is the positive's.
        dtype: what the UNet computes in; what goes in and comes out is float32.
        channels: how many channels of the output are noise; the others are variance.
        labels: noise level of each video (B,), super-resolution only.
        windows: how many windows share each text.
    """
    guide = scale > 1
    # Texts of unequal length cannot share a batch: then the two halves run one after the other.
    together = guide and positive.shape == negative.shape
    texts = [torch.cat([negative, positive])] if together else [negative, positive] if guide else [positive]
    states = [unet.prepare_text(text.to(dtype)).repeat(windows) for text in texts]

    def predict(x: Tensor, timestep: int) -> Tensor:
        x = x.to(dtype)
        if not guide:
            return unet(x, timestep, states[0], labels).float()
        if together:
            both = None if labels is None else torch.cat([labels, labels])
            low, high = unet(torch.cat([x, x]), timestep, states[0], both).float().chunk(2)
        else:
            low, high = (unet(x, timestep, state, labels).float() for state in states)
        noise = low[:, :channels] + scale * (high[:, :channels] - low[:, :channels])
        return torch.cat([noise, high[:, channels:]], dim=1)

    return predict


def denoise(predict: Predict, start: Tensor, schedule: Schedule, sources: list[Generator], report: Report,
            condition: Tensor | None = None) -> Tensor:
    """Walks `start` (N, C, F, H, W) down the schedule, `condition` (N, C', F, H, W) beside it.

    The batch holds len(sources) windows of equal size. Each is stepped by its own scheduler with its own noise
    source, so a batch of windows gives the numbers the windows give one by one.
    """
    steppers = [schedule.stepper() for _ in sources]
    sample = start
    for i, timestep in enumerate(schedule.timesteps):
        prediction = predict(sample if condition is None else torch.cat([sample, condition], dim=1), timestep)
        preview = partial(steppers[0].predict_clean, prediction, timestep, sample)
        rows = zip(steppers, prediction.chunk(len(sources)), sample.chunk(len(sources)), sources)
        sample = torch.cat([stepper.step(p, timestep, x, source) for stepper, p, x, source in rows])
        report(i + 1, len(schedule.timesteps), preview)
    return sample
