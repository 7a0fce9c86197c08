"""Stages on frames that come one by one: a long file is worked through in pieces that share one
frame.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor

PIECE = 57  # frames: eight whole windows of pixel SR (8 * 7 + 1), so pieces end where windows do


def pieces(frames: Iterable[Tensor], length: int = PIECE) -> Iterator[Tensor]:
    """(n, H, W, C) stretches of at most `length` frames; each begins with the last frame of the one
    before.
    """
    source = iter(frames)
    piece = list(islice(source, length))
    while piece:
        yield torch.stack(piece)
        more = list(islice(source, length - 1))
        piece = [piece[-1], *more] if more else []


def chained(
    stage: Callable[[Tensor, Tensor | None], Tensor], frames: Iterable[Tensor]
) -> Iterator[Tensor]:
    """Results of `stage(piece, last frame of the result before)`; of a frame that pieces share the
    later one's.
    """
    last = None
    for piece in pieces(frames):
        result = stage(piece, last)
        yield result[:-1]
        last = result[-1:]
    if last is not None:
        yield last
