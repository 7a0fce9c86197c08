"""Motions that the micro cascade never saw in training, for experiments with motion LoRAs, and how
they are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .editions import FIRST, Edition, Size
from .recogniser import Reading
from .world import Scene, frame_times

REACH = 0.17  # how far a path leads from its middle, in heights: what the trained motions reach too
_EXPLAINED = 0.7  # share of the places' variance from where a path counts as followed
_STILL = 0.05  # root mean square distance from the middle, in heights, below which nothing moves


def _orbit(times: Tensor) -> Tensor:
    angle = 2 * math.pi * times
    return torch.stack([angle.sin(), -angle.cos()], dim=-1)


def _zigzag(times: Tensor) -> Tensor:
    """Across twice, down once: to and fro in x with a steady fall in y."""
    sweep = 1 - 2 * (2 * (times * 1.5 % 1) - 1).abs()
    return torch.stack([-sweep, 2 * times - 1], dim=-1)


def _return(times: Tensor) -> Tensor:
    """From the left to the right and back."""
    return torch.stack([-(2 * math.pi * times).cos(), torch.zeros_like(times)], dim=-1)


PATHS: dict[str, Callable[[Tensor], Tensor]] = {
    "orbit": _orbit,
    "zigzag": _zigzag,
    "return": _return,
}


def places(name: str, times: Tensor) -> Tensor:
    """Where a path leads at `times` (F,), in heights from its middle: (F, 2) as x, y, y
    downwards.
    """
    return REACH * PATHS[name](times)


def clip(
    scene: Scene, name: str, frames: int, size: Size | None = None, world: Edition = FIRST
) -> Tensor:
    """The scene's shape on a path in place of its own motion: (F, H, W, 3) in [0, 1], of keyframes'
    size unless said.
    """
    times = frame_times(frames)
    x, y = (places(name, times) + torch.tensor([scene.x, scene.y])).T[:, None]
    return world.render([scene], times, *(size or world.keyframe), places=(x, y))[0]


def motion_of(reading: Reading, world: Edition = FIRST) -> str:
    """The path or trained motion that explains most of a clip's places; "still" or "other" if there
    is none.
    """
    seen = reading.places - reading.places.mean(0)
    if seen.square().sum(-1).mean().sqrt() < _STILL:
        return "still"
    shares = {name: followed(reading.places, name, world) for name in (*PATHS, *world.motions)}
    best = max(shares, key=shares.__getitem__)
    return best if shares[best] >= _EXPLAINED else "other"


def followed(seen: Tensor, name: str, world: Edition = FIRST) -> float:
    """Share of the variance of places (F, 2) that a path or trained motion of free size explains;
    0 if it is followed backwards.
    """
    times = frame_times(len(seen))
    path = places(name, times) if name in PATHS else _trained(name, times, world)
    seen, path = seen - seen.mean(0), path - path.mean(0)
    size = (seen * path).sum() / path.square().sum()
    return float(size * (seen * path).sum() / seen.square().sum()) if size > 0 else 0.0


def _trained(name: str, times: Tensor, world: Edition) -> Tensor:
    """Where one of the world's own motions leads, (F, 2) as x, y."""
    scene = world.scene("circle", "red", name, background="", texture="plain", travel=1.0)
    return torch.stack(world.centres([scene], times), dim=-1)[0]
