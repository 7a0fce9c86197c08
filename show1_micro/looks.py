"""How well a clip of the micro world is drawn, beside what it shows: the recogniser tells the
words, these measures the workmanship.

A clip is compared with the drawing of what the recogniser saw in it: the same shape, each frame's
place and one size fitted to its own pixels. So a wrong word costs nothing here, a wobbling outline
does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from .editions import FIRST, Edition
from .recogniser import Reading, texture_shares
from .world import Scene, frame_times, grid, signed_distance, with_words

_FIT_STEPS = 60
_AWAY = 2.5  # pixels from the outline from where an area counts as even


@dataclass(frozen=True)
class Looks:
    """Of one clip.

    Attributes:
        outline: intersection over union of the shape's pixels and the drawn shape's, mean over the
            frames; 1 is best.
        flatness: standard deviation from the drawing over the areas that should be even, in 1/255.
        colour: distance of the shape's or the background's mean colour from the drawing's, the
            larger one, in CIE 1976 units (delta E).
        path: root mean square distance of the places from a straight path at constant speed, or
            a jump's, in percent of a side.
        texture: its contrast over that of the drawing; None where the shape is plain or the clip
            too small for any.
    """

    outline: float
    flatness: float
    colour: float
    path: float
    texture: float | None


WORST = {"outline": min, "flatness": max, "colour": max, "path": max, "texture": min}


def look_at(images: Tensor, reading: Reading | None = None, world: Edition = FIRST) -> Looks:
    """Measures one clip (F, H, W, 3) in [0, 1] of any size of the world's aspect."""
    images = images.float()
    reading = reading or world.read(images)
    paper, ink, cover = _covered(images, reading, world)
    places, radius = _fitted(cover, reading)
    distance = _distance(reading.shape, places, torch.tensor(radius), size=images.shape[1:3])
    shown, drawn = cover > 0.5, distance < 0
    union = (shown | drawn).sum((1, 2)).clamp(min=1)
    away = _AWAY / images.shape[1]
    outside, inside = distance > away, distance < -away
    flat = [_deviation(images - paper, outside)]
    if reading.texture in (None, "plain"):
        flat.append(_deviation(images - ink, inside))
    shares = texture_shares(
        images, reading.shape, places, radius=radius, cycles=world.texture_cycles
    )
    return Looks(
        outline=float(((shown & drawn).sum((1, 2)) / union).mean()),
        flatness=255 * max(flat),
        colour=max(_delta(images, paper, area=outside), _delta(images, ink, area=inside)),
        path=100 * _astray(places, reading.motion),
        texture=shares.get(reading.texture),
    )


def summary(many: list[Looks]) -> dict[str, dict[str, float]]:
    """Each measure's median and 5 % worst clip, over those that have it."""
    found: dict[str, dict[str, float]] = {}
    for name, worst in WORST.items():
        values = sorted(v for v in (asdict(looks)[name] for looks in many) if v is not None)
        if not values:
            continue
        few = round(0.05 * (len(values) - 1))
        last = values[few] if worst is min else values[-1 - few]
        found[name] = {
            "median": round(values[len(values) // 2], 4),
            "worst 5 %": round(last, 4),
            "n": len(values),
        }
    return found


def as_drawn(images: Tensor, reading: Reading | None = None, world: Edition = FIRST) -> Tensor:
    """The drawing of what a clip (F, H, W, 3) shows, in its own places and size: the same shape."""
    images = images.float()
    reading = reading or world.read(images)
    places, radius = _fitted(_covered(images, reading, world)[2], reading)
    scene = _seen(reading, radius, world)
    times, (x, y) = frame_times(len(images)), places.T[:, None]
    return world.render([scene], times, *images.shape[1:3], places=(x, y))[0]


def _seen(reading: Reading, radius: float, world: Edition) -> Scene:
    """The scene that was read, about places that are given with it."""
    return world.scene(
        reading.shape,
        reading.colour,
        "right",
        background=reading.background,
        texture=reading.texture or "plain",
        radius=radius,
    )


def _covered(images: Tensor, reading: Reading, world: Edition) -> tuple[Tensor, Tensor, Tensor]:
    """The background and the surface at each pixel, (F, H, W, 3), and how much of each pixel is
    the shape's.
    """
    scene = with_words(_seen(reading, reading.radius, world), texture="plain")
    paper, ink = (
        layer[0] for layer in world.layers([scene], reading.places.T[:, None], images.shape[1:3])
    )
    towards = ink - paper
    cover = ((images - paper) * towards).sum(-1) / towards.square().sum(-1)
    return paper, ink, cover.clamp(0, 1)


def _fitted(cover: Tensor, reading: Reading) -> tuple[Tensor, float]:
    """Places (F, 2) and radius, in sides, whose drawing is nearest to what is covered (F, H, W):
    gradient descent from the recogniser's, at first with wide edges, then with the drawing's own.
    """
    places = reading.places.clone().requires_grad_()
    radius = torch.tensor(reading.radius, requires_grad=True)
    optimiser = torch.optim.Adam([places, radius], lr=0.005)
    size = cover.shape[1:]
    with torch.enable_grad():
        for step in range(_FIT_STEPS):
            edge = 1 if step > _FIT_STEPS // 2 else 3
            distance = _distance(reading.shape, places, radius, size=size)
            drawn = (0.5 - distance * size[0] / edge).clamp(0, 1)
            optimiser.zero_grad()
            (drawn - cover).square().sum((1, 2)).mean().backward()
            optimiser.step()
    return places.detach(), float(radius.detach())


def _distance(shape: str, places: Tensor, radius: Tensor, size: tuple[int, int]) -> Tensor:
    """Of every pixel from the outline in every frame (F, H, W), in sides, negative inside."""
    height, width = size
    columns, rows = grid(height, width)
    x = (columns - places[:, 0, None, None]).expand(-1, height, -1)
    y = (rows[:, None] - places[:, 1, None, None]).expand(-1, -1, width)
    return signed_distance(shape, x, y, radius=radius)


def _deviation(images: Tensor, area: Tensor) -> float:
    """Standard deviation within an area (F, H, W), of each frame's channels about their own mean;
    0 where the area has fewer than two pixels.
    """
    kept = [frame[inside] for frame, inside in zip(images, area, strict=True)]
    spread = [pixels.var(0) for pixels in kept if len(pixels) > 1]
    return float(torch.stack(spread).mean().sqrt()) if spread else 0.0


def _delta(images: Tensor, wanted: Tensor, *, area: Tensor) -> float:
    """Distance of the mean colours of two clips (F, H, W, 3) within an area (F, H, W), in CIE
    L*a*b* units.
    """
    if not area.any():
        return 0.0
    return float((_lab(images[area].mean(0)) - _lab(wanted[area].mean(0))).norm())


def _lab(colour: Tensor) -> Tensor:
    """CIE L*a*b* under D65 of an sRGB colour (3,) in [0, 1] (IEC 61966-2-1, CIE 15)."""
    linear = torch.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    matrix = torch.tensor(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = matrix @ linear / torch.tensor([0.9505, 1.0, 1.089])
    fx, fy, fz = (
        value ** (1 / 3) if value > 216 / 24389 else value * 841 / 108 + 4 / 29
        for value in (x, y, z)
    )
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def _astray(places: Tensor, motion: str) -> float:
    """Root mean square distance of places (F, 2) from the best straight path at constant speed, or
    the best throw.
    """
    time = frame_times(len(places))[:, None] - 0.5
    ways = [time, time.square() - time.square().mean()][: 2 if motion == "jumping" else 1]
    seen = places - places.mean(0)
    for way in ways if len(places) > 1 else []:
        seen = seen - way * (way * seen).sum(0) / way.square().sum()
    return float(seen.square().sum(-1).mean().sqrt())
