"""python -m show1_engine upscale | interpolate: a video file to a video file, audio kept, of any
length.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ..cascade import t5_of
from ..checkpoints.find import cascade_in, missing_model
from ..frames import from_model, resize, to_model
from ..loading import load_model
from ..models.bundle import Show1Model
from ..models.kinds import INTERPOLATION, PIXEL_SR
from ..stages.interpolate import FACTOR, InterpolateSettings, interpolate
from ..stages.pixel_sr import SCALE, PixelSRSettings, pixel_sr
from ..streaming import chained
from ..video import VideoReader, VideoWriter
from .common import (
    add_runtime,
    add_settings,
    add_text_encoder,
    models_folder,
    progress,
    runtime,
    say,
    settings,
)

_CUT_AWARE = {"cuts": True}  # a file is not one scene of our own making
UPSCALE = PixelSRSettings(**_CUT_AWARE, color_match="wavelet")
INTERPOLATE = InterpolateSettings(**_CUT_AWARE)


def add_parser(commands: argparse._SubParsersAction) -> None:
    for name, function, defaults, what in (
        ("upscale", _upscale, UPSCALE, "enlarge a video file four times (pixel super-resolution)"),
        (
            "interpolate",
            _interpolate,
            INTERPOLATE,
            "put three new frames between every two of a video file",
        ),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("source", type=Path, help="video file")
        command.add_argument("target", type=Path, help="mp4 to write")
        command.add_argument(
            "--prompt", default="", help="what is to be seen (default: the empty prompt)"
        )
        command.add_argument("--negative-prompt", default="")
        add_runtime(command)
        add_text_encoder(command)
        add_settings(command.add_argument_group("sampling"), defaults)
        command.set_defaults(func=function)


def _upscale(args: argparse.Namespace) -> int:
    s = settings(args, UPSCALE, "pixel_sr")
    native = dataclasses.replace(
        s, scale=float(SCALE)
    )  # pieces are chained at the model's own size

    def stage(
        model: Show1Model, text: tuple[Tensor, Tensor], piece: Tensor, last: Tensor | None
    ) -> Tensor:
        return pixel_sr(model, piece, *text, native, last, progress("upscale"))

    def finish(images: Tensor) -> Tensor:
        height, width = (max(1, round(side / SCALE * s.scale)) for side in images.shape[1:3])
        return (
            from_model(resize(to_model(images, images.device), height, width))
            if s.scale != SCALE
            else images
        )

    return _process(args, PIXEL_SR, stage, finish, 1)


def _interpolate(args: argparse.Namespace) -> int:
    s = settings(args, INTERPOLATE, "interpolate")

    def stage(
        model: Show1Model, text: tuple[Tensor, Tensor], piece: Tensor, last: Tensor | None
    ) -> Tensor:
        return interpolate(model, piece, *text, s, progress("interpolate"))

    return _process(args, INTERPOLATION, stage, lambda images: images, FACTOR)


def _process(
    args: argparse.Namespace,
    kind: str,
    stage: Callable[..., Tensor],
    finish: Callable[[Tensor], Tensor],
    rate: int,
) -> int:
    """Reads, works and writes piece by piece: neither file needs to fit into memory."""
    models, place = models_folder(args), runtime(args)
    with VideoReader(args.source) as video:
        paths = cascade_in(models)
        if kind not in paths:
            raise missing_model(models, kind)
        states = t5_of(models, place, paths, args.text_encoder).encode(
            [args.prompt, args.negative_prompt]
        )
        model, text, written = load_model(paths[kind], place), (states[:1], states[1:]), 0
        with VideoWriter(args.target, video.fps * rate, audio_from=args.source) as out:
            for images in chained(lambda piece, last: stage(model, text, piece, last), video):
                out.write(finish(images))
                written += len(images)
                say(f"{written} frames written")
    print(args.target)
    return 0
