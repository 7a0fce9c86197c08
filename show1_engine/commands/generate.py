"""python -m show1_engine generate: a prompt to a video."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from torch import Tensor

from ..cascade import FRAMES_PER_SECOND, STAGES, Cascade, run
from ..models.kinds import KEYFRAMES, PIXEL_SR
from ..sampling.presets import PRESETS
from ..video import write_mp4, write_sheet
from .common import (
    add_runtime,
    add_settings,
    add_text_encoder,
    models_folder,
    progress,
    runtime,
    say,
    settings,
)

_PREFIXES = {
    "keyframes": "keyframes",
    "interpolate": "interpolate",
    "first-frame": "first_frame",
    "pixel-sr": "pixel_sr",
    "expert": "expert",
}
_CLIP_ONLY = (
    "tiling",
    "color_match",
    "scale",
    "cuts",
)  # settings that mean nothing for a single frame


def add_parser(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("generate", help="sample a video from a prompt")
    add = command.add_argument
    add("--prompt", required=True)
    add(
        "--negative-prompt",
        default=Cascade.negative_prompt,
        help="for the latent stage (default: %(default)s)",
    )
    add(
        "--pixel-negative-prompt",
        default="",
        help="for the pixel stages (default: the empty prompt)",
    )
    add_runtime(command)
    add_text_encoder(command)
    add("--out", type=Path, help="mp4 of the last stage")
    add("--save-stages", type=Path, metavar="DIR", help="mp4 and contact sheet of every stage")
    add(
        "--frames-out",
        type=Path,
        metavar="FILE",
        help="float32 frames of every stage as .safetensors",
    )
    for option, model in (
        ("--lora", "the keyframe model"),
        ("--pixel-sr-lora", "pixel super-resolution"),
    ):
        add(
            option,
            action="append",
            type=_lora,
            default=[],
            metavar="FILE[:STRENGTH]",
            help=f"motion LoRA for {model}; may be given several times",
        )
    add("--until", choices=STAGES, default=STAGES[-1], help="last stage to run")
    add(
        "--preset",
        choices=list(PRESETS),
        help="for all stages: fewer steps than asked for, guided in part",
    )
    add(
        "--reference",
        action="store_true",
        help="the original's windows and 8-bit hand-over, flaws included",
    )
    for prefix, name in _PREFIXES.items():
        without = _CLIP_ONLY if name == "first_frame" else ()
        add_settings(
            command.add_argument_group(f"{prefix} stage"), _defaults(name), prefix, without
        )
    command.set_defaults(func=_generate)


def _lora(text: str) -> tuple[Path, float]:
    """A file and its strength; 1 where none is given."""
    name, colon, number = text.rpartition(":")
    try:
        return (Path(name), float(number)) if colon else (Path(text), 1.0)
    except ValueError:  # a colon of the path itself
        return Path(text), 1.0


def _defaults(name: str) -> Any:
    field = Cascade.__dataclass_fields__[name]
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()


def _generate(args: argparse.Namespace) -> int:
    for name in _PREFIXES.values():  # a stage's own --STAGE-preset goes before --preset
        setattr(args, f"{name}_preset", getattr(args, f"{name}_preset") or args.preset)
    stages = {name: settings(args, _defaults(name), name, name) for name in _PREFIXES.values()}
    cascade = Cascade(
        models_folder(args),
        args.prompt,
        args.negative_prompt,
        args.pixel_negative_prompt,
        until=args.until,
        reference=args.reference,
        text_encoder=args.text_encoder,
        loras={KEYFRAMES: args.lora, PIXEL_SR: args.pixel_sr_lora},
        **stages,
    )
    _save(args, _run(args, cascade))
    return 0


def _run(args: argparse.Namespace, cascade: Cascade) -> dict[str, Tensor]:
    results = {}
    for name, images in run(cascade, runtime(args), progress):
        say(f"{name}: {len(images)} frames {images.shape[2]}x{images.shape[1]}")
        results[name] = images
        if args.save_stages:
            args.save_stages.mkdir(parents=True, exist_ok=True)
            write_mp4(args.save_stages / f"{name}.mp4", images, FRAMES_PER_SECOND[name])
            write_sheet(args.save_stages / f"{name}.png", images)
    return results


def _save(args: argparse.Namespace, results: dict[str, Tensor]) -> None:
    if args.frames_out:
        from safetensors.torch import save_file

        save_file({name: images.contiguous() for name, images in results.items()}, args.frames_out)
    if args.out:
        name, images = list(results.items())[-1]
        write_mp4(args.out, images, FRAMES_PER_SECOND[name])
        print(args.out)
