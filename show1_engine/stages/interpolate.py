"""Interpolation: three new frames between every two, in pixel space (paper section 3.3)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..frames import checked, from_model, pad_to_multiple, split_alpha, to_model, with_alpha
from ..models.bundle import Show1Model
from ..models.kinds import INTERPOLATION
from ..models.memory import unet_bytes
from ..noise import generator, randn
from ..sampling.loop import Report, denoise, silent
from ..sampling.schedules import Schedule, with_sampler
from .common import halves, pixel_frames, predictor, previewing, shifted

STAGE = "Show1Interpolate"
WINDOW = 5  # frames per window: two given ones and the three between
FACTOR = WINDOW - 1
_PIXELS_AT_ONCE = 2**17  # per batch of windows: ten of the published size


@dataclass(frozen=True)
class InterpolateSettings:
    """Defaults are those of the released inference script."""

    steps: int = 75
    cfg: float = 4.0
    seed: int = 0
    sampler: str = "default"


@torch.no_grad()
def interpolate(model: Show1Model, images: Tensor, positive: Tensor, negative: Tensor, settings: InterpolateSettings,
                report: Report = silent) -> Tensor:
    """Interpolates between all neighbouring frames.

    Every window of two given frames is sampled from the same initial noise, in batches. As in the original the
    model redraws the given frames too; where two windows meet, the later one's frame is kept.

    Args:
        model: an interpolation model.
        images: (F, H, W, C) frames of any size; a single frame comes back as it is.
        positive, negative: T5 states (1, 77, width).

    Returns:
        (4 * (F - 1) + 1, H, W, C), about [0, 1].
    """
    model.require(STAGE, INTERPOLATION)
    images = checked(STAGE, "images", images)
    schedule = Schedule(with_sampler(model.scheduler_config, settings.sampler), settings.steps)
    if len(images) == 1:
        return images.clone()
    rgb, alpha = split_alpha(images)
    video = pad_to_multiple(to_model(rgb, torch.device("cpu")), model.network.size_multiple)
    result = _sample(model, video, positive, negative, settings, schedule, report)
    return with_alpha(from_model(result[..., :images.shape[1], :images.shape[2]]), alpha)


def _sample(model: Show1Model, video: Tensor, positive: Tensor, negative: Tensor, s: InterpolateSettings,
            schedule: Schedule, report: Report) -> Tensor:
    _, _, frames, height, width = video.shape
    batch = min(frames - 1, max(1, _PIXELS_AT_ONCE // (WINDOW * height * width)))
    device = model.unet.load(unet_bytes(model.network.config, halves(s.cfg) * batch, WINDOW, height, width,
                                        model.unet.dtype))
    noise = randn((1, 3, WINDOW, height, width), generator(s.seed), device)
    result = video.new_empty(1, 3, FACTOR * (frames - 1) + 1, height, width)
    starts = list(range(frames - 1))
    batches = [starts[i:i + batch] for i in range(0, len(starts), batch)]
    total = len(batches) * len(schedule.timesteps)
    for i, group in enumerate(batches):
        condition = torch.cat([condition_of(video[:, :, k], video[:, :, k + 1]) for k in group]).to(device)
        predict = predictor(STAGE, model, positive, negative, s.cfg, device, condition, windows=len(group))
        # The original restarts its noise for every window: all windows share initial and step noise.
        out = denoise(predict, noise.expand(len(group), -1, -1, -1, -1), schedule,
                      [generator(s.seed) for _ in group],
                      previewing(shifted(report, i * len(schedule.timesteps), total), pixel_frames))
        for k, window in zip(group, out.cpu()):
            result[0, :, FACTOR * k:FACTOR * k + WINDOW] = window
    return result


def condition_of(first: Tensor, last: Tensor) -> Tensor:
    """Condition channels (1, 4, 5, H, W) of one window: the linear blend of two frames (1, 3, H, W), and the mask."""
    blend = F.interpolate(torch.stack([first, last], dim=2), size=(WINDOW, *first.shape[-2:]), mode="trilinear",
                          align_corners=True)
    mask = torch.zeros_like(blend[:, :1])
    mask[:, :, [0, -1]] = 1
    return torch.cat([blend, mask], dim=1)
