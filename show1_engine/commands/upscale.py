"""python -m show1_engine upscale: a video file four times as large, audio kept, of any length."""

import argparse
import dataclasses

from torch import Tensor

from ..frames import from_model, resize, to_model
from ..models.bundle import Show1Model
from ..models.kinds import PIXEL_SR
from ..stages.pixel_sr import SCALE, PixelSRSettings, pixel_sr
from .arguments import UPSCALE
from .common import settings
from .footage import Texts, process
from .terminal import Bar


def run(args: argparse.Namespace) -> None:
    asked = settings(args, PixelSRSettings(**UPSCALE), "pixel_sr")
    # Pieces are chained at the model's own size; what is written is resampled from that.
    native = dataclasses.replace(asked, scale=float(SCALE))
    bar = Bar("upscale")

    def stage(model: Show1Model, text: Texts, piece: Tensor, last: Tensor | None) -> Tensor:
        return pixel_sr(model, piece, *text, settings=native, first_frame=last, report=bar)

    def finish(images: Tensor) -> Tensor:
        if asked.scale == SCALE:
            return images
        height, width = (max(1, round(side / SCALE * asked.scale)) for side in images.shape[1:3])
        return from_model(resize(to_model(images, images.device), height, width))

    process(args, PIXEL_SR, stage, finish=finish, rate=1, bar=bar)
