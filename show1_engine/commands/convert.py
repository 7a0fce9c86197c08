"""python -m show1_engine convert: a diffusers-layout model folder to one .safetensors file."""

import argparse

from ..checkpoints.convert import convert
from ..loading import DTYPES


def run(args: argparse.Namespace) -> None:
    convert(args.source, args.target, DTYPES.get(args.dtype))
    print(args.target)
