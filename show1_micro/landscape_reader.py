"""Reads a clip of the second edition's world back into words, by drawing candidates and comparing
(no learning).

The light from the median of each row, the colour from what differs most from that sky; then the
shape, size and places whose drawing, light and shadow and all, comes nearest; the motion from the
places, the texture from the surface, as in the first edition.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .landscape import (
    COLOURS,
    CYCLES,
    HORIZON,
    MOTIONS,
    SHAPES,
    VIEWS,
    View,
    background,
    render,
)
from .recogniser import Reading, texture_of
from .world import frame_times, grid

_HEIGHT = 24  # in pixels, at which drawings are compared
_RADII = (0.17, 0.19, 0.21, 0.23)
_STEPS = (-0.06, -0.03, 0.0, 0.03, 0.06)  # search around the centre of mass, in heights
_FINE = (-0.015, 0.0, 0.015)
_FRAMES = 5  # at most, to find shape and size by
_STILL = 0.08  # a path shorter than this over the clip is no motion
_LIGHTER = (0.75, 1.0, 1.25)  # a surface in shadow and in light


def read_view(images: Tensor) -> Reading:
    """Recognise one clip, (F, H, W, 3) in [0, 1] of any size 3:5; frames are evenly spaced in
    time.
    """
    images = images.float()
    small = _shrunk(images)
    light = _light(small)
    scenery = _scenery(light, *small.shape[1:3])
    colour = _colour(small, scenery)
    view = View("circle", colour, "right", background=light, texture="plain")
    shape, radius, places, error = _fit(small, view, scenery)
    texture = None
    if images.shape[1] >= 2 * CYCLES:
        texture = texture_of(images, shape, places, radius=radius, cycles=CYCLES)
    return Reading(
        shape,
        colour,
        _motion(places),
        background=light,
        texture=texture,
        error=error,
        places=places,
        radius=radius,
    )


def _shrunk(images: Tensor) -> Tensor:
    height, width = images.shape[1:3]
    if height <= _HEIGHT:
        return images
    size = (_HEIGHT, round(width * _HEIGHT / height))
    return F.interpolate(images.movedim(-1, 1), size=size, mode="area").movedim(1, -1)


def _scenery(light: str, height: int, width: int) -> Tensor:
    """(1, H, 1, 3), without shape and shadow."""
    view = View("circle", "red", "right", background=light, texture="plain")
    rows = grid(height, width)[1]
    return background([view], rows, pixel=1 / height)[:, :, None]


def _light(images: Tensor) -> str:
    """Whose sky and ground are nearest to each row's median: the shape covers less than half."""
    rows = images.transpose(1, 2).flatten(0, 1).median(dim=0).values
    height, width = images.shape[1:3]
    return min(
        VIEWS,
        key=lambda light: float((rows - _scenery(light, height, width)[0, :, 0]).square().sum()),
    )


def _colour(images: Tensor, scenery: Tensor) -> str:
    """Of what differs most from the sky, in whatever light."""
    sky = round(HORIZON * images.shape[1])
    differs = (images - scenery)[:, :sky].square().sum(-1)
    most = differs.flatten(1).topk(max(4, differs[0].numel() // 20), dim=1).indices
    pixels = images[:, :sky].flatten(1, 2).gather(1, most[..., None].expand(-1, -1, 3))
    return min(
        COLOURS,
        key=lambda name: float(
            torch.stack(
                [(pixels - lit * torch.tensor(COLOURS[name])).square().sum(-1) for lit in _LIGHTER]
            )
            .amin(0)
            .mean()
        ),
    )


def _fit(images: Tensor, view: View, scenery: Tensor) -> tuple[str, float, Tensor, float]:
    """Best shape, its radius, places (F, 2) as x, y and the rms error of the drawing."""
    centre = _centre_of_mass(images, view, scenery)
    few = torch.linspace(0, len(images) - 1, min(_FRAMES, len(images))).round().long()
    best: tuple[float, View] | None = None
    for shape in SHAPES:
        for radius in _RADII:
            tried = replace(view, shape=shape, radius=radius)
            error, _ = _best_places(images[few], tried, centre[few], steps=_STEPS)
            if best is None or error < best[0]:
                best = (error, tried)
    view = best[1]
    _, places = _best_places(images, view, centre, steps=_STEPS)
    error, places = _best_places(images, view, places, steps=_FINE)
    return view.shape, view.radius, places, math.sqrt(error)


def _centre_of_mass(images: Tensor, view: View, scenery: Tensor) -> Tensor:
    """Middle of what is nearer to the shape's colour than to the scenery, (F, 2)."""
    towards = torch.tensor(COLOURS[view.colour]) - scenery
    cover = ((images - scenery) * towards).sum(-1) / towards.square().sum(-1)
    weight = (cover.clamp(0, 1) - 0.5).clamp(min=0) + 1e-6
    columns, rows = grid(*images.shape[1:3])
    total = weight.sum((1, 2))
    x, y = (weight.sum(1) * columns).sum(1), (weight.sum(2) * rows).sum(1)
    return torch.stack([x / total, y / total], dim=-1)


def _best_places(
    images: Tensor, view: View, about: Tensor, *, steps: tuple[float, ...]
) -> tuple[float, Tensor]:
    """Least mean squared error of a scene's drawing with its shape `steps` about places (F, 2),
    each frame on its own.
    """
    shift = torch.tensor(steps)
    shifts = torch.stack(torch.meshgrid(shift, shift, indexing="xy"), dim=-1).flatten(0, 1)
    tried = about + shifts[:, None]  # (N, F, 2)
    drawn = render(
        [view] * len(tried),
        frame_times(len(images)),
        *images.shape[1:3],
        places=(tried[..., 0], tried[..., 1]),
    )
    least, index = (drawn - images).square().mean((2, 3, 4)).min(dim=0)
    return float(least.mean()), tried[index, torch.arange(len(images))]


def _motion(places: Tensor) -> str:
    """The straight path or the jump that most of the places' way follows."""
    if len(places) < 2:
        return "still"
    time = frame_times(len(places)) - 0.5
    slope = (time[:, None] * places).sum(0) / time.square().sum()
    jump = 4 * time.square()
    jump = jump - jump.mean()
    found = {name: float(slope @ torch.tensor(way)) for name, way in MOTIONS.items() if any(way)}
    found["jumping"] = float((jump * places[:, 1]).sum() / jump.square().sum())
    best = max(found, key=found.__getitem__)
    return best if found[best] >= _STILL else "still"
