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

from .recogniser import Reading, read_clip, texture_shares
from .world import BACKGROUNDS, COLOURS, Scene, frame_times, render, signed_distance

_FIT_STEPS = 60
_AWAY = 2.5  # pixels from the outline from where an area counts as flat


@dataclass(frozen=True)
class Looks:
    """Of one clip.

    Attributes:
        outline: intersection over union of the shape's pixels and the drawn shape's, mean over the
            frames; 1 is best.
        flatness: standard deviation over the areas that should be of one colour, in 1/255.
        colour: distance of the shape's or the background's mean colour from its name's, the larger
            one, in CIE 1976 units (delta E).
        path: root mean square distance of the places from a straight path at constant speed, in
            percent of a side.
        texture: its contrast over that of the drawing; None where the shape is plain or the clip
            too small for any.
    """

    outline: float
    flatness: float
    colour: float
    path: float
    texture: float | None


WORST = {"outline": min, "flatness": max, "colour": max, "path": max, "texture": min}


def look_at(images: Tensor, reading: Reading | None = None) -> Looks:
    """Measures one clip (F, H, W, 3) in [0, 1] of any square size."""
    images = images.float()
    reading = reading or read_clip(images)
    paper, ink = (
        torch.tensor(BACKGROUNDS[reading.background]),
        torch.tensor(COLOURS[reading.colour]),
    )
    cover = ((images - paper) @ (ink - paper) / (ink - paper).square().sum()).clamp(0, 1)
    places, radius = _fitted(cover, reading)
    distance = _distance(reading.shape, places, torch.tensor(radius), size=images.shape[1])
    shown, drawn = cover > 0.5, distance < 0
    union = (shown | drawn).sum((1, 2)).clamp(min=1)
    away = _AWAY / images.shape[1]
    outside, inside = distance > away, distance < -away
    flat = [outside] + [inside] * (reading.texture in (None, "plain"))
    shares = texture_shares(images, reading.shape, places, radius=radius)
    return Looks(
        outline=float(((shown & drawn).sum((1, 2)) / union).mean()),
        flatness=255 * max(_deviation(images, area) for area in flat),
        colour=max(_delta(images[outside], paper), _delta(images[inside], ink)),
        path=100 * _astray(places),
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


def as_drawn(images: Tensor, reading: Reading | None = None) -> Tensor:
    """The drawing of what a clip (F, H, W, 3) shows, in its own places and size: the same shape."""
    images = images.float()
    reading = reading or read_clip(images)
    places, radius = _fitted(_covered(images, reading)[2], reading)
    scene = Scene(
        reading.shape,
        reading.colour,
        "right",  # places are given
        background=reading.background,
        texture=reading.texture or "plain",
        radius=radius,
    )
    side = images.shape[1]
    times, (x, y) = frame_times(len(images)), places.T[:, None]
    return render([scene], times, side, width=side, places=(x, y))[0]


def _covered(images: Tensor, reading: Reading) -> tuple[Tensor, Tensor, Tensor]:
    """The background's and the shape's colour, and how much of each pixel is the shape's."""
    paper = torch.tensor(BACKGROUNDS[reading.background])
    ink = torch.tensor(COLOURS[reading.colour])
    cover = (images - paper) @ (ink - paper) / (ink - paper).square().sum()
    return paper, ink, cover.clamp(0, 1)


def _fitted(cover: Tensor, reading: Reading) -> tuple[Tensor, float]:
    """Places (F, 2) and radius, in sides, whose drawing is nearest to what is covered (F, H, W):
    gradient descent from the recogniser's, at first with wide edges, then with the drawing's own.
    """
    places = reading.places.clone().requires_grad_()
    radius = torch.tensor(reading.radius, requires_grad=True)
    optimiser = torch.optim.Adam([places, radius], lr=0.005)
    size = cover.shape[1]
    with torch.enable_grad():
        for step in range(_FIT_STEPS):
            edge = 1 if step > _FIT_STEPS // 2 else 3
            distance = _distance(reading.shape, places, radius, size=size)
            drawn = (0.5 - distance * size / edge).clamp(0, 1)
            optimiser.zero_grad()
            (drawn - cover).square().sum((1, 2)).mean().backward()
            optimiser.step()
    return places.detach(), float(radius.detach())


def _distance(shape: str, places: Tensor, radius: Tensor, size: int) -> Tensor:
    """Of every pixel from the outline in every frame (F, H, W), in sides, negative inside."""
    grid = (torch.arange(size) + 0.5) / size
    x = (grid - places[:, 0, None, None]).expand(-1, size, -1)
    y = (grid[:, None] - places[:, 1, None, None]).expand(-1, -1, size)
    return signed_distance(shape, x, y, radius=radius)


def _deviation(images: Tensor, area: Tensor) -> float:
    """Standard deviation within an area (F, H, W), of each frame's channels about their own mean;
    0 where the area has fewer than two pixels.
    """
    kept = [frame[inside] for frame, inside in zip(images, area, strict=True)]
    spread = [pixels.var(0) for pixels in kept if len(pixels) > 1]
    return float(torch.stack(spread).mean().sqrt()) if spread else 0.0


def _delta(pixels: Tensor, wanted: Tensor) -> float:
    """Distance of the mean of pixels (N, 3) from a colour, in CIE L*a*b* units."""
    if not len(pixels):
        return 0.0
    return float((_lab(pixels.mean(0)) - _lab(wanted)).norm())


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


def _astray(places: Tensor) -> float:
    """Root mean square distance of places (F, 2) from the best straight path at constant speed."""
    time = frame_times(len(places))[:, None] - 0.5
    seen = places - places.mean(0)
    if len(places) > 1:
        seen = seen - time * (time * seen).sum(0) / time.square().sum()
    return float(seen.square().sum(-1).mean().sqrt())
