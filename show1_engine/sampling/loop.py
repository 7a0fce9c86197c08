"""The denoising loop: a sampler on a schedule, with the condition beside the sample."""

import torch
from torch import Generator, Tensor

from ..errors import ResultError
from ..progress import Preview, Report
from .known import Known
from .samplers import SAMPLERS, Predict
from .schedules import Schedule


def denoise(
    predict: Predict,
    start: Tensor,
    schedule: Schedule,
    sources: list[Generator],
    report: Report,
    condition: Tensor | None = None,
    stage: str = "sampling",
    known: Known | None = None,
) -> Tensor:
    """Walks `start` (N, C, F, H, W) down the schedule, `condition` (N, C', F, H, W) beside it.

    The batch holds len(sources) windows of equal size, each with its own noise source, so that a
    batch of windows gives the numbers the windows give one by one. What is `known` of the sample is
    held while the rest is sampled.

    Raises ResultError, naming `stage` and the first bad step, if the sample is no longer finite.
    """
    watch = _Watch(stage, len(schedule.timesteps), start.device)

    def beside(sample: Tensor, timestep: int) -> Tensor:
        return predict(
            sample if condition is None else torch.cat([sample, condition], dim=1), timestep
        )

    guided = known.holding(beside, schedule) if known else beside
    again = known.harmonised(guided, schedule, sources[0]) if known else lambda _, sample: sample

    def reported(step: int, sample: Tensor, preview: Preview) -> Tensor:
        watch.look(sample)
        report(step, len(schedule.timesteps), preview)
        return again(step, sample)

    run = SAMPLERS[schedule.sampler].run
    return run(guided, again(0, start), schedule, sources=sources, report=reported)


class _Watch:
    """Looks after every step whether the sample is finite. The answers stay on the device and are
    fetched once in a while, so that the device is not waited for at each step.
    """

    def __init__(self, stage: str, steps: int, device: torch.device):
        self._stage, self._steps, self._done = stage, steps, 0
        self._every = 1 if device.type == "cpu" else 10
        self._finite: list[Tensor] = []

    def look(self, sample: Tensor) -> None:
        self._finite.append(sample.isfinite().all())
        self._done += 1
        if len(self._finite) < self._every and self._done < self._steps:
            return
        finite = torch.stack(self._finite).cpu().tolist()
        if not all(finite):
            step = self._done - len(finite) + finite.index(False) + 1
            raise ResultError(
                f"{self._stage}: the frames are NaN or infinite from step {step} of {self._steps} "
                "on. Try weight_dtype fp32 or bf16, a lower cfg, a lower LoRA strength or another "
                "sampler; if that does not help, the model's files are damaged"
            )
        self._finite = []
