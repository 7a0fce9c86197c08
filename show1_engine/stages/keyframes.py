"""Keyframes: text to a few small frames, in pixel space (paper section 3.2)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, number_within
from ..frames import checked, cover, finite, from_model, pixel_frames, split_alpha, to_model
from ..models.bundle import Show1Model
from ..models.kinds import KEYFRAMES
from ..models.memory import unet_bytes
from ..noise import generator, randn
from ..progress import Report, announce, counted, gigabytes, previewing, shifted, silent
from ..sampling.inversion import invert, mixed
from ..sampling.loop import denoise
from ..sampling.schedules import Schedule
from .plan import Layout, Steps, largest, layout
from .settings import StageSettings, guidance, one_prompt, samples_per_video

STAGE = "Show1Keyframes"
FPS = 2.0  # frames per second of the published keyframe model


@dataclass(frozen=True, kw_only=True)
class KeyframeSettings(StageSettings):
    """Defaults are those of the released inference script.

    width: pixels, from 1; the model was trained on 64.
    height: pixels, from 1; the model was trained on 40.
    num_frames: keyframes, from 1, two per second; the model was trained on 8.
    """

    width: int = 64
    height: int = 40
    num_frames: int = 8
    steps: int = 75
    cfg: float = 9.0


@torch.no_grad()
def keyframes(
    model: Show1Model,
    positive: Tensor,
    negative: Tensor,
    settings: KeyframeSettings,
    report: Report = silent,
    motion_from: Tensor | None = None,
    motion_mix: float = 0.5,
) -> Tensor:
    """Samples keyframes from text.

    Args:
        model: a keyframe model.
        positive, negative: T5 states (1, 77, width).
        report: called after every step with (step, steps, preview).
        motion_from: frames (F, H, W, C) in [0, 1] whose inverted noise sampling starts from, as
            many as `num_frames` evenly drawn from them.
        motion_mix: share of the inverted noise in the starting noise, 0 to 1 (the rest is random).

    Returns:
        (num_frames, height, width, 3), about [0, 1]. Sizes the model's levels do not divide
        are sampled larger and cropped.
    """
    model.require(STAGE, KEYFRAMES)
    one_prompt(STAGE, positive, negative)
    s = _checked_settings(settings)
    steps = Steps.of(STAGE, model, s)
    multiple = model.network.size_multiple
    height, width = (-(-side // multiple) * multiple for side in (s.height, s.width))
    _check_memory(model, s, (height, width))
    plan = _layout(model, s, (height, width))
    announce(report, STAGE, f"{s.num_frames} frames {s.width}x{s.height}{plan}; {steps.told()}")
    device = model.unet.load(plan.memory)
    source = generator(s.seed)
    start = randn((1, 3, s.num_frames, height, width), source, device)
    if motion_from is not None and motion_mix != 0:
        inverting, report = (shifted(report, part * len(steps), 2 * len(steps)) for part in (0, 1))
        inverted = _inverted(
            model, motion_from, negative, schedule=steps.schedule, like=start, report=inverting
        )
        start = mixed(inverted, start, motion_mix)
    predict = guidance(
        STAGE,
        model,
        positive,
        negative=negative,
        cfg=s.cfg,
        device=device,
        at_once=plan.at_once,
        guided_timesteps=steps.guided_timesteps,
    )
    video = denoise(
        predict,
        start,
        steps.schedule,
        sources=[source],
        report=previewing(report, pixel_frames),
        stage=STAGE,
    )
    return finite(STAGE, from_model(video[..., : s.height, : s.width]))


def _checked_settings(s: KeyframeSettings) -> KeyframeSettings:
    for name in ("width", "height", "num_frames"):
        number_within(f"{STAGE}: '{name}'", getattr(s, name), 1, most=2**16)
    return s


def _layout(model: Show1Model, s: KeyframeSettings, size: tuple[int, int]) -> Layout:
    """One piece: a keyframe model knows scenes, not patches of them."""
    return layout(
        model,
        samples_per_video(s.cfg),
        s.num_frames,
        size=size,
        trained=max(size),
        asked=max(size),
    )


def _check_memory(model: Show1Model, s: KeyframeSettings, size: tuple[int, int]) -> None:
    """Keyframes are not cut into tiles: what does not fit is refused before anything is
    computed.
    """

    def needs(frames: int) -> int:
        return unet_bytes(model.network.config, 1, frames, *size, model.unet.dtype)

    has = model.unet.memory()
    if needs(s.num_frames) > has:
        fits = largest(s.num_frames, lambda frames: needs(frames) <= has)
        what = (
            f"of this size {counted(fits, 'frame')} fit"
            if fits
            else "not even one frame of this size fits"
        )
        raise InputError(
            f"{STAGE}: {counted(s.num_frames, 'frame')} of {s.width}x{s.height} need about "
            f"{gigabytes(needs(s.num_frames))} beside the weights, and the device has "
            f"{gigabytes(has)}; {what}. The model was trained on 8 frames of 64x40; enlarge them "
            "by Show1PixelSR"
        )


def _inverted(
    model: Show1Model,
    images: Tensor,
    text: Tensor,
    schedule: Schedule,
    like: Tensor,
    report: Report,
) -> Tensor:
    """The noise from which the model makes about these frames, of the size of `like` (1, 3, F, H,
    W).
    """
    rgb, _ = split_alpha(checked(STAGE, "motion_from", images))
    chosen = torch.linspace(0, len(rgb) - 1, like.shape[2]).round().long()
    video = cover(to_model(rgb[chosen], like.device), *like.shape[-2:])
    predict = guidance(STAGE, model, text, negative=text, cfg=1.0, device=like.device)
    return invert(predict, video, schedule, report=report)
