"""Reads a clip of the micro world back into words, by drawing candidates and comparing (no
learning).

Flat colours first (background from the border, ink from the best two-colour mixture), which gives
each pixel's coverage; then the shape, size and place whose drawing fits the coverage best; the
motion from the places; the texture from the surface's amplitude at the texture's own frequency.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from .world import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SHAPES,
    TEXTURE_CONTRAST,
    TEXTURE_CYCLES,
    Scene,
    frame_times,
    grid,
    signed_distance,
)

ATTRIBUTES = ("shape", "colour", "motion", "background")
_FIT_SIZE = 16  # side in pixels at which shapes are compared
_RADII = (0.24, 0.27, 0.30, 0.33, 0.36)
_STEPS = (-0.06, -0.03, 0.0, 0.03, 0.06)  # search around the centre of mass, in sides
_STILL = 0.08  # a path shorter than this over the clip is no motion
_TEXTURE_SHARE = 0.45  # of the full contrast, from where a texture counts as present


@dataclass(frozen=True)
class Reading:
    """What a clip shows. `motion` may be "still", `texture` is None below 32 pixels; `error` is the
    fit's rms, `places` the centre in every frame (F, 2) as x, y, `radius` the shape's, in sides.
    """

    shape: str
    colour: str
    motion: str
    background: str
    texture: str | None
    error: float
    places: Tensor | None = field(default=None, compare=False, repr=False)
    radius: float = field(default=0.0, compare=False, repr=False)

    def matches(self, scene: Scene, *names: str) -> bool:
        """Whether the named attributes (default: all but texture) are the scene's."""
        return all(getattr(self, name) == getattr(scene, name) for name in names or ATTRIBUTES)


def read_clip(images: Tensor) -> Reading:
    """Recognise one clip, (F, H, W, 3) in [0, 1] of any square size; frames are evenly spaced in
    time.
    """
    images = images.float()
    small = _shrunk(images)
    background = _background(small)
    paper = torch.tensor(BACKGROUNDS[background])
    colour, cover = _ink(small, paper)
    shape, places, radius, error = _fit(cover)
    texture = (
        texture_of(images, shape, places, radius=radius)
        if images.shape[1] >= 2 * TEXTURE_CYCLES
        else None
    )
    return Reading(
        shape,
        colour,
        _motion(places),
        background=background,
        texture=texture,
        error=error,
        places=places,
        radius=radius,
    )


def accuracy(
    readings: list[Reading], scenes: list[Scene], names: tuple[str, ...] = ATTRIBUTES
) -> dict[str, float]:
    """Share of clips read as described, for each attribute and for all of them together ("all")."""
    pairs = list(zip(readings, scenes, strict=True))
    shares = {
        name: sum(reading.matches(scene, name) for reading, scene in pairs) / len(pairs)
        for name in names
    }
    return {
        **shares,
        "all": sum(reading.matches(scene, *names) for reading, scene in pairs) / len(pairs),
    }


def _shrunk(images: Tensor) -> Tensor:
    if images.shape[1] <= _FIT_SIZE:
        return images
    planes = F.interpolate(images.movedim(-1, 1), size=(_FIT_SIZE, _FIT_SIZE), mode="area")
    return planes.movedim(1, -1)


def _background(images: Tensor) -> str:
    border = torch.cat(
        [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], dim=1
    ).reshape(-1, 3)
    middle = border.median(dim=0).values
    return min(
        BACKGROUNDS,
        key=lambda name: float((middle - torch.tensor(BACKGROUNDS[name])).square().sum()),
    )


def _ink(images: Tensor, paper: Tensor) -> tuple[str, Tensor]:
    """The colour that, mixed with the paper, explains the clip best, and its share of each pixel
    (F, H, W).
    """
    best: tuple[float, str, Tensor] | None = None
    for name, value in COLOURS.items():
        direction = torch.tensor(value) - paper
        share = ((images - paper) @ direction / direction.square().sum()).clamp(0, 1)
        left = float((images - paper - share[..., None] * direction).square().mean())
        if best is None or left < best[0]:
            best = (left, name, share)
    return best[1], best[2]


def _fit(cover: Tensor) -> tuple[str, Tensor, float, float]:
    """Best shape, its places (F, 2) as x, y, its radius and the rms error of the fit."""
    centre = _centre_of_mass(cover)
    steps = torch.tensor(_STEPS)
    candidates = centre[:, None, None] + torch.stack(
        torch.meshgrid(steps, steps, indexing="xy"), dim=-1
    )
    best: tuple[float, str, Tensor, float] | None = None
    for shape in SHAPES:
        for radius in _RADII:
            error, places = _best_places(cover, shape, radius, candidates=candidates.flatten(1, 2))
            if best is None or error < best[0]:
                best = (error, shape, places, radius)
    return best[1], best[2], best[3], math.sqrt(best[0])


def _centre_of_mass(cover: Tensor) -> Tensor:
    """Middle of the covered pixels of each frame, (F, 2); faint pixels do not count."""
    size = cover.shape[-1]
    weight = (cover - 0.3).clamp(min=0) + 1e-6
    grid = (torch.arange(size) + 0.5) / size
    total = weight.sum((1, 2))
    return torch.stack(
        [(weight.sum(1) * grid).sum(1) / total, (weight.sum(2) * grid).sum(1) / total], dim=-1
    )


def _best_places(
    cover: Tensor, shape: str, radius: float, candidates: Tensor
) -> tuple[float, Tensor]:
    """Least mean squared error of a shape over its candidate places (F, N, 2), each frame on its
    own.
    """
    size = cover.shape[-1]
    grid = (torch.arange(size) + 0.5) / size
    x = grid - candidates[..., 0, None, None]
    y = grid[:, None] - candidates[..., 1, None, None]
    drawn = (0.5 - signed_distance(shape, x, y, radius=radius) * size).clamp(0, 1)
    errors = (drawn - cover[:, None]).square().mean((2, 3))
    least, index = errors.min(dim=1)
    return float(least.mean()), candidates[torch.arange(len(index)), index]


def _motion(places: Tensor) -> str:
    """Direction of the straight line through the places; at least half the frames' path must go
    that way.
    """
    if len(places) < 2:
        return "still"
    time = frame_times(len(places)) - 0.5
    slope = (time[:, None] * places).sum(0) / time.square().sum()
    if slope.abs().max() < _STILL:
        return "still"
    return max(MOTIONS, key=lambda name: float(slope @ torch.tensor(MOTIONS[name])))


def texture_of(
    images: Tensor, shape: str, places: Tensor, *, radius: float, cycles: int = TEXTURE_CYCLES
) -> str:
    """Texture of the surface well inside the shape, over all frames."""
    shares = texture_shares(images, shape, places, radius=radius, cycles=cycles)
    best = max(shares, key=shares.__getitem__)
    return best if shares[best] >= _TEXTURE_SHARE else "plain"


def texture_shares(
    images: Tensor, shape: str, places: Tensor, *, radius: float, cycles: int = TEXTURE_CYCLES
) -> dict[str, float]:
    """How strong each texture is on the surface, 1 as it is drawn with so many cycles a side; mean
    over the frames.
    """
    height, width = images.shape[1:3]
    columns, rows = grid(height, width)
    x = (columns - places[:, 0, None, None]).expand(-1, height, -1)
    y = (rows[:, None] - places[:, 1, None, None]).expand(-1, -1, width)
    inside = (signed_distance(shape, x, y, radius=radius) < -1.5 / cycles / 2).float()
    light = images.mean(-1)
    mean = (light * inside).sum((1, 2), keepdim=True) / inside.sum((1, 2), keepdim=True).clamp(
        min=1
    )
    surface = (light - mean) * inside
    damping = float(torch.sinc(torch.tensor(cycles / height)))
    wave = 2 * math.pi * cycles
    stripes = _amplitude(surface, inside, wave * y) / damping / TEXTURE_CONTRAST["striped"]
    checks = _amplitude(surface, inside, wave * (x + y))
    checks = checks + _amplitude(surface, inside, wave * (x - y))
    checks = checks / damping**2 / TEXTURE_CONTRAST["checkered"]
    return {"striped": stripes, "checkered": checks}


def _amplitude(surface: Tensor, inside: Tensor, angle: Tensor) -> float:
    """Mean amplitude over the frames of the wave whose phase is `angle`, in radians."""
    parts = [(surface * wave).sum((1, 2)) for wave in (angle.cos(), angle.sin())]
    return float((2 * torch.hypot(*parts) / inside.sum((1, 2)).clamp(min=1)).mean())
