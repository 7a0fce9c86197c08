"""python -m show1_engine: the cascade without ComfyUI.

generate      a prompt to a video
batch         many prompts to videos, on one machine or several
upscale       a video file, four times as large; --refine: and its detail redrawn
refine        a video file, its detail redrawn by the latent expert
interpolate   a video file at four times the rate
train         a motion LoRA from a video file
train-stage   a stage of the cascade on a folder of captioned videos
encode        its captions and latents beforehand
download      published models
convert       a diffusers-layout model folder to one .safetensors file
evaluate      clips measured as the paper measures them
micro         the bundled tiny cascade
bench         what it costs, beside a plain baseline
"""

import argparse
import sys
from pkgutil import resolve_name
from types import ModuleType

from .commands import laboratory
from .commands.arguments import COMMANDS, Parser
from .errors import Show1Error


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments and arguments[0] in laboratory.PACKAGES:
            return laboratory.hand_on(arguments[0], arguments[1:])
        args = parser().parse_args(arguments)
        return _command(args.command).run(args) or 0
    except (Show1Error, OSError) as error:
        from .commands.terminal import say  # here, as --help can do without tqdm too

        say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        return 130  # as shells say it


def _command(name: str) -> ModuleType:
    """What runs a command. Imported when it runs, and not before: most need torch, which takes
    seconds to import.
    """
    return resolve_name(f"{__package__}.commands.{name.replace('-', '_')}")


def parser() -> argparse.ArgumentParser:
    """Of all commands; `command` is the name of the one that is asked for."""
    whole = Parser(
        prog="python -m show1_engine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, (fill, what) in COMMANDS.items():
        fill(commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}."))
    for name, what in laboratory.HELP.items():
        commands.add_parser(name, help=what, add_help=False)
    return whole


if __name__ == "__main__":
    sys.exit(main())
