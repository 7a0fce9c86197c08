"""python -m show1_engine train: the motion of one clip as a LoRA."""

import argparse
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..bundled import TRAINING
from ..cascade import t5_of
from ..checkpoints.find import cascade_in, missing_model, text_encoder_in
from ..errors import InputError
from ..loading import load_model, load_text_encoder
from ..lora.formats import SPELLINGS, spelled
from ..models.kinds import KEYFRAMES, LATENT_EXPERT, PIXEL_SR
from ..models.text import CLIP, TextEncoder
from ..progress import Preview, Report
from ..runtime import PlainRuntime
from ..training.motion import MotionTraining
from ..training.settings import TrainSettings
from ..video import VideoReader, write_sheet
from .common import (
    add_runtime,
    add_settings,
    add_text_encoder,
    models_folder,
    progress,
    runtime,
    say,
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("train", help="learn the motion of a video file as a LoRA")
    add = command.add_argument
    add("clip", type=Path, help="video file; one scene with the motion")
    add("lora", type=Path, help=".safetensors file to write")
    add("--prompt", required=True, help="what the clip shows, without how it moves")
    add("--sample-prompt", help="what the samples show (default: --prompt)")
    add(
        "--sample-sheet",
        type=Path,
        metavar="PNG",
        help="where the latest sample goes (with --sample-every)",
    )
    stage = command.add_mutually_exclusive_group()
    stage.add_argument(
        "--expert",
        dest="kind",
        action="store_const",
        const=LATENT_EXPERT,
        default=KEYFRAMES,
        help="train the latent expert in place of the keyframe model",
    )
    stage.add_argument(
        "--pixel-sr",
        dest="kind",
        action="store_const",
        const=PIXEL_SR,
        help="train pixel super-resolution: for a texture",
    )
    add(
        "--spelling",
        choices=SPELLINGS,
        default="peft",
        help="how layers are named in the file (default: %(default)s)",
    )
    add_runtime(command)
    add_text_encoder(command)
    add_settings(command.add_argument_group("training"), TrainSettings())
    command.set_defaults(func=_train)


def _train(args: argparse.Namespace) -> int:
    if args.lora.suffix != ".safetensors" or not args.lora.parent.is_dir():
        raise InputError(
            f"'{args.lora}' cannot be written: give a .safetensors file in a folder that exists"
        )
    training = _training(args, models_folder(args))
    _run(training, args.sample_sheet)
    save_file(spelled(training.lora, args.spelling), args.lora)
    say(
        f"loss {_mean(training.losses[:20]):.4f} at first, {_mean(training.losses[-20:]):.4f} in "
        "the end"
    )
    print(args.lora)
    return 0


def _training(args: argparse.Namespace, models: Path) -> MotionTraining:
    if args.dtype == "auto":
        args.dtype = "bf16" if torch.cuda.is_available() and args.device != "cpu" else "fp32"
    paths, place = cascade_in(models), runtime(args)
    if args.kind not in paths:
        raise missing_model(models, args.kind)
    encoder = _encoder(args, models, place, paths)
    states = encoder.encode([args.prompt, args.sample_prompt or args.prompt, ""])
    return MotionTraining(
        load_model(paths[args.kind], place),
        _clip(args.clip),
        states[:1],
        _settings(args),
        (states[1:2], states[2:]),
        states[2:],
    )


def _encoder(
    args: argparse.Namespace, models: Path, place: PlainRuntime, paths: dict[str, Path]
) -> TextEncoder:
    if args.kind != LATENT_EXPERT:
        return t5_of(models, place, paths, args.text_encoder)
    if args.text_encoder:
        raise InputError(
            "--text-encoder is T5, for the pixel stages; the latent expert reads text with the "
            "OpenCLIP "
            "that lies with it: leave it out"
        )
    return load_text_encoder(text_encoder_in(models, CLIP, paths[args.kind]), place)


def _settings(args: argparse.Namespace) -> TrainSettings:
    given: dict[str, Any] = {
        name: getattr(args, name) for name in TrainSettings.__dataclass_fields__
    }
    preset = TRAINING if args.models == "micro" else {}
    return TrainSettings(
        **{**preset, **{name: value for name, value in given.items() if value is not None}}
    )


def _clip(path: Path) -> Tensor:
    with VideoReader(path) as video:
        return torch.stack(list(video))


class _Stopped(Exception):
    """Ctrl+C, taken at the end of a step."""


def _run(training: MotionTraining, sheet: Path | None) -> None:
    """Trains; the first Ctrl+C ends it after the running step, and what is learned is kept."""
    stopped, show = [], progress("train")

    def stop(*_: int | FrameType | None) -> None:
        stopped.append(True)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        training.run(_with_sheet(show, sheet, stopped))
    except _Stopped:
        say(f"stopped after {len(training.losses)} of {training.settings.steps} steps")
    finally:
        signal.signal(signal.SIGINT, before)


def _with_sheet(show: Report, sheet: Path | None, stopped: list[bool]) -> Report:
    def report(step: int, total: int, preview: Preview | None = None) -> None:
        show(step, total, None)
        if preview is not None and sheet is not None:
            write_sheet(sheet, preview())
        if stopped:
            raise _Stopped

    return report


def _mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)
