"""python -m show1_engine train: the motion of one clip as a LoRA."""

import argparse
import signal
from pathlib import Path
from types import FrameType

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..bundled import TRAINING
from ..cascade import t5_of
from ..checkpoints.find import cascade_in, missing_model, text_encoder_in
from ..errors import InputError
from ..loading import load_model, load_text_encoder
from ..lora.formats import spelled
from ..models.kinds import LATENT_EXPERT
from ..models.text import CLIP, TextEncoder
from ..progress import Preview, Report
from ..runtime import PlainRuntime
from ..training.motion import MotionTraining
from ..training.settings import TrainSettings
from ..video import VideoReader, write_sheet
from .common import bundled, given, models_folder, runtime
from .terminal import Bar, say


def run(args: argparse.Namespace) -> None:
    if args.lora.suffix != ".safetensors" or not args.lora.parent.is_dir():
        raise InputError(
            f"'{args.lora}' cannot be written: give a .safetensors file in a folder that exists"
        )
    training = _training(args, models_folder(args))
    _learn(training, args.sample_sheet)
    save_file(spelled(training.lora, args.spelling), args.lora)
    first, last = _mean(training.losses[:20]), _mean(training.losses[-20:])
    say(f"loss {first:.4f} at first, {last:.4f} in the end")
    print(args.lora)


def _training(args: argparse.Namespace, models: Path) -> MotionTraining:
    if args.dtype == "auto":
        args.dtype = "bf16" if torch.cuda.is_available() and args.device != "cpu" else "fp32"
    paths, place = cascade_in(models), runtime(args)
    if args.kind not in paths:
        raise missing_model(models, args.kind)
    prompts = [args.prompt, args.sample_prompt or args.prompt, ""]
    # Without a name: the text encoder is gone before the model is loaded.
    states = _encoder(args, models, place, paths=paths).encode(prompts)
    return MotionTraining(
        load_model(paths[args.kind], place),
        _clip(args.clip),
        states[:1],
        settings=_settings(args),
        sample=(states[1:2], states[2:]),
        empty=states[2:],
    )


def _encoder(
    args: argparse.Namespace, models: Path, place: PlainRuntime, paths: dict[str, Path]
) -> TextEncoder:
    if args.kind != LATENT_EXPERT:
        return t5_of(models, place, paths, chosen=args.text_encoder)
    if args.text_encoder:
        raise InputError(
            "--text-encoder is T5, for the pixel stages; the latent expert reads text with the "
            "OpenCLIP that lies with it: leave it out"
        )
    return load_text_encoder(text_encoder_in(models, CLIP, paths[args.kind]), place)


def _settings(args: argparse.Namespace) -> TrainSettings:
    preset = TRAINING if bundled(args) else {}
    return TrainSettings(**{**preset, **given(args, TrainSettings())})


def _clip(path: Path) -> Tensor:
    with VideoReader(path) as video:
        return torch.stack(list(video))


class _Stopped(Exception):
    """Ctrl+C, taken at the end of a step."""


def _learn(training: MotionTraining, sheet: Path | None) -> None:
    """Trains; the first Ctrl+C ends it after the running step, and what is learned is kept."""
    stopped, bar = [], Bar("train")

    def stop(*_: int | FrameType | None) -> None:
        stopped.append(True)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        training.run(_with_sheet(bar, sheet, stopped))
    except _Stopped:
        bar.close()
        say(f"stopped after {len(training.losses)} of {training.settings.steps} steps")
    finally:
        signal.signal(signal.SIGINT, before)


def _with_sheet(bar: Bar, sheet: Path | None, stopped: list[bool]) -> Report:
    def report(step: int, total: int, preview: Preview | None = None) -> None:
        bar(step, total)
        if preview is not None and sheet is not None:
            write_sheet(sheet, preview())
        if stopped:
            raise _Stopped

    report.plan = bar.plan
    return report


def _mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)
