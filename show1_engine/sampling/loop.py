"""The denoising loop: a sampler on a schedule, with the condition beside the sample."""

import torch
from torch import Generator, Tensor

from ..progress import Report
from .samplers import SAMPLERS, Predict
from .schedules import Schedule


def denoise(predict: Predict, start: Tensor, schedule: Schedule, sources: list[Generator], report: Report,
            condition: Tensor | None = None) -> Tensor:
    """Walks `start` (N, C, F, H, W) down the schedule, `condition` (N, C', F, H, W) beside it.

    The batch holds len(sources) windows of equal size, each with its own noise source, so that a batch
    of windows gives the numbers the windows give one by one.
    """
    def beside(sample: Tensor, timestep: int) -> Tensor:
        return predict(sample if condition is None else torch.cat([sample, condition], dim=1), timestep)

    return SAMPLERS[schedule.sampler].run(beside, start, schedule, sources, report)
