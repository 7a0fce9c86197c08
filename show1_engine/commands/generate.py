"""python -m show1_engine generate: a prompt to a video."""

import argparse
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from .. import cascade
from ..cascade import Cascade
from ..errors import InputError, printable
from ..models.kinds import KEYFRAMES, PIXEL_SR
from ..stages.given import GivenFrames, parsed_indices
from ..stages.registry import STAGES, Stage
from ..stages.settings import StageSettings
from ..video import read_frames, write_mp4, write_sheet
from .common import models_folder, runtime, settings
from .terminal import Bar, say

_KIND = {stage.result: kind for kind, stage in STAGES.items()}


def run(args: argparse.Namespace) -> None:
    """Samples a video; every stage's settings are as given, else what suits the models."""
    if args.prompt is None and args.prompts is None:
        raise InputError("what is to be seen is missing; give --prompt TEXT or --prompts FILE")
    asked = Cascade(
        models_folder(args),
        args.prompt or "",
        args.negative_prompt,
        pixel_negative_prompt=args.pixel_negative_prompt,
        settings={kind: _settings(args, stage) for kind, stage in STAGES.items()},
        until=args.until,
        reference=args.reference,
        loras={KEYFRAMES: args.lora, PIXEL_SR: args.pixel_sr_lora},
        text_encoder=args.text_encoder,
        prompts=_lines(args.prompts),
        transition=args.transition,
        given=_given(args),
        start=None if args.start_from is None else read_frames(args.start_from),
    )
    _save(args, asked, _made(args, asked))


def _lines(path: Path | None) -> str:
    """The text of --prompts, "" without."""
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--prompts '{path}' cannot be read: {printable(error, 200)}") from None


def _given(args: argparse.Namespace) -> GivenFrames | None:
    if args.given is None:
        return None
    frames = read_frames(args.given)
    places = parsed_indices("--given-indices", args.given_indices, len(frames))
    return GivenFrames(frames, places, harmonise=args.harmonise)


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
            rate = asked.fps(_KIND[name])
            write_mp4(args.save_stages / f"{name}.mp4", images, rate)
            write_sheet(args.save_stages / f"{name}.png", images)
    return results


def _save(args: argparse.Namespace, asked: Cascade, results: dict[str, Tensor]) -> None:
    if args.frames_out:
        save_file({name: images.contiguous() for name, images in results.items()}, args.frames_out)
    if args.out:
        name, images = list(results.items())[-1]
        write_mp4(args.out, images, asked.fps(_KIND[name]))
        print(args.out)
