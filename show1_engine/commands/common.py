"""What the commands share: models and device, a stage's settings as options, progress on the
terminal.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch

from ..bundled import SETTINGS, WEIGHTS
from ..loading import DTYPES
from ..progress import Clock, Preview, Report, duration
from ..runtime import PlainRuntime


def add_runtime(command: argparse.ArgumentParser) -> None:
    """--models, --seed, --device, --dtype."""
    add = command.add_argument
    add(
        "--models",
        default="micro",
        help="folder with the models of the cascade, or 'micro' (bundled)",
    )
    add("--seed", type=int, default=0)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ...")
    add(
        "--dtype",
        choices=["auto", "fp32", "fp16", "bf16"],
        default="auto",
        help="auto: fp16 on cuda, fp32 elsewhere",
    )


def add_text_encoder(command: argparse.ArgumentParser) -> None:
    """--text-encoder."""
    command.add_argument(
        "--text-encoder",
        type=Path,
        metavar="FILE",
        help="T5 v1.1 XXL for the pixel stages: a t5xxl .safetensors file (fp16, fp8, scaled fp8) "
        "or "
        "a folder with text_encoder/ and tokenizer/ (default: the one in --models)",
    )


def runtime(args: argparse.Namespace) -> PlainRuntime:
    device = (
        args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    )
    dtype = args.dtype if args.dtype != "auto" else "fp16" if device.startswith("cuda") else "fp32"
    return PlainRuntime(device, DTYPES[dtype])


def models_folder(args: argparse.Namespace) -> Path:
    """The folder --models names; 'micro' is the bundled one."""
    return WEIGHTS if args.models == "micro" else Path(args.models)


def add_settings(
    group: Any, defaults: Any, prefix: str = "", without: tuple[str, ...] = ()
) -> None:
    """An option for every field of a stage's settings but the seed and those `without`,
    `--<prefix>-<field>`.
    """
    for setting in dataclasses.fields(defaults):
        if setting.name in without:
            continue
        value = getattr(defaults, setting.name)
        name = "-".join(filter(None, (prefix, setting.name.replace("_", "-"))))
        if isinstance(value, bool):
            flag = argparse.BooleanOptionalAction
            group.add_argument(f"--{name}", action=flag, default=None, help=f"default {value}")
        elif setting.name != "seed":
            group.add_argument(f"--{name}", type=type(value), metavar="X", help=f"default {value}")


def settings(args: argparse.Namespace, defaults: Any, stage: str, prefix: str = "") -> Any:
    """The stage's settings: as given, else what suits the micro models, else the defaults."""
    prefix = f"{prefix}_" if prefix else ""
    given = {
        f.name: getattr(args, prefix + f.name, None)
        for f in dataclasses.fields(defaults)
        if f.name != "seed"
    }
    given = {name: value for name, value in given.items() if value is not None}
    preset = SETTINGS.get(stage, {}) if args.models == "micro" else {}
    return dataclasses.replace(defaults, **{**preset, **given, "seed": args.seed})


def progress(name: str) -> Report:
    """A report() that keeps one line of the terminal up to date."""
    clock = Clock()

    def report(step: int, total: int, preview: Preview | None = None) -> None:
        left = clock.left(step, total)
        rest = "" if left is None else f", {duration(left)} left"
        print(f"\r{name}: step {step}/{total}{rest}   ", end="", file=sys.stderr, flush=True)

    return report


def say(text: str) -> None:
    """A line on the terminal in place of the progress."""
    print(f"\r{text}" + " " * 20, file=sys.stderr, flush=True)
