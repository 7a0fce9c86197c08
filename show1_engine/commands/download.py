"""python -m show1_engine download: published models, fetched only when asked for."""

import argparse
import sys
from functools import partial
from pathlib import Path

from ..checkpoints.download import download
from ..checkpoints.registry import PUBLISHED

_PACK = Path(__file__).absolute().parents[2]


def add_parser(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("download", help="fetch published models")
    command.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one or several of {', '.join(PUBLISHED)}"
    )
    command.add_argument(
        "--into", type=Path, metavar="DIR", default=_models_folder(), help="default: %(default)s"
    )
    command.add_argument(
        "--accept-license", action="store_true", help="the licences are known and accepted"
    )
    command.add_argument(
        "--list", action="store_true", help="what there is, how large, under which licence"
    )
    command.set_defaults(func=_download)


def _models_folder() -> Path:
    """ComfyUI's models/show1 if this is a node pack, else models/show1 here."""
    return (
        (_PACK.parents[1] if _PACK.parent.name == "custom_nodes" else Path()) / "models" / "show1"
    )


def _download(args: argparse.Namespace) -> int:
    if args.list or not args.names:
        for item in PUBLISHED.values():
            print(f"{item.name}: {item.what}, {item.size}. {item.terms}")
    for name in args.names:
        try:
            folder = download(name, args.into, args.accept_license, partial(_progress, name))
        finally:
            _line("")
        print(folder)
    return 0


def _progress(name: str, done: int, total: int, text: str) -> None:
    _line(f"{name}: {done / total:.0%}, " + ", ".join(text.splitlines()))


def _line(text: str) -> None:
    """Keeps one line of the terminal up to date."""
    if sys.stderr.isatty():
        print(f"\r{text[:110]:<110}\r", end="", file=sys.stderr, flush=True)
