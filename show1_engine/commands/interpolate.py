"""python -m show1_engine interpolate: a video file at a multiple of its rate, audio kept, of any
length.
"""

import argparse

from torch import Tensor

from ..models.bundle import Show1Model
from ..models.kinds import INTERPOLATION
from ..stages.interpolate import InterpolateSettings, interpolate
from .arguments import INTERPOLATE
from .common import settings
from .footage import Texts, process
from .terminal import Bar


def run(args: argparse.Namespace) -> None:
    asked = settings(args, InterpolateSettings(**INTERPOLATE), "interpolate")
    bar = Bar("interpolate")

    def stage(model: Show1Model, text: Texts, piece: Tensor, last: Tensor | None) -> Tensor:
        return interpolate(model, piece, *text, settings=asked, report=bar)

    process(args, INTERPOLATION, stage, finish=lambda images: images, rate=asked.factor, bar=bar)
