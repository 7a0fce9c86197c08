"""The second edition's world: one lit shape moving over a ground under a graded sky, with its
shadow, drawn from a description at any size and rate.

Lengths are in units of the picture's height, as in `world`, and x runs about the same middle. A
texture has `CYCLES` cycles a height: one a pixel of a keyframe, as in the first edition.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .world import TEXTURE_CONTRAST, TEXTURES, Scene, coverage, grid, offsets, patterns

COLOURS = {
    "red": (0.85, 0.20, 0.20),
    "green": (0.20, 0.62, 0.25),
    "blue": (0.20, 0.30, 0.85),
    "yellow": (0.92, 0.82, 0.18),
    "orange": (0.92, 0.50, 0.12),
    "purple": (0.55, 0.24, 0.68),
}
SHAPES = ("circle", "square", "triangle", "ring")
MOTIONS = {
    "right": (1.0, 0.0),
    "left": (-1.0, 0.0),
    "down": (0.0, 1.0),
    "up": (0.0, -1.0),
    "jumping": (0.0, 0.0),  # up and down again, once, as a thrown ball
}
LIGHTS = {"day": "in the day", "dusk": "at dusk", "night": "at night"}  # as captions say it
# Colours of the sky at the top and at the horizon, and of the ground there and at the bottom.
VIEWS = {
    "day": ((0.52, 0.72, 0.92), (0.87, 0.93, 0.96), (0.72, 0.76, 0.62), (0.60, 0.66, 0.50)),
    "dusk": ((0.44, 0.46, 0.62), (0.94, 0.78, 0.68), (0.50, 0.42, 0.46), (0.38, 0.32, 0.38)),
    "night": ((0.04, 0.05, 0.14), (0.13, 0.17, 0.32), (0.12, 0.13, 0.18), (0.07, 0.08, 0.12)),
}
HORIZON, FLOOR = 0.72, 0.87  # heights of the ground's far edge, and of what stands on it
CYCLES = 24
RADIUS = (0.18, 0.23)
TRAVEL = {"across": (0.42, 0.55), "along": (0.28, 0.34)}  # to the side; up, down and jumping
CENTRE = (0.50, 0.47)
JITTER = (0.08, 0.04)
_LIT = 0.24  # how much brighter a shape is at its upper left edge, and darker at the other
_TOWARDS = (-0.45, -0.89)  # the light
_SHADOW = 0.5


@dataclass(frozen=True)
class View(Scene):
    """A scene of this world; `background` is the light: "day", "dusk" or "night"."""

    def caption(self, texture: bool = True, motion: bool = True) -> str:
        """For instance "a striped red ring moving right at dusk", or without the words for its
        texture or its motion.
        """
        surface = f"{self.texture} " if texture else ""
        goes = " jumping" if self.motion == "jumping" else f" moving {self.motion}"
        thing = f"a {surface}{self.colour} {self.shape}{goes if motion else ''}"
        return f"{thing} {LIGHTS[self.background]}"


def random_view(generator: torch.Generator, held_out: bool | None = None) -> View:
    """A scene drawn evenly over all words. `held_out` True or False: only, or never, the unseen
    combinations.
    """
    while True:
        view = _draw(generator)
        if held_out is None or is_held_out(view) == held_out:
            return view


def _draw(generator: torch.Generator) -> View:
    def pick(words: tuple[str, ...]) -> str:
        return words[int(torch.randint(len(words), (), generator=generator))]

    numbers = torch.rand(4, generator=generator).tolist()
    motion = pick(tuple(MOTIONS))
    travel = TRAVEL["across" if MOTIONS[motion][0] else "along"]
    return View(
        pick(SHAPES),
        pick(tuple(COLOURS)),
        motion,
        background=pick(tuple(VIEWS)),
        texture=pick(TEXTURES),
        radius=RADIUS[0] + numbers[2] * (RADIUS[1] - RADIUS[0]),
        x=CENTRE[0] + (2 * numbers[0] - 1) * JITTER[0],
        y=CENTRE[1] + (2 * numbers[1] - 1) * JITTER[1],
        travel=travel[0] + numbers[3] * (travel[1] - travel[0]),
    )


def is_held_out(view: View) -> bool:
    """Whether training never shows this colour, shape and motion together (15 of 120; every word
    is seen).
    """
    place = (
        tuple(COLOURS).index(view.colour)
        + 2 * SHAPES.index(view.shape)
        + 3 * tuple(MOTIONS).index(view.motion)
    )
    return place % 8 == 0


def render(
    views: list[View],
    times: Tensor,
    height: int,
    width: int,
    places: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Draw scenes: (B, F, H, W, 3) in [0, 1]. `times` is (F,), or (B, F) for times of each scene's
    own; `places`: the centres' x and y (B, F) instead of the scenes' own paths.
    """
    times = times.expand(len(views), -1) if times.dim() == 1 else times
    places = places or centres(views, times)
    x, y = offsets(places, height, width)
    cover = coverage(views, x, y, pixel=1.0 / height)[..., None]
    scenery, surface = layers(views, places, (height, width))
    return scenery + cover * (surface - scenery)


def layers(
    views: list[View], places: tuple[Tensor, Tensor], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The background with the shape's shadow, and the shape's surface at every pixel, whether it
    covers that or not, (B, F, H, W, 3), with centres at `places` (B, F).
    """
    columns, rows = grid(*size)
    x, y = offsets(places, *size)
    pixel = 1.0 / size[0]
    radius = torch.tensor([view.radius for view in views])[:, None, None, None]
    scenery = background(views, rows, pixel=pixel)[:, None, :, None]
    shade = _shadow(x, places[1][..., None, None], rows[:, None], radius=radius, pixel=pixel)
    return scenery * (1 - shade)[..., None], _surface(views, x, y, columns=columns, rows=rows)


def background(views: list[View], rows: Tensor, pixel: float) -> Tensor:
    """Sky and ground without shape and shadow (B, H, 3) at heights `rows`."""
    colours = torch.tensor([VIEWS[view.background] for view in views])[:, :, None]
    high = (rows / HORIZON).clamp(0, 1)[:, None]
    deep = ((rows - HORIZON) / (1 - HORIZON)).clamp(0, 1)[:, None]
    sky = colours[:, 0] + high * (colours[:, 1] - colours[:, 0])
    ground = colours[:, 2] + deep * (colours[:, 3] - colours[:, 2])
    return sky + _ground(rows, pixel)[:, None] * (ground - sky)


def _ground(rows: Tensor, pixel: float) -> Tensor:
    """How much of a pixel is ground, in [0, 1]."""
    return (0.5 + (rows - HORIZON) / pixel).clamp(0, 1)


def _shadow(x: Tensor, centre_y: Tensor, rows: Tensor, *, radius: Tensor, pixel: float) -> Tensor:
    """How much darker the ground is (B, F, H, W): a soft ellipse under the shape, fainter and
    wider the higher that is.
    """
    rise = ((FLOOR - centre_y - radius) / 0.6).clamp(0, 1)
    wide, flat = radius * (0.9 + 0.6 * rise), 0.05 + 0.02 * rise
    far = (x / wide).square() + ((rows - FLOOR) / flat).square()
    return _SHADOW * (1 - 0.6 * rise) * torch.exp(-far) * _ground(rows, pixel)


def _surface(views: list[View], x: Tensor, y: Tensor, *, columns: Tensor, rows: Tensor) -> Tensor:
    """Colour of each scene's surface at each pixel, (B, F, H, W, 3): textured, and lit from above
    and the left.
    """
    radius = torch.tensor([view.radius for view in views])[:, None, None, None]
    towards = ((x * _TOWARDS[0] + y * _TOWARDS[1]) / radius).clamp(-1.2, 1.2)
    drawn = patterns(columns, rows, cycles=CYCLES)
    shade = torch.stack([TEXTURE_CONTRAST[view.texture] * drawn[view.texture] for view in views])
    colour = torch.tensor([COLOURS[view.colour] for view in views])[:, None, None, None]
    return ((colour + shade[:, None, ..., None]) * (1 + _LIT * towards)[..., None]).clamp(0, 1)


def centres(views: list[View], times: Tensor) -> tuple[Tensor, Tensor]:
    """x and y of each shape's centre at `times` (B, F): two tensors (B, F)."""
    numbers = [[view.x, view.y, *MOTIONS[view.motion], view.travel] for view in views]
    x, y, dx, dy, travel = torch.tensor(numbers).T[..., None]
    jumps = torch.tensor([view.motion == "jumping" for view in views])[:, None]
    along = travel * (times - 0.5)
    height = travel * (0.5 - 4 * times * (1 - times))
    return x + dx * along, y + dy * along + jumps * height
