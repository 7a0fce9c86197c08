"""python -m show1_engine refine: the latent expert on a video file, audio kept, of any length."""

import argparse

from ..films.steps import Step
from .footage import Cascade, process, refine


def run(args: argparse.Namespace) -> None:
    process(args, steps)


def steps(args: argparse.Namespace, cascade: Cascade) -> list[Step]:
    return [refine(args, cascade, negative=args.negative_prompt)]
