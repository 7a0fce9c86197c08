"""Pixel super-resolution x4 with noise augmentation (paper section 3.4), and the first frame's by a 2-D model."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from ..color import METHODS, match_color
from ..errors import InputError, number_within, one_of
from ..frames import (checked, finite, from_model, pad_to_multiple, resize, resize_bilinear,
                      split_alpha, to_model, with_alpha)
from ..models.bundle import Show1Model
from ..models.kinds import FIRST_FRAME_SR, PIXEL_SR
from ..noise import generator, randn
from ..sampling.cuts import find_cuts
from ..sampling.loop import Report, denoise, silent
from ..sampling.schedules import Schedule, make_scheduler
from ..sampling.tiles import whole
from ..sampling.windows import Window, chained_windows
from .common import (Layout, Steps, announce, check_noise_level, check_result, counted, halves,
                     layout, one_prompt, pixel_frames, predictor, previewing, shifted)

STAGE = "Show1PixelSR"
SCALE = 4
WINDOW = 8
_COSINE = {"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 1000}
_ASPECT_TOLERANCE = 0.02
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class PixelSRSettings:
    """Defaults are those of the released inference script.

    tiling: side of the tiles in output pixels, 0 for automatic. color_match: see color.match_color, against the
    enlarged input. scale: output size over input size; the model's own is 4, others are resampled from it.
    cuts: start a new chain of windows at a scene cut. preset: see sampling.presets. guidance_start, guidance_end: the
    stretch of the run, in shares of its steps, that is guided.
    """

    steps: int = 125
    cfg: float = 7.0
    noise_level: int = 250
    seed: int = 0
    sampler: str = "default"
    tiling: int = 0
    color_match: str = "none"
    scale: float = SCALE
    cuts: bool = False
    preset: str = "reference"
    guidance_start: float = 0.0
    guidance_end: float = 1.0


FIRST_FRAME_SETTINGS = PixelSRSettings(steps=70, cfg=4.0, noise_level=150)


@torch.no_grad()
def pixel_sr(model: Show1Model, images: Tensor, positive: Tensor, negative: Tensor, settings: PixelSRSettings,
             first_frame: Tensor | None = None, report: Report = silent,
             windows: list[Window] | None = None) -> Tensor:
    """Upscales frames four times, in windows of eight chained by their first frame.

    Args:
        model: a pixel super-resolution model.
        images: (F, H, W, C) frames, any count and size.
        positive, negative: T5 states (1, 77, width).
        first_frame: (1, H', W', C) the first frame at the target's aspect, which the model then follows. Without
            it the first window has the noised low resolution alone.
        windows: other windows than the planner's; frames they leave out stay grey.

    Returns:
        (F, scale * H, scale * W, C), about [0, 1].
    """
    model.require(STAGE, PIXEL_SR)
    one_prompt(STAGE, positive, negative)
    images = checked(STAGE, "images", images)
    s = settings
    check_noise_level(STAGE, "noise_level", s.noise_level)
    number_within(f"{STAGE}: 'scale'", s.scale, 1e-3, 1e3)
    one_of("color_match", s.color_match, METHODS)
    if windows is None:
        windows = chained_windows(len(images), WINDOW, find_cuts(images) if s.cuts else [])
    height, width = images.shape[1:3]
    size = max(1, round(s.scale * height)), max(1, round(s.scale * width))
    check_result(STAGE, len(images), *size, images.shape[-1])
    result = images.new_full((len(images), *size, images.shape[-1]), 0.5)
    clean = None if first_frame is None else _first_frame(first_frame, SCALE * height, SCALE * width)
    steps = Steps.of(STAGE, model, s)
    plan = _layout(model, s, min(WINDOW, len(images)), height, width)
    announce(report, STAGE, f"{len(images)} frames {width}x{height} -> {size[1]}x{size[0]}, in "
                            f"{counted(len(windows), 'window')}{plan}; {steps.told(len(windows))}")
    for i, window in enumerate(windows):
        low, alpha = split_alpha(images[window.frames])
        progress = shifted(report, i * len(steps), len(windows) * len(steps))
        start = clean if i == 0 or window.continues else None
        video = _window(model, low, positive, negative, s, steps, start, progress)
        result[window.frames] = with_alpha(finite(STAGE, from_model(resize(video, *size))), alpha)
        if i + 1 < len(windows):  # the next window begins on this one's last frame, or earlier if it was moved back
            first = windows[i + 1].start - window.start
            clean = video[:, :, first:first + 1]
    return result


def _window(model: Show1Model, low: Tensor, positive: Tensor, negative: Tensor, s: PixelSRSettings,
            steps: Steps, clean: Tensor | None, report: Report) -> Tensor:
    """One window (F, H, W, 3), enlarged and colour-matched: (1, 3, F, 4H, 4W) in [-1, 1] on the CPU."""
    low = to_model(low, _CPU)
    video = upscale(STAGE, model, low, positive, negative, s, steps.schedule, clean, report,
                    steps.guided).cpu()
    if s.color_match == "none":
        return video
    reference = from_model(resize_bilinear(low, *video.shape[-2:]))
    return to_model(match_color(from_model(video), reference, s.color_match), _CPU)


@torch.no_grad()
def first_frame_sr(model: Show1Model, images: Tensor, positive: Tensor, negative: Tensor,
                   settings: PixelSRSettings = FIRST_FRAME_SETTINGS, report: Report = silent) -> Tensor:
    """The first of `images` (F, H, W, C) upscaled four times by a 2-D model (DeepFloyd IF-II): (1, 4H, 4W, 3)."""
    model.require(STAGE, FIRST_FRAME_SR)
    one_prompt(STAGE, positive, negative)
    check_noise_level(STAGE, "first_frame_noise_level", settings.noise_level)
    rgb, _ = split_alpha(checked(STAGE, "images", images[:1]))
    steps = Steps.of(STAGE, model, settings)
    return finite(STAGE, from_model(upscale(STAGE, model, to_model(rgb, _CPU), positive, negative, settings,
                                            steps.schedule, None, report, steps.guided)))


def upscale(stage: str, model: Show1Model, low: Tensor, positive: Tensor, negative: Tensor, s: PixelSRSettings,
            schedule: Schedule, clean_first: Tensor | None, report: Report,
            where: Collection[int] | None = None) -> Tensor:
    """One window (1, 3, F, H, W) in [-1, 1] -> (1, 3, F, 4H, 4W).

    The condition is the bilinearly enlarged window, noised to `noise_level`; `clean_first` (1, 3, 1, 4H, 4W), if
    given, takes the place of its first frame, without noise. `where`: the timesteps that are guided, None for all.
    """
    height, width = (SCALE * side for side in low.shape[-2:])
    plan = _layout(model, s, *low.shape[2:])
    target = pad_to_multiple(resize_bilinear(low, height, width), plan.multiple)
    device = model.unet.load(plan.memory)
    source = generator(s.seed)
    start = randn(target.shape, source, device)
    noise = randn(target.shape, source, device)
    labels = torch.tensor([s.noise_level])
    clean = None if clean_first is None else pad_to_multiple(clean_first, plan.multiple).to(device)
    condition = low_resolution(model, target.to(device), noise, labels, clean)
    predict = predictor(stage, model, positive, negative, s.cfg, device, labels.to(device), 1, plan.at_once, where)
    video = denoise(plan.over(predict, whole(low.shape[2])), start, schedule, [source],
                    previewing(report, pixel_frames), condition, stage)
    return video[..., :height, :width]


def low_resolution(model: Show1Model, enlarged: Tensor, noise: Tensor, levels: Tensor,
                   clean_first: Tensor | None = None) -> Tensor:
    """The model's condition: enlarged windows (B, 3, F, H, W) noised to `levels` (B,), and `clean_first` in the place
    of the first frame."""
    scheduler = make_scheduler(model.noising_config or _COSINE)
    if int(levels.max()) >= len(scheduler.alphas_cumprod):
        raise InputError(f"{STAGE}: the noise level is {int(levels.max())}; the noising schedule "
                         f"of '{model.name}' has "
                         f"{len(scheduler.alphas_cumprod)} timesteps, so use a lower one")
    condition = scheduler.add_noise(enlarged, noise, levels)
    if clean_first is not None:
        condition[:, :, :1] = clean_first
    return condition


def _layout(model: Show1Model, s: PixelSRSettings, frames: int, height: int, width: int) -> Layout:
    """Tiles for a low-resolution window of that size, enlarged and padded."""
    multiple = model.network.size_multiple
    size = tuple(-(-SCALE * side // multiple) * multiple for side in (height, width))
    trained = model.network.config.get("sample_size") or 256
    return layout(model, halves(s.cfg), frames, size, trained, s.tiling, multiple)


def _first_frame(image: Tensor, height: int, width: int) -> Tensor:
    """A user's first frame as (1, 3, 1, height, width) in [-1, 1]; another aspect is refused."""
    rgb, _ = split_alpha(checked(STAGE, "first_frame", image[:1]))
    tall, wide = rgb.shape[1:3]
    if abs(wide / tall * height / width - 1) > _ASPECT_TOLERANCE:
        raise InputError(f"{STAGE}: 'first_frame' is {wide}x{tall} but the frames upscale to {width}x{height}; "
                         "give a first frame of the same aspect")
    return resize(to_model(rgb, _CPU), height, width)
