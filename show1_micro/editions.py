"""The micro cascade's two bundled editions: the sizes and the world each is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from show1_engine import bundled

from . import landscape, world
from .configs import KEYFRAME_SIZE, SR_SIZE
from .landscape_reader import read_view
from .recogniser import Reading, read_clip
from .world import Scene, frame_times

Size = tuple[int, int]  # height, width
BETWEEN = 5  # frames from a keyframe to the next, both counted


@dataclass(frozen=True)
class Edition:
    """What differs between the editions in training and judging.

    Attributes:
        bundle: its models' folder and the settings that suit them.
        keyframe, large: sizes of keyframes and of what super-resolution makes of them.
        draw: a random scene from a generator; `held_out` as in `world.random_scene`.
        render, centres: as `world`'s.
        between: as many scenes, and the times (F,) or (B, F) of windows between keyframes.
        scene: its descriptions' class.
        motions: words for those it is trained on.
        texture_cycles: of a texture, a height.
        layers: background and surface everywhere, as `world.layers`.
        read: what a clip shows.
        part: side of the squares that super-resolution's single frames are cut to.
        noisy: share of the conditioned stages' timesteps drawn where noise is high.
        late: share of the latent expert's timesteps drawn in the lowest quarter, where it works.
        grain: largest deviation of the grain on the conditions of every second clip, in [-1, 1].
    """

    bundle: bundled.Edition
    keyframe: Size
    large: Size
    draw: Callable[..., Scene]
    render: Callable[..., Tensor]
    centres: Callable[[list[Scene], Tensor], tuple[Tensor, Tensor]]
    between: Callable[[int, Generator], tuple[list[Scene], Tensor]]
    part: int
    scene: type[Scene]
    motions: tuple[str, ...]
    texture_cycles: int
    layers: Callable[..., tuple[Tensor, Tensor]]
    read: Callable[[Tensor], Reading]
    noisy: float = 0.5
    late: float = 0.0
    grain: float = 0.0

    def started(self, part: str) -> Path:
        """Where a network's training is to go on from: its own weights, or the first edition's."""
        own = self.bundle.folder / part
        return own if own.exists() else bundled.WEIGHTS / part


def _far_keyframes(count: int, generator: Generator) -> tuple[list[Scene], Tensor]:
    """The first edition's: a path of any length from one keyframe to the next."""
    draw = world.random_scene
    many = [draw(generator, held_out=False, travel=(0.02, 0.60)) for _ in range(count)]
    return many, frame_times(BETWEEN)


def _parts_of_paths(count: int, generator: Generator) -> tuple[list[Scene], Tensor]:
    """The second edition's: from one of eight keyframes to the next, or up to four times as far."""
    many = [landscape.random_view(generator, held_out=False) for _ in range(count)]
    far, start, near = torch.rand(3, count, 1, generator=generator)
    jumps = torch.tensor([view.motion == "jumping" for view in many])[:, None]
    length = torch.where(near < 0.5, 1.0, 1 + far * torch.where(jumps, 1.0, 3.0)) / 7
    return many, start * (1 - length) + length * frame_times(BETWEEN)


FIRST = Edition(
    bundle=bundled.EDITIONS["micro"],
    keyframe=(KEYFRAME_SIZE, KEYFRAME_SIZE),
    large=(SR_SIZE, SR_SIZE),
    draw=world.random_scene,
    render=world.render,
    centres=world.centres,
    between=_far_keyframes,
    part=32,
    scene=Scene,
    motions=tuple(world.MOTIONS),
    texture_cycles=world.TEXTURE_CYCLES,
    layers=world.layers,
    read=read_clip,
)
SECOND = Edition(
    bundle=bundled.EDITIONS["micro2"],
    keyframe=(24, 40),
    large=(96, 160),
    draw=landscape.random_view,
    render=landscape.render,
    centres=landscape.centres,
    between=_parts_of_paths,
    part=48,
    scene=landscape.View,
    motions=tuple(landscape.MOTIONS),
    texture_cycles=landscape.CYCLES,
    layers=landscape.layers,
    read=read_view,
    noisy=0.3,
    late=0.6,
    grain=0.09,
)
EDITIONS = {1: FIRST, 2: SECOND}
