"""What the commands share when they run: the models, the device and the settings asked for."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundled import SETTINGS, WEIGHTS

if TYPE_CHECKING:
    from ..runtime import PlainRuntime

BUNDLED = "micro"  # as --models names it


def runtime(args: argparse.Namespace) -> PlainRuntime:
    from ..runtime import PlainRuntime, device_and_dtype

    return PlainRuntime(*device_and_dtype(args.device, args.dtype))


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
