"""python -m show1_engine generate: a prompt to a video."""

import argparse

from safetensors.torch import save_file
from torch import Tensor

from .. import cascade
from ..cascade import Cascade
from ..models.kinds import KEYFRAMES, PIXEL_SR
from ..stages.registry import STAGES, Stage
from ..stages.settings import StageSettings
from ..video import write_mp4, write_sheet
from .common import models_folder, runtime, settings
from .terminal import Bar, say

_FPS = {stage.result: stage.fps for stage in STAGES.values()}


def run(args: argparse.Namespace) -> None:
    """Samples a video; every stage's settings are as given, else what suits the models."""
    asked = Cascade(
        models_folder(args),
        args.prompt,
        args.negative_prompt,
        pixel_negative_prompt=args.pixel_negative_prompt,
        settings={kind: _settings(args, stage) for kind, stage in STAGES.items()},
        until=args.until,
        reference=args.reference,
        loras={KEYFRAMES: args.lora, PIXEL_SR: args.pixel_sr_lora},
        text_encoder=args.text_encoder,
    )
    _save(args, _made(args, asked))


def _settings(args: argparse.Namespace, stage: Stage) -> StageSettings:
    name = f"{stage.field}_preset"  # a stage's own --STAGE-preset goes before --preset
    setattr(args, name, getattr(args, name) or args.preset)
    return settings(args, stage.settings, stage.field, prefix=stage.field)


def _made(args: argparse.Namespace, asked: Cascade) -> dict[str, Tensor]:
    """Frames of every stage by its name; with --save-stages they are written as they come."""
    results = {}
    for name, images in cascade.run(asked, runtime(args), Bar):
        say(f"{name}: {len(images)} frames {images.shape[2]}x{images.shape[1]}")
        results[name] = images
        if args.save_stages:
            args.save_stages.mkdir(parents=True, exist_ok=True)
            write_mp4(args.save_stages / f"{name}.mp4", images, _FPS[name])
            write_sheet(args.save_stages / f"{name}.png", images)
    return results


def _save(args: argparse.Namespace, results: dict[str, Tensor]) -> None:
    if args.frames_out:
        save_file({name: images.contiguous() for name, images in results.items()}, args.frames_out)
    if args.out:
        name, images = list(results.items())[-1]
        write_mp4(args.out, images, _FPS[name])
        print(args.out)
