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
from .commands import download, generate, laboratory, process, train
from .errors import Show1Error
from .loading import DTYPES


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments and arguments[0] in laboratory.PACKAGES:
            return laboratory.hand_on(arguments[0], arguments[1:])
        args = _parser().parse_args(arguments)
        return args.func(args) or 0
    except (Show1Error, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m show1_engine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    generate.add_parser(commands)
    process.add_parser(commands)
    train.add_parser(commands)
    download.add_parser(commands)
    command = commands.add_parser("convert", help="write a model folder as one .safetensors file")
    command.add_argument(
        "source", type=Path, help="diffusers-layout folder (unet/, scheduler/, ...)"
    )
    command.add_argument("target", type=Path, help="the .safetensors file to write")
    command.add_argument("--dtype", choices=["keep", "fp32", "fp16", "bf16"], default="keep")
    command.set_defaults(func=_convert)
    for name, what in laboratory.HELP.items():
        commands.add_parser(name, help=what, add_help=False)
    return parser


def _convert(args: argparse.Namespace) -> int:
    convert(args.source, args.target, DTYPES.get(args.dtype))
    print(args.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
