"""python -m show1_engine interpolate: a video file at a multiple of its rate, audio kept, of any
length.
"""

import argparse

from ..films.steps import Interpolate, Step
from ..models.kinds import INTERPOLATION
from ..stages.interpolate import InterpolateSettings
from .arguments import INTERPOLATE
from .common import settings
from .footage import Cascade, process


def run(args: argparse.Namespace) -> None:
    process(args, steps)


def steps(args: argparse.Namespace, cascade: Cascade) -> list[Step]:
    positive, negative = cascade.t5()
    return [
        Interpolate(
            model=cascade.model(INTERPOLATION),
            positive=positive,
            negative=negative,
            settings=settings(args, InterpolateSettings(**INTERPOLATE), "interpolate"),
        )
    ]
