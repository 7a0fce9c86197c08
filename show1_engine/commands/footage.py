"""Video file to video file, which upscale and interpolate share."""

import argparse
from collections.abc import Callable

from torch import Tensor

from ..cascade import t5_of
from ..checkpoints.find import cascade_in, missing_model
from ..loading import load_model
from ..streaming import chained
from ..video import VideoReader, VideoWriter
from .common import models_folder, runtime
from .terminal import Bar, say

Texts = tuple[Tensor, Tensor]  # the states of the prompt and of the negative prompt
# (model, texts, a piece's frames, last: the last frame of the piece before as made) -> frames
Stage = Callable[..., Tensor]


def process(
    args: argparse.Namespace,
    kind: str,
    stage: Stage,
    *,
    finish: Callable[[Tensor], Tensor],
    rate: int,
    bar: Bar,
) -> None:
    """Reads, works and writes piece by piece: neither file needs to fit into memory.

    `finish` makes of a piece's frames what is written, at `rate` times the file's own. `bar`, which
    the stage reports to, says how much is written.
    """
    models, place = models_folder(args), runtime(args)
    with VideoReader(args.source) as video:
        paths = cascade_in(models)
        if kind not in paths:
            raise missing_model(models, kind)
        encoder = t5_of(models, place, paths, chosen=args.text_encoder)
        states = encoder.encode([args.prompt, args.negative_prompt])
        text = states[:1], states[1:]
        model, written = load_model(paths[kind], place), 0
        with VideoWriter(args.target, video.fps * rate, audio_from=args.source) as out:
            for images in chained(lambda piece, last: stage(model, text, piece, last=last), video):
                out.write(finish(images))
                written += len(images)
                bar.note = f"{written} frames written"
    say(f"{written} frames written")
    print(args.target)
