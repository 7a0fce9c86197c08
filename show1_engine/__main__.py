"""python -m show1_engine: the cascade without ComfyUI.

    generate    a prompt to a video
    convert     a diffusers-layout model folder to one .safetensors file
    micro       the bundled tiny cascade
"""

import argparse
import dataclasses
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from .cascade import FRAMES_PER_SECOND, STAGES, Cascade, run
from .checkpoints.convert import convert
from .errors import Show1Error
from .host import PlainRuntime
from .loading import DTYPES
from .micro import cli as micro_cli
from .micro import models as micro_models
from .sampling.loop import Report
from .video import write_mp4, write_sheet

_PREFIXES = {"keyframes": "keyframes", "interpolate": "interpolate", "first-frame": "first_frame",
             "pixel-sr": "pixel_sr", "expert": "expert"}


def main(arguments: list[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    try:
        return args.func(args) or 0
    except (Show1Error, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m show1_engine", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_generate(commands)
    command = commands.add_parser("convert", help="write a model folder as one .safetensors file")
    command.add_argument("source", type=Path, help="diffusers-layout folder (unet/, scheduler/, …)")
    command.add_argument("target", type=Path, help="the .safetensors file to write")
    command.add_argument("--dtype", choices=["keep", "fp32", "fp16", "bf16"], default="keep")
    command.set_defaults(func=_convert)
    micro_cli.add_parser(commands)
    return parser


def _add_generate(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("generate", help="sample a video from a prompt")
    add = command.add_argument
    add("--models", default="micro", help="folder with the models of the cascade, or 'micro' (bundled)")
    add("--prompt", required=True)
    add("--negative-prompt", default=Cascade.negative_prompt, help="for the latent stage (default: %(default)s)")
    add("--pixel-negative-prompt", default="", help="for the pixel stages (default: the empty prompt)")
    add("--seed", type=int, default=0)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps …")
    add("--dtype", choices=["auto", "fp32", "fp16", "bf16"], default="auto", help="auto: fp16 on cuda, fp32 elsewhere")
    add("--out", type=Path, help="mp4 of the last stage")
    add("--save-stages", type=Path, metavar="DIR", help="mp4 and contact sheet of every stage")
    add("--frames-out", type=Path, metavar="FILE", help="float32 frames of every stage as .safetensors")
    add("--until", choices=STAGES, default=STAGES[-1], help="last stage to run")
    add("--reference", action="store_true", help="the original's windows and 8-bit hand-over, flaws included")
    for prefix, name in _PREFIXES.items():
        group = command.add_argument_group(f"{prefix} stage")
        defaults = _defaults(name)
        for setting in dataclasses.fields(defaults):
            if setting.name != "seed":
                value = getattr(defaults, setting.name)
                group.add_argument(f"--{prefix}-{setting.name.replace('_', '-')}", type=type(value), metavar="X",
                                   help=f"default {value}")
    command.set_defaults(func=_generate)


def _defaults(name: str) -> object:
    field = Cascade.__dataclass_fields__[name]
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()


def _settings(args: argparse.Namespace, name: str, preset: dict[str, dict]) -> object:
    defaults = _defaults(name)
    given = {f.name: getattr(args, f"{name}_{f.name}", None) for f in dataclasses.fields(defaults)}
    given = {key: value for key, value in given.items() if value is not None}
    return dataclasses.replace(defaults, **{**preset.get(name, {}), **given, "seed": args.seed})


def _generate(args: argparse.Namespace) -> int:
    micro = args.models == "micro"
    with tempfile.TemporaryDirectory() if micro else nullcontext() as scratch:
        models = micro_models(Path(scratch)) if micro else Path(args.models)
        preset = micro_cli.SETTINGS if micro else {}
        cascade = Cascade(models, args.prompt, args.negative_prompt, args.pixel_negative_prompt, until=args.until,
                          reference=args.reference,
                          **{name: _settings(args, name, preset) for name in _PREFIXES.values()})
        _save(args, _run(args, cascade))
    return 0


def _run(args: argparse.Namespace, cascade: Cascade) -> dict[str, Tensor]:
    device = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    dtype = args.dtype if args.dtype != "auto" else "fp16" if device.startswith("cuda") else "fp32"
    results = {}
    for name, images in run(cascade, PlainRuntime(device, DTYPES[dtype]), _progress):
        print(f"\r{name}: {len(images)} frames {images.shape[2]}x{images.shape[1]}" + " " * 20, file=sys.stderr)
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


def _progress(name: str) -> Report:
    started = time.monotonic()

    def report(step: int, total: int, preview: object = None) -> None:
        left = (time.monotonic() - started) / step * (total - step)
        print(f"\r{name}: step {step}/{total}, {left:.0f} s left   ", end="", file=sys.stderr, flush=True)

    return report


def _convert(args: argparse.Namespace) -> int:
    convert(args.source, args.target, DTYPES.get(args.dtype))
    print(args.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
