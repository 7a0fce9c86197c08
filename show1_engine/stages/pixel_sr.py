"""Pixel super-resolution x4 with noise augmentation (paper section 3.4), and the first frame's by a 2-D model."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..frames import (checked, from_model, pad_to_multiple, resize, resize_bilinear, split_alpha, to_model, with_alpha)
from ..models.bundle import Show1Model
from ..models.kinds import FIRST_FRAME_SR, PIXEL_SR
from ..models.memory import unet_bytes
from ..noise import generator, randn
from ..sampling.loop import Report, denoise, silent
from ..sampling.schedules import Schedule, make_scheduler, with_sampler
from ..sampling.windows import chained_windows
from .common import check_noise_level, halves, pixel_frames, predictor, previewing, shifted

STAGE = "Show1PixelSR"
SCALE = 4
WINDOW = 8
_COSINE = {"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 1000}
_ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True)
class PixelSRSettings:
    """Defaults are those of the released inference script."""

    steps: int = 125
    cfg: float = 7.0
    noise_level: int = 250
    seed: int = 0
    sampler: str = "default"


FIRST_FRAME_SETTINGS = PixelSRSettings(steps=70, cfg=4.0, noise_level=150)


@torch.no_grad()
def pixel_sr(model: Show1Model, images: Tensor, positive: Tensor, negative: Tensor, settings: PixelSRSettings,
             first_frame: Tensor | None = None, report: Report = silent,
             windows: list[slice] | None = None) -> Tensor:
    """Upscales frames four times, in windows of eight chained by their first frame.

    Args:
        model: a pixel super-resolution model.
        images: (F, H, W, C) frames, any count and size.
        positive, negative: T5 states (1, 77, width).
        first_frame: (1, H', W', C) the first frame at the target's aspect, which the model then follows. Without
            it the first window has the noised low resolution alone.
        windows: other windows than the planner's; frames they leave out stay grey.

    Returns:
        (F, 4H, 4W, C), about [0, 1].
    """
    model.require(STAGE, PIXEL_SR)
    images = checked(STAGE, "images", images)
    check_noise_level(STAGE, "noise_level", settings.noise_level)
    rgb, alpha = split_alpha(images)
    height, width = (SCALE * side for side in images.shape[1:3])
    clean = None if first_frame is None else _first_frame(first_frame, height, width)
    windows = chained_windows(len(images), WINDOW) if windows is None else windows
    result = torch.zeros(1, 3, len(images), height, width)
    schedule = Schedule(with_sampler(model.scheduler_config, settings.sampler), settings.steps)
    total = len(windows) * len(schedule.timesteps)
    for i, window in enumerate(windows):
        low = to_model(rgb[window], torch.device("cpu"))
        progress = shifted(report, i * len(schedule.timesteps), total)
        result[:, :, window] = upscale(STAGE, model, low, positive, negative, settings, schedule, clean, progress).cpu()
        clean = result[:, :, window.stop - 1:window.stop]
        if i + 1 < len(windows):  # a last window moved back starts inside this one
            clean = result[:, :, windows[i + 1].start:windows[i + 1].start + 1]
    return with_alpha(from_model(result), alpha)


@torch.no_grad()
def first_frame_sr(model: Show1Model, images: Tensor, positive: Tensor, negative: Tensor,
                   settings: PixelSRSettings = FIRST_FRAME_SETTINGS, report: Report = silent) -> Tensor:
    """The first of `images` (F, H, W, C) upscaled four times by a 2-D model (DeepFloyd IF-II): (1, 4H, 4W, 3)."""
    model.require(STAGE, FIRST_FRAME_SR)
    check_noise_level(STAGE, "first_frame_noise_level", settings.noise_level)
    rgb, _ = split_alpha(checked(STAGE, "images", images[:1]))
    schedule = Schedule(with_sampler(model.scheduler_config, settings.sampler), settings.steps)
    low = to_model(rgb, torch.device("cpu"))
    return from_model(upscale(STAGE, model, low, positive, negative, settings, schedule, None, report))


def upscale(stage: str, model: Show1Model, low: Tensor, positive: Tensor, negative: Tensor, s: PixelSRSettings,
            schedule: Schedule, clean_first: Tensor | None, report: Report) -> Tensor:
    """One window (1, 3, F, H, W) in [-1, 1] -> (1, 3, F, 4H, 4W).

    The condition is the bilinearly enlarged window, noised to `noise_level`; `clean_first` (1, 3, 1, 4H, 4W), if
    given, takes the place of its first frame, without noise.
    """
    height, width = (SCALE * side for side in low.shape[-2:])
    multiple = model.network.size_multiple
    target = pad_to_multiple(resize_bilinear(low, height, width), multiple)
    device = model.unet.load(unet_bytes(model.network.config, halves(s.cfg), *target.shape[2:], model.unet.dtype))
    source = generator(s.seed)
    start = randn(target.shape, source, device)
    noise = randn(target.shape, source, device)
    noising = make_scheduler(model.noising_config or _COSINE)
    condition = noising.add_noise(target.to(device), noise, torch.tensor([s.noise_level]))
    if clean_first is not None:
        condition[:, :, :1] = pad_to_multiple(clean_first, multiple).to(device)
    labels = torch.tensor([s.noise_level], device=device)
    predict = predictor(stage, model, positive, negative, s.cfg, device, condition, labels)
    video = denoise(predict, start, schedule, [source], previewing(report, pixel_frames))
    return video[..., :height, :width]


def _first_frame(image: Tensor, height: int, width: int) -> Tensor:
    """A user's first frame as (1, 3, 1, height, width) in [-1, 1]; another aspect is refused."""
    rgb, _ = split_alpha(checked(STAGE, "first_frame", image[:1]))
    tall, wide = rgb.shape[1:3]
    if abs(wide / tall * height / width - 1) > _ASPECT_TOLERANCE:
        raise InputError(f"{STAGE}: 'first_frame' is {wide}x{tall} but the frames upscale to {width}x{height}; "
                         "give a first frame of the same aspect")
    return resize(to_model(rgb, torch.device("cpu")), height, width)
