"""python -m show1_engine upscale: a video file four times as large, audio kept, of any length."""

import argparse

from ..films.steps import Step, Upscale
from ..models.kinds import PIXEL_SR
from ..stages.pixel_sr import PixelSRSettings
from .arguments import UPSCALE
from .common import settings
from .footage import Cascade, process, refine


def run(args: argparse.Namespace) -> None:
    process(args, steps)


def steps(args: argparse.Namespace, cascade: Cascade) -> list[Step]:
    positive, negative = cascade.t5()
    first = Upscale(
        model=cascade.model(PIXEL_SR),
        positive=positive,
        negative=negative,
        settings=settings(args, PixelSRSettings(**UPSCALE), "pixel_sr"),
    )
    if not args.refine:
        return [first]
    avoided = args.refine_negative_prompt
    return [first, refine(args, cascade, negative=avoided, prefix="refine")]
