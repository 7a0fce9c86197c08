"""The network that is trained beside: its weights stay, gradients go through it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..errors import InputError
from ..models.handle import Handle
from .settings import STAGE


def precision(handle: Handle, device: torch.device, mixed: bool) -> tuple[torch.dtype, bool]:
    """What the network is fed, and whether its layers are autocast to bfloat16. Gradients vanish in
    float16, so such models are fed bfloat16 (or float32) where their layers cast, as the host's do.
    """
    if handle.dtype == torch.float32:
        return torch.float32, mixed and device.type != "cpu"  # measured: no faster on a CPU
    if handle.dtype == torch.bfloat16:
        return torch.bfloat16, False
    if not handle.castable:
        raise InputError(
            f"{STAGE}: the model is in float16, in which gradients vanish; load it in bf16 or fp32"
        )
    bfloat16 = mixed and (device.type != "cuda" or torch.cuda.is_bf16_supported())
    return (torch.bfloat16 if bfloat16 else torch.float32), False


def thaw(network: nn.Module) -> None:
    """Weights made in inference mode cannot take part in training: each is replaced by a plain
    copy.
    """
    for module in network.modules():
        for name, weight in module._parameters.items():
            if weight is not None and weight.is_inference():
                module._parameters[name] = nn.Parameter(
                    weight.detach().clone(), requires_grad=False
                )


@contextmanager
def checkpointed(network: nn.Module) -> Iterator[None]:
    """Layers keep their inputs only and are computed again on the way back, for as long as the
    context lasts.
    """
    blocks = [*network.down_blocks, network.mid_block, *network.up_blocks]
    for block in blocks:
        block.layer = partial(checkpoint, block.layer, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.layer
