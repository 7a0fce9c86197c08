"""What the commands share when they run: the models, the device and the settings asked for."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundled import EDITIONS, Edition
from ..errors import InputError, number_within, whole_within

if TYPE_CHECKING:
    from ..runtime import PlainRuntime

MOST_WORKERS = 10_000


def runtime(args: argparse.Namespace) -> PlainRuntime:
    from ..runtime import PlainRuntime, device_and_dtype

    return PlainRuntime(*device_and_dtype(args.device, args.dtype))


def on_ray(args: argparse.Namespace) -> bool:
    """Whether workers are asked for."""
    return args.workers is not None or args.address is not None


def check_workers(args: argparse.Namespace) -> None:
    """InputError unless what is said of workers can be."""
    for name, value in (("--workers", args.workers), ("--threads", args.threads)):
        if value is not None:
            whole_within(name, value, 1, most=MOST_WORKERS)
    if args.gpus is not None:
        number_within("--gpus", args.gpus, 0, most=MOST_WORKERS)
        if not on_ray(args):
            raise InputError(
                "--gpus is what a worker of Ray takes; give --workers N or --address, too"
            )


def share_of_card(args: argparse.Namespace) -> float | None:
    """What a worker takes of a card; None: 1 where there are cards."""
    return 0 if args.device == "cpu" and args.gpus is None else args.gpus


def models_folder(args: argparse.Namespace) -> Path:
    """The folder --models names."""
    edition = bundled(args)
    return edition.folder if edition else Path(args.models)


def bundled(args: argparse.Namespace) -> Edition | None:
    """The bundled cascade that --models names."""
    return EDITIONS.get(str(args.models))


def settings(args: argparse.Namespace, defaults: Any, stage: str, prefix: str = "") -> Any:
    """The stage's settings: as given, else what suits the micro models, else the defaults."""
    edition = bundled(args)
    preset = edition.settings.get(stage, {}) if edition else {}
    chosen = {**preset, **given(args, defaults, prefix), "seed": args.seed}
    return dataclasses.replace(defaults, **chosen)


def given(args: argparse.Namespace, defaults: Any, prefix: str = "") -> dict[str, Any]:
    """Those of the settings that the command line gives."""
    start = f"{prefix}_" if prefix else ""
    names = [field.name for field in dataclasses.fields(defaults)]
    values = {name: getattr(args, start + name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}
