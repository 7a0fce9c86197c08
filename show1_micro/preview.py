"""A quick look at a stage in training: some samples, a sheet of them, the recogniser's score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from show1_engine.evaluation.measures import mean_psnr
from show1_engine.progress import silent
from show1_engine.sampling.guidance import Guidance
from show1_engine.sampling.loop import denoise
from show1_engine.sampling.schedules import Schedule

from .batches import interpolation_condition, pixels, sr_condition
from .configs import FRAMES, scheduler_config
from .editions import FIRST, Edition
from .initial import clock_readings
from .looks import look_at, summary
from .recogniser import accuracy
from .stills import spatial_only
from .text import Captions
from .world import Scene, frame_times

STEPS, GUIDANCE, COUNT = 16, 3.0, 20
# Quicker than the stages' own way down, and to no noise at all.
_SOLVER = {"_class_name": "DPMSolverMultistepScheduler", "final_sigmas_type": "zero"}


def preview(
    stage: str,
    unet: nn.Module,
    captions: Captions,
    still: bool,
    sheet: Path,
    *,
    world: Edition = FIRST,
) -> dict[str, Any]:
    """Sample with the given weights, write a PNG and return scores ({} for stages without a quick
    test).
    """
    tests = {"keyframes": _keyframes, "interpolation": _interpolation, "pixel_sr": _pixel_sr}
    return tests[stage](unet, captions, still, sheet=sheet, world=world) if stage in tests else {}


def _keyframes(
    unet: nn.Module, captions: Captions, still: bool, sheet: Path, *, world: Edition
) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1234)
    places = torch.arange(3 * COUNT) % FRAMES
    count, frames = (3 * COUNT, 1) if still else (COUNT, FRAMES)
    scenes = [world.draw(generator) for _ in range(count)]
    noise = torch.randn(count, 3, frames, *world.keyframe, generator=generator)
    with spatial_only(unet, still, clock_readings(FRAMES)[places.repeat(2)]):
        clips = sample(unet, captions, [scene.caption() for scene in scenes], noise=noise)
    save_sheet(sheet, clips)
    return scores(clips, scenes, ("shape", "colour", "background") if still else None, world=world)


def _interpolation(
    unet: nn.Module, captions: Captions, still: bool, sheet: Path, *, world: Edition
) -> dict[str, Any]:
    """PSNR of the frames between two far keyframes, and that of their linear blend."""
    generator = torch.Generator().manual_seed(1234)
    scenes, times = world.between(COUNT, generator)
    clean = pixels(scenes, times, world.keyframe, world=world)
    condition = interpolation_condition(clean, generator, noise=0.0)
    drawn = sample(
        unet,
        captions,
        [scene.caption() for scene in scenes],
        noise=torch.randn(clean.shape, generator=generator),
        condition=condition,
        steps=10,
        guidance=1.0,
    )
    save_sheet(sheet, torch.cat([clean, condition[:, :3], drawn], dim=2))
    middle = slice(1, 4)
    return {
        "psnr": _rounded_psnr(drawn[:, :, middle], clean[:, :, middle]),
        "linear": _rounded_psnr(condition[:, :3, middle], clean[:, :, middle]),
    }


def _pixel_sr(
    unet: nn.Module, captions: Captions, still: bool, sheet: Path, *, world: Edition
) -> dict[str, Any]:
    """PSNR of single enlarged frames (or windows), that of bicubic, and whether the texture word
    was obeyed.
    """
    generator = torch.Generator().manual_seed(1234)
    count, times = (12, torch.tensor([0.5])) if still else (3, frame_times(8) * 0.25)
    scenes = [world.draw(generator) for _ in range(count)]
    clean, low = (
        pixels(scenes, times, size, world=world) for size in (world.large, world.keyframe)
    )
    labels = torch.full((count,), 100)
    with spatial_only(unet, still):
        drawn = sample(
            unet,
            captions,
            [scene.caption() for scene in scenes],
            noise=torch.randn(clean.shape, generator=generator),
            condition=sr_condition(low, labels, generator),
            labels=labels,
            steps=8,
            guidance=2.0,
        )
    bicubic = F.interpolate(
        low.transpose(1, 2).flatten(0, 1), scale_factor=4, mode="bicubic"
    ).clamp(-1, 1)
    bicubic = bicubic.unflatten(0, (count, -1)).transpose(1, 2)
    save_sheet(
        sheet, torch.cat([clean, bicubic, drawn], dim=2)[:8] if still else drawn, columns=3, scale=1
    )
    return {
        "psnr": _rounded_psnr(drawn, clean),
        "bicubic": _rounded_psnr(bicubic, clean),
        **scores(drawn, scenes, ("shape", "colour", "background", "texture"), world=world),
    }


def _rounded_psnr(images: Tensor, truth: Tensor) -> float:
    return round(mean_psnr(images, truth), 2)


def scores(
    clips: Tensor,
    scenes: list[Scene],
    names: tuple[str, ...] | None = None,
    *,
    world: Edition = FIRST,
) -> dict[str, Any]:
    """Accuracies of clips (B, 3, F, H, W) in [-1, 1], the share of them that fits a drawing
    closely, and the medians of their looks.
    """
    many = [clip.movedim(0, -1) / 2 + 0.5 for clip in clips]
    readings = [world.read(images) for images in many]
    shares = accuracy(readings, scenes, names) if names else accuracy(readings, scenes)
    close = sum(reading.error < 0.15 for reading in readings) / len(readings)
    looks = summary([look_at(*pair, world) for pair in zip(many, readings, strict=True)])
    return {
        **{name: round(share, 3) for name, share in shares.items()},
        "close": round(close, 3),
        "looks": {name: round(found["median"], 3) for name, found in looks.items()},
    }


@torch.no_grad()
def sample(
    unet: nn.Module,
    captions: Captions,
    texts: list[str],
    noise: Tensor,
    condition: Tensor | None = None,
    labels: Tensor | None = None,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> Tensor:
    """DPM-Solver++ with guidance from `noise` (B, 3, F, H, W): pixels clamped to [-1, 1]."""
    kind = "keyframes" if labels is None else "pixel_sr"
    schedule = Schedule({**scheduler_config(kind), **_SOLVER}, steps)
    negative, positive = captions([""] * len(texts) + texts).chunk(2)
    predict = Guidance(
        unet,
        positive,
        negative,
        scale=guidance,
        dtype=torch.float32,
        noise_level=labels,
    )
    # The solver draws no noise on the way.
    sources = [torch.Generator()]
    return denoise(
        predict, noise, schedule, sources=sources, report=silent, condition=condition
    ).clamp(-1, 1)


def save_sheet(path: Path, clips: Tensor, columns: int = 8, scale: int = 3) -> None:
    """Write clips (B, 3, F, H, W) in [-1, 1] as a PNG: a row a clip, or single frames in a grid."""
    if clips.shape[2] == 1:
        usable = len(clips) // columns * columns
        clips = clips[:usable, :, 0].unflatten(0, (-1, columns)).transpose(1, 2)
    save_picture(path, clips.permute(0, 3, 2, 4, 1).flatten(2, 3).flatten(0, 1) / 2 + 0.5, scale)


def save_picture(path: Path, pixels: Tensor, scale: int = 1) -> None:
    """Write (H, W, 3) in [0, 1], enlarged pixel by pixel, as a PNG of 256 colours, a quarter of the
    size.
    """
    from PIL import Image

    picture = Image.fromarray((pixels * 255).round().byte().numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    large = picture.resize(
        (picture.width * scale, picture.height * scale), Image.Resampling.NEAREST
    )
    # Not the usual median cut: it merges the few colours of a clean drawing where noisy ones fill
    # the picture.
    large.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=4, dither=Image.Dither.NONE).save(
        path, optimize=True
    )
