"""A network whose learning weights are divided over the processes (torch's FSDP2, `fully_shard`),
and how values come out of such weights whole, and into them.

Every process keeps a part of each weight, and so of its gradient, its moments and its average. A
unit's weights are gathered when it runs, on the way there and back, and let go behind it.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from ..errors import InputError
from ..models.layers import AddedKVAttention, Attention
from ..models.unet import UNet

# What of them reads the text, before the blocks that they are in run.
_OF_TEXT = {
    Attention: ("to_k", "to_v"),
    AddedKVAttention: ("norm_cross", "add_k_proj", "add_v_proj"),
}


def divide(network: UNet, device: torch.device) -> None:
    """Divides what learns in a network on that device; what is frozen stays whole in every process,
    and is not gathered again and again. Every process calls it, and whatever runs the network from
    then on.
    """
    if torch.__version__ < (2, 7):
        raise InputError(
            f"'shard' needs torch 2.7 or newer, and this is {torch.__version__}; leave it out"
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    # Nothing changes what a layer returned in place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    frozen = {value for value in network.parameters() if not value.requires_grad}
    for unit in (*_units(network), network):
        if unit is network or any(value.requires_grad for value in unit.parameters()):
            fully_shard(unit, mesh=mesh, reshard_after_forward=True, ignored_params=frozen)
    # The root is what runs first, and sampling first runs what reads the text: so run nothing.
    network.nothing = tuple
    register_fsdp_forward_method(network, "nothing")
    network.nothing()
    del network.nothing


def _units(network: UNet) -> Iterator[nn.Module]:
    """Inner ones before outer ones. All layers of the blocks are; what is left is the root's."""
    for block in network.modules():
        for layer in block.text_layers() if hasattr(block, "text_layers") else ():
            yield from (getattr(layer, name) for name in _OF_TEXT[type(layer)])
    for name in ("encoder_hid_proj", "add_embedding"):
        if hasattr(network, name):
            yield getattr(network, name)
    for block in (*network.down_blocks, network.mid_block, *network.up_blocks):
        for layers in block.children():
            yield from layers


def whole(value: Any, keep: bool = True) -> Any:
    """Shards put together, on the CPU, in a tensor or in all of a dictionary; the rest as it is.
    Every process calls it; one that does not `keep` them gets None in their place.
    """
    if isinstance(value, dict):
        return {name: whole(part, keep) for name, part in value.items()}
    if not _sharded(value):
        return value
    found = value.full_tensor()
    return found.cpu() if keep else None


def own(value: Tensor) -> Tensor:
    """This process's part of it, in the same memory."""
    return value.to_local() if _sharded(value) else value


def alike(value: Tensor, like: Tensor) -> Tensor:
    """A value where another of its shape is: on its device, of a sharded one this process's part
    alone.
    """
    if _sharded(value) or not _sharded(like):
        return value.to(like.device)
    from torch.distributed.tensor import distribute_tensor

    part = distribute_tensor(
        value.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )
    return part.clone()  # which does not hold the whole


def _sharded(value: Any) -> bool:
    return hasattr(value, "full_tensor")
