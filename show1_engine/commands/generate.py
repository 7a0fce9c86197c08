"""python -m show1_engine generate: a prompt to a video."""

import argparse
import dataclasses
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from .. import cascade
from ..cascade import FRAMES_PER_SECOND, Cascade
from ..models.kinds import KEYFRAMES, PIXEL_SR
from ..video import write_mp4, write_sheet
from .arguments import STAGE_SETTINGS
from .common import models_folder, runtime, settings
from .terminal import Bar, say

_STAGES = [prefix.replace("-", "_") for prefix in STAGE_SETTINGS]  # fields of a Cascade


def run(args: argparse.Namespace) -> None:
    for name in _STAGES:  # a stage's own --STAGE-preset goes before --preset
        setattr(args, f"{name}_preset", getattr(args, f"{name}_preset") or args.preset)
    stages = {name: settings(args, _defaults(name), name, prefix=name) for name in _STAGES}
    asked = Cascade(
        models_folder(args),
        args.prompt,
        args.negative_prompt,
        pixel_negative_prompt=args.pixel_negative_prompt,
        until=args.until,
        reference=args.reference,
        text_encoder=args.text_encoder,
        loras={KEYFRAMES: args.lora, PIXEL_SR: args.pixel_sr_lora},
        **stages,
    )
    _save(args, _made(args, asked))


def _defaults(name: str) -> Any:
    field = Cascade.__dataclass_fields__[name]
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()


def _made(args: argparse.Namespace, asked: Cascade) -> dict[str, Tensor]:
    """Frames of every stage by its name; with --save-stages they are written as they come."""
    results = {}
    for name, images in cascade.run(asked, runtime(args), Bar):
        say(f"{name}: {len(images)} frames {images.shape[2]}x{images.shape[1]}")
        results[name] = images
        if args.save_stages:
            args.save_stages.mkdir(parents=True, exist_ok=True)
            write_mp4(args.save_stages / f"{name}.mp4", images, FRAMES_PER_SECOND[name])
            write_sheet(args.save_stages / f"{name}.png", images)
    return results


def _save(args: argparse.Namespace, results: dict[str, Tensor]) -> None:
    if args.frames_out:
        save_file({name: images.contiguous() for name, images in results.items()}, args.frames_out)
    if args.out:
        name, images = list(results.items())[-1]
        write_mp4(args.out, images, FRAMES_PER_SECOND[name])
        print(args.out)
