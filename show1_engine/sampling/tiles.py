"""How large a sample is sampled in one piece, and the boxes it is cut into otherwise."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..out_of_memory import retried_smaller
from .samplers import Predict
from .windows import Box, Span, boxes, spans

_IN_ONE_PIECE = 1.5  # a frame of up to that many times the trained side is not cut
_OVERLAP = 4  # tiles overlap by a quarter of their side


def tile_side(
    height: int,
    width: int,
    trained: int,
    asked: int,
    fits: Callable[[int], bool],
    multiple: int = 1,
) -> int:
    """Side of the square tiles for a (height, width) sample.

    `asked` if it is given (0: automatic): the whole sample where it is not much larger than the
    model was trained on, else the trained side; halved until `fits(side)`. Never below `smallest`.
    """
    if asked:
        return max(smallest(multiple), asked)
    longest = max(height, width)
    side = longest if longest <= _IN_ONE_PIECE * trained else trained
    while not fits(side) and side // 2 >= smallest(multiple):
        side //= 2
    return side


def smallest(multiple: int) -> int:
    """Below this side a tile is too small to be seen as a picture."""
    return 8 * multiple


def tiles(time: list[Span], height: int, width: int, side: int, multiple: int = 1) -> list[Box]:
    """Boxes of at most `side` x `side` over all rows and columns, for every span of time."""
    rows, columns = (
        spans(length, side, side // _OVERLAP, multiple=multiple) for length in (height, width)
    )
    return list(boxes(time, rows, columns))


def whole(length: int) -> list[Span]:
    """An axis in one piece."""
    return [Span(0, length, torch.ones(length))]


def blended(
    predict: Callable[[Span], Predict],
    boxes_of: Callable[[int], list[Box]],
    side: int,
    least: int,
) -> Predict:
    """`predict(time)` on overlapping boxes of a large sample, averaged by their weights at every
    step.

    All boxes see the same noise, since they are cut out of one sample: no seam can grow between
    them. When the device runs out of memory the tiles are halved, down to `least`, and the step is
    tried again.
    """
    plan = boxes_of(side)

    def halve() -> bool:
        nonlocal side, plan
        if side // 2 < least:
            return False
        side //= 2
        plan = boxes_of(side)
        return True

    def run(x: Tensor, timestep: int) -> Tensor:
        return retried_smaller(lambda: _averaged(predict, plan, x, timestep=timestep), halve)

    return run


def _averaged(
    predict: Callable[[Span], Predict], plan: list[Box], x: Tensor, timestep: int
) -> Tensor:
    if len(plan) == 1:
        return predict(plan[0].time)(x, timestep)
    out = None
    for box in plan:
        part = predict(box.time)(x[box.index], timestep)
        if out is None:
            out = part.new_zeros(*part.shape[:2], *x.shape[2:])
        out[box.index] += part * box.weight.to(part.device)
    return out
