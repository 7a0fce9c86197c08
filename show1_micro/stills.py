"""Single frames: a video network without its temporal layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from show1_engine.models.layers import TEMPORAL_CONV_GROUPS, TemporalConv, TemporalTransformer


@contextmanager
def spatial_only(
    unet: nn.Module, active: bool = True, clock: Tensor | None = None
) -> Iterator[None]:
    """Leave the temporal layers out of the forward pass while the context lasts.

    `clock` (B, 2) is what the clocks of the down blocks should read instead, for each single frame.
    """
    layers = [
        module
        for module in unet.modules()
        if isinstance(module, (TemporalConv, TemporalTransformer))
    ]
    clocks = {block.temp_convs[0] for block in unet.down_blocks} if clock is not None else ()
    for layer in layers if active else []:
        layer.forward = partial(_clocked, clock=clock) if layer in clocks else _unchanged
    try:
        yield
    finally:
        for layer in layers if active else []:
            del layer.forward


def _unchanged(x: Tensor, frames: int) -> Tensor:
    return x


def _clocked(x: Tensor, frames: int, clock: Tensor) -> Tensor:
    """Adds a clock's readings (B, 2) to the channels where `wind_clock` writes them."""
    width = x.shape[1] // TEMPORAL_CONV_GROUPS
    reading = F.pad(clock.repeat_interleave(width, dim=1), (x.shape[1] - 2 * width, 0))
    return x + reading[:, :, None, None]
