"""What the commands share when they run: the models, the device and the settings asked for."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch

from ..bundled import SETTINGS, WEIGHTS
from ..loading import DTYPES
from ..runtime import PlainRuntime

BUNDLED = "micro"  # as --models names it


def runtime(args: argparse.Namespace) -> PlainRuntime:
    device = args.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = args.dtype
    if dtype == "auto":
        dtype = "fp16" if device.startswith("cuda") else "fp32"
    return PlainRuntime(device, DTYPES[dtype])


def models_folder(args: argparse.Namespace) -> Path:
    """The folder --models names."""
    return WEIGHTS if args.models == BUNDLED else Path(args.models)


def settings(args: argparse.Namespace, defaults: Any, stage: str, prefix: str = "") -> Any:
    """The stage's settings: as given, else what suits the micro models, else the defaults."""
    preset = SETTINGS.get(stage, {}) if args.models == BUNDLED else {}
    chosen = {**preset, **given(args, defaults, prefix), "seed": args.seed}
    return dataclasses.replace(defaults, **chosen)


def given(args: argparse.Namespace, defaults: Any, prefix: str = "") -> dict[str, Any]:
    """Those of the settings that the command line gives."""
    start = f"{prefix}_" if prefix else ""
    names = [field.name for field in dataclasses.fields(defaults)]
    values = {name: getattr(args, start + name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}
