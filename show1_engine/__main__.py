"""python -m show1_engine: the cascade without ComfyUI.

    generate      a prompt to a video
    upscale       a video file, four times as large
    interpolate   a video file at four times the rate
    train         a motion LoRA from a video file
    download      published models
    convert       a diffusers-layout model folder to one .safetensors file
    micro         the bundled tiny cascade
    bench         what it costs, beside a plain baseline
"""

import argparse
import sys
from pathlib import Path

from .checkpoints.convert import convert
from .commands import bench, download, generate, process, repository, train
from .errors import Show1Error
from .loading import DTYPES
from .micro import cli as micro_cli


def main(arguments: list[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    try:
        if "micro_command" in args:
            repository.require(f"micro {args.micro_command}", "show1_engine/micro/world.py")
        return args.func(args) or 0
    except (Show1Error, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m show1_engine", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    generate.add_parser(commands)
    process.add_parser(commands)
    train.add_parser(commands)
    download.add_parser(commands)
    command = commands.add_parser("convert", help="write a model folder as one .safetensors file")
    command.add_argument("source", type=Path, help="diffusers-layout folder (unet/, scheduler/, ...)")
    command.add_argument("target", type=Path, help="the .safetensors file to write")
    command.add_argument("--dtype", choices=["keep", "fp32", "fp16", "bf16"], default="keep")
    command.set_defaults(func=_convert)
    micro_cli.add_parser(commands)
    bench.add_parser(commands)
    return parser


def _convert(args: argparse.Namespace) -> int:
    convert(args.source, args.target, DTYPES.get(args.dtype))
    print(args.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
