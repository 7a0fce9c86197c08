"""Classifier-free guidance and the denoising loop."""

from collections.abc import Callable, Collection
from functools import partial

import torch
from torch import Generator, Tensor

from ..errors import ResultError
from ..models.unet import TextStates, UNet
from .schedules import Schedule

Preview = Callable[[], Tensor]
Report = Callable[[int, int, Preview | None], None]
Predict = Callable[[Tensor, int], Tensor]  # (sample and condition channels, timestep) -> noise and variance


def silent(step: int, total: int, preview: Preview | None = None) -> None:
    """A report() nobody listens to."""


def guided(unet: UNet, positive: Tensor, negative: Tensor, scale: float, dtype: torch.dtype, channels: int = 3,
           labels: Tensor | None = None, windows: int = 1, at_once: int | None = None,
           where: Collection[int] | None = None) -> Predict:
    """The UNet as a noise predictor with classifier-free guidance.

    Args:
        positive, negative: text states (B, tokens, width) on the UNet's device.
        scale: noise = negative + scale * (positive - negative), when above 1; the variance is the positive's.
        dtype: what the UNet computes in; what goes in and comes out is float32.
        channels: how many channels of the output are noise; the others are variance.
        labels: noise level of each video (B,), super-resolution only.
        windows: how many windows share each text.
        at_once: samples (a video costs two where it is guided) that memory allows in one forward; None: all.
        where: the timesteps that are guided; None: all.
    """
    run = _in_parts(unet, at_once)
    texts = [negative, positive] if scale > 1 else [positive]
    # Texts of unequal length cannot share a batch.
    both = [torch.cat(texts)] if len({text.shape for text in texts}) == 1 else texts
    states = [unet.prepare_text(text.to(dtype)).repeat(windows) for text in both]

    def predict(x: Tensor, timestep: int) -> Tensor:
        rows, x = len(x), x.to(dtype)
        if scale <= 1 or (where is not None and timestep not in where):
            return run(x, timestep, states[-1][-rows:], labels)
        if len(states) == 1:
            twice = None if labels is None else torch.cat([labels, labels])
            low, high = run(torch.cat([x, x]), timestep, states[0], twice).chunk(2)
        else:
            low, high = (run(x, timestep, state, labels) for state in states)
        noise = low[:, :channels] + scale * (high[:, :channels] - low[:, :channels])
        return torch.cat([noise, high[:, channels:]], dim=1)

    return predict


def _in_parts(unet: UNet, at_once: int | None) -> Callable[[Tensor, int, TextStates, Tensor | None], Tensor]:
    """The UNet on a batch, `at_once` samples at a time: the same numbers with less memory. When the device runs out of
    it, the parts are halved down to single samples."""

    def run(x: Tensor, timestep: int, text: TextStates, labels: Tensor | None) -> Tensor:
        nonlocal at_once
        # A number of the processor's would be copied over at every step, and be compiled in by torch.compile.
        step = torch.full((), timestep, dtype=torch.float32, device=x.device)
        while True:
            size = min(at_once or len(x), len(x))
            parts = [slice(i, i + size) for i in range(0, len(x), size)]
            try:
                return torch.cat([unet(x[part], step, text[part], None if labels is None else labels[part]).float()
                                  for part in parts])
            except torch.cuda.OutOfMemoryError:
                if size == 1:
                    raise
                at_once = -(-size // 2)
            torch.cuda.empty_cache()

    return run


def denoise(predict: Predict, start: Tensor, schedule: Schedule, sources: list[Generator], report: Report,
            condition: Tensor | None = None, stage: str = "sampling") -> Tensor:
    """Walks `start` (N, C, F, H, W) down the schedule, `condition` (N, C', F, H, W) beside it.

    The batch holds len(sources) windows of equal size. Each is stepped by its own scheduler with its own noise
    source, so a batch of windows gives the numbers the windows give one by one.

    Raises ResultError, naming `stage` and the first bad step, if the sample is no longer finite.
    """
    watch = _Watch(stage, len(schedule.timesteps), start.device)
    steppers = [schedule.stepper() for _ in sources]
    sample = start
    for i, timestep in enumerate(schedule.timesteps):
        prediction = predict(sample if condition is None else torch.cat([sample, condition], dim=1), timestep)
        preview = partial(steppers[0].predict_clean, prediction, timestep, sample)
        rows = zip(steppers, prediction.chunk(len(sources)), sample.chunk(len(sources)), sources)
        sample = torch.cat([stepper.step(p, timestep, x, source) for stepper, p, x, source in rows])
        watch.look(sample)
        report(i + 1, len(schedule.timesteps), preview)
    return sample


class _Watch:
    """Looks after every step whether the sample is finite. The answers stay on the device and are fetched once in a
    while, so that the device is not waited for at each step."""

    def __init__(self, stage: str, steps: int, device: torch.device):
        self._stage, self._steps, self._done = stage, steps, 0
        self._every = 1 if device.type == "cpu" else 10
        self._finite: list[Tensor] = []

    def look(self, sample: Tensor) -> None:
        self._finite.append(sample.isfinite().all())
        self._done += 1
        if len(self._finite) < self._every and self._done < self._steps:
            return
        finite = torch.stack(self._finite).tolist()
        if not all(finite):
            step = self._done - len(finite) + finite.index(False) + 1
            raise ResultError(f"{self._stage}: the frames are NaN or infinite from step {step} of "
                              f"{self._steps} on. "
                              "Try weight_dtype fp32 or bf16, a lower cfg, a lower LoRA strength "
                              "or another sampler; "
                              "if that does not help, the model's files are damaged")
        self._finite = []
