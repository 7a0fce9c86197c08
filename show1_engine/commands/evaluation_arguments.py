"""What `evaluate` takes: a parser for each of its actions. Imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..evaluation.choices import (
    FITS,
    METRICS,
    NETWORKS,
    PLACES,
    PRESETS,
    RESIZES,
    SHORT,
)
from . import declared

SETS = ("ucf101", "msrvtt", "vbench")
_LISTS = {"place": PLACES, "fit": FITS, "resize": RESIZES, "short": SHORT}
_USUAL = ", ".join(METRICS)


def fill(
    command: argparse.ArgumentParser, generate: Callable[[argparse.ArgumentParser], None]
) -> None:
    """All actions; `action` is the name of the one that is asked for. `generate` fills its parser
    with all that is as in 'batch'.
    """
    command.usage = "%(prog)s ACTION [options]"
    command.epilog = (
        "A run is a folder: prompts, then generate, features, report. 'folder' does it for "
        "any videos. What an option is when left out is said in each action's --help (default: "
        "the protocol's)."
    )
    actions = command.add_subparsers(
        required=True,
        metavar="ACTION",
        dest="action",
        help="what to do",
        prog="python -m show1_engine evaluate",
    )
    for name, (add, what) in ACTIONS.items():
        about = f"{what[0].upper()}{what[1:]}."
        parser = actions.add_parser(name, help=what, description=about)
        if name == "generate":
            generate(parser)
        add(parser)


def _prompts(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "set",
        metavar="SET",
        help=f"{', '.join(SETS)}, a text file with a prompt a line, or a folder of videos with "
        "captions beside them",
    )
    add(
        "source",
        type=Path,
        nargs="?",
        metavar="FILE",
        help="msrvtt: test_videodatainfo.json; vbench: VBench_full_info.json; ucf101: a file of "
        "101 lines CLASS<tab>PROMPT",
    )
    add("--out", type=Path, required=True, metavar="RUN", help="folder of the run, made if needed")
    add(
        "--count",
        type=int,
        metavar="N",
        help="prompts to take (default: 10,000 of ucf101, else all)",
    )
    add(
        "--each",
        type=int,
        metavar="N",
        help="clips of a prompt (vbench, files), or captions of a video (msrvtt) (default: 5 of "
        "vbench, all of msrvtt, else 1)",
    )
    _add_seed(command, "of all clips' seeds")


def _generate(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "features",
        "Of the frames after every stage, before they are encoded: what 'features' makes of the "
        "clips. A choice that is left out is the protocol's.",
    )
    group.add_argument(
        "--features",
        metavar="NAMES",
        help=f"some of {_USUAL}, with commas between (default: none)",
    )
    _add_protocol(group, "--protocol")
    _add_network(group)
    _add_choices(group, without=("real_stride",))


def _features(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path, metavar="RUN", help="a run with generated clips")
    command.add_argument(
        "--stage",
        default="final",
        metavar="NAME",
        help="whose clips: final, a stage that was saved, or all (default: %(default)s)",
    )
    _add_networks(command)
    _add_sampling(command)
    _add_shard(command)


def _real(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("set", metavar="SET", help="ucf101, msrvtt, or folder")
    add("root", type=Path, metavar="ROOT", help="where it is unpacked, or the folder of videos")
    add("--out", type=Path, required=True, metavar="DIR", help="where the features go")
    add(
        "--split",
        choices=("train", "test", "all"),
        default="train",
        help="of ucf101 (default: %(default)s)",
    )
    add(
        "--count",
        type=int,
        metavar="N",
        help="clips to draw (default: the protocol's, or all there are)",
    )
    _add_networks(command)
    _add_sampling(command)
    _add_shard(command)


def _folder(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("fake", type=Path, metavar="FAKE", help="folder of generated videos, any model's")
    add("--real", type=Path, metavar="REAL", help="folder of real videos, or what 'real' wrote")
    add(
        "--captions",
        type=Path,
        metavar="FILE",
        help="table NAME<tab>TEXT or NAME,TEXT (default: NAME.json or NAME.txt beside each video)",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="where all goes (default: FAKE's name with -evaluation, here)",
    )
    _add_networks(command)
    _add_sampling(command)
    _add_report(command)


def _report(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("run", type=Path, metavar="RUN", help="a run with features")
    add("--real", type=Path, metavar="DIR", help="what 'real' wrote")
    _add_metric(command)
    _add_seed(command, "of the draw of clips")
    _add_report(command)


def _vbench(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("run", type=Path, metavar="RUN", help="a run of 'prompts vbench' with its clips")
    add("--info", type=Path, metavar="FILE", help="VBench_full_info.json, for run.sh")
    add(
        "--vbench-python",
        default="python",
        metavar="FILE",
        help="interpreter of VBench's own environment, for run.sh (default: %(default)s)",
    )


def _pairs(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("first", type=Path, metavar="A", help="a run, or a folder of videos")
    add("second", type=Path, metavar="B", help="another, with clips of the same names")
    add("--out", type=Path, required=True, metavar="STUDY", help="folder of the study")
    add("--count", type=int, metavar="N", help="pairs (default: all there are)")
    add("--size", type=int, default=256, metavar="N", help="side in pixels (default: %(default)s)")
    add("--frames", type=int, default=16, metavar="N", help="of each clip (default: %(default)s)")
    add("--fps", type=float, default=8.0, metavar="X", help="of both clips (default: %(default)s)")
    add(
        "--per-page",
        type=int,
        default=32,
        metavar="N",
        help="pairs on a page, which is one file (default: %(default)s)",
    )
    _add_seed(command, "of order and sides")


def _votes(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("study", type=Path, metavar="STUDY", help="the folder that 'pairs' wrote")
    add("votes", type=Path, nargs="+", metavar="VOTES", help="files of votes that came back")


def _weights(command: argparse.ArgumentParser) -> None:
    _add_places(command)


ACTIONS = {
    "prompts": (_prompts, "write the prompts of a set as a run"),
    "generate": (_generate, "make a run's clips, as 'batch' does, and features on the way"),
    "features": (_features, "compute features of a run's clips"),
    "real": (_real, "compute features of real clips"),
    "report": (_report, "write report.json, report.md and report.html of a run"),
    "folder": (_folder, "features and report of any folder of videos"),
    "vbench": (_vbench, "lay a run out for VBench, or read its results"),
    "pairs": (_pairs, "make a blind study of two sets of clips"),
    "votes": (_votes, "say what the votes of a study come to"),
    "weights": (_weights, "list the networks' weights: place, address, identity"),
}


def _add_metric(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--metric",
        default=_USUAL.replace(" ", ""),
        metavar="NAMES",
        help=f"some of {_USUAL}, with commas between (default: all)",
    )
    _add_protocol(command, "--protocol", "--preset")


def _add_protocol(command: Any, *names: str) -> None:
    """`--preset` is its older name, and in 'generate' that of something else."""
    command.add_argument(
        *names,
        choices=tuple(PRESETS),
        default="paper",
        help="what it does not say is chosen, and reported (default: %(default)s)",
    )


def _add_networks(command: argparse.ArgumentParser) -> None:
    _add_metric(command)
    _add_network(command)
    command.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="cpu, cuda, cuda:1 ...; auto: cuda where there is one (default: %(default)s)",
    )


def _add_network(command: Any) -> None:
    """Which network, and its weights."""
    command.add_argument(
        "--network",
        choices=NETWORKS,
        help="in place of each metric's own (default: its own); such numbers compare with no "
        "published ones",
    )
    _add_places(command)
    command.add_argument(
        "--other-weights",
        action="store_true",
        help="take weights that are not the published ones; the report records which",
    )


def _add_places(command: Any) -> None:
    command.add_argument(
        "--weights",
        type=Path,
        action="append",
        metavar="PATH",
        help="file of weights or folder with them; may be given several times (default: "
        "models/show1 and models/show1/evaluation)",
    )


def _add_sampling(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("frames", "Left out: as the protocol has it.")
    _add_choices(group)
    _add_seed(command, "of random places and draws")


def _add_choices(group: Any, without: tuple[str, ...] = ()) -> None:
    """The settings of Sampling: left out, they are the protocol's."""
    for field in declared.settings("evaluation.choices", "Sampling").values():
        if field.name in without:
            continue
        option, text = "--" + field.name.replace("_", "-"), field.text.rstrip(".")
        if field.type is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, help=text)
        elif field.name in _LISTS:
            group.add_argument(option, choices=_LISTS[field.name], help=text)
        else:
            group.add_argument(option, type=int, metavar="N", help=text)


def _add_seed(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument(
        "--seed", type=int, default=0, metavar="N", help=f"{what} (default: %(default)s)"
    )


def _add_shard(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--shard",
        type=shard,
        default=(1, 1),
        metavar="I/N",
        help="only part I of N, on as many machines as you like (default: 1/1)",
    )


def shard(text: str) -> tuple[int, int]:
    """ "2/8"."""
    index, slash, parts = text.partition("/")
    if not (slash and index.isdecimal() and parts.isdecimal() and 1 <= int(index) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N")
    return int(index), int(parts)


def _add_report(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--count",
        type=int,
        metavar="N",
        help="clips of each kind, drawn by the seed (default: the protocol's, or all if they are "
        "fewer and equally many)",
    )
    add(
        "--splits",
        type=int,
        metavar="N",
        help="of the Inception score (default: the protocol's)",
    )
    add(
        "--force",
        action="store_true",
        help="unequal numbers of clips, and an Inception score of fewer than 1,000, are meant",
    )
    add(
        "--samples",
        type=int,
        default=24,
        metavar="N",
        help="clips on the page (default: %(default)s)",
    )
