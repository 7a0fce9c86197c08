"""python -m show1_engine refine: the latent expert on a video file, audio kept, of any length."""

import argparse

from ..films.steps import Step
from .footage import Cascade, process, refine


def run(args: argparse.Namespace) -> None:
    def steps(cascade: Cascade) -> list[Step]:
        return [refine(args, cascade, negative=args.negative_prompt)]

    process(args, steps, cuts=args.cuts is not False)
