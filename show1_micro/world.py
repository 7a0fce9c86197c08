"""The micro world: one coloured shape moving over a flat background, drawn from a description at
any size and rate.

Lengths are in units of the picture's side, times run from 0 (first frame) to 1 (last). A texture
has exactly `TEXTURE_CYCLES` cycles a side: one a pixel of a keyframe, where it averages to nothing,
and one every four pixels after super-resolution, so that only the caption can tell that stage what
to draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

COLOURS = {
    "red": (0.85, 0.20, 0.20),
    "green": (0.20, 0.70, 0.25),
    "blue": (0.20, 0.30, 0.85),
    "yellow": (0.85, 0.80, 0.20),
}
BACKGROUNDS = {"black": (0.10, 0.10, 0.10), "grey": (0.50, 0.50, 0.50), "white": (0.90, 0.90, 0.90)}
SHAPES = ("circle", "square", "triangle")
MOTIONS = {"right": (1.0, 0.0), "left": (-1.0, 0.0), "down": (0.0, 1.0), "up": (0.0, -1.0)}
TEXTURES = ("plain", "striped", "checkered")
TEXTURE_CYCLES = 16
TEXTURE_CONTRAST = {"plain": 0.0, "striped": 0.13, "checkered": 0.18}
RADIUS = (0.27, 0.33)
TRAVEL = (0.30, 0.38)  # length of the path over a clip
JITTER = (
    0.04,
    0.10,
)  # how far the path's middle strays from the centre, along the motion and across it


@dataclass(frozen=True)
class Scene:
    """One clip's description: five words of the caption and four numbers it does not tell."""

    shape: str
    colour: str
    motion: str
    background: str
    texture: str
    radius: float = 0.30
    x: float = 0.5  # middle of the path
    y: float = 0.5
    travel: float = 0.34

    def caption(self, texture: bool = True, motion: bool = True) -> str:
        """For instance "a striped red circle moving right on a grey background", or without the
        words for its texture or its motion.
        """
        surface = f"{self.texture} " if texture else ""
        goes = f" moving {self.motion}" if motion else ""
        return f"a {surface}{self.colour} {self.shape}{goes} on a {self.background} background"


def random_scene(
    generator: torch.Generator, held_out: bool | None = None, travel: tuple[float, float] = TRAVEL
) -> Scene:
    """A scene drawn evenly over all words. `held_out` True or False: only, or never, the unseen
    combinations.
    """
    while True:
        scene = _draw(generator, travel)
        if held_out is None or is_held_out(scene) == held_out:
            return scene


def _draw(generator: torch.Generator, travel: tuple[float, float]) -> Scene:
    def pick(words: tuple[str, ...]) -> str:
        return words[int(torch.randint(len(words), (), generator=generator))]

    numbers = torch.rand(4, generator=generator).tolist()
    motion = pick(tuple(MOTIONS))
    along, across = ((2 * numbers[i] - 1) * reach for i, reach in zip((0, 1), JITTER, strict=True))
    dx, dy = (along, across) if MOTIONS[motion][0] else (across, along)
    return Scene(
        pick(SHAPES),
        pick(tuple(COLOURS)),
        motion,
        background=pick(tuple(BACKGROUNDS)),
        texture=pick(TEXTURES),
        radius=_between(RADIUS, numbers[2]),
        x=0.5 + dx,
        y=0.5 + dy,
        travel=_between(travel, numbers[3]),
    )


def _between(limits: tuple[float, float], fraction: float) -> float:
    return limits[0] + fraction * (limits[1] - limits[0])


def is_held_out(scene: Scene) -> bool:
    """Whether training never shows this colour, shape and motion together (6 of 48; every word is
    seen).
    """
    place = (
        tuple(COLOURS).index(scene.colour)
        + 2 * SHAPES.index(scene.shape)
        + 3 * tuple(MOTIONS).index(scene.motion)
    )
    return place % 8 == 0


def frame_times(frames: int) -> Tensor:
    """Times of a clip's frames, (F,) from 0 to 1; a lone frame is the middle."""
    return torch.linspace(0, 1, frames) if frames > 1 else torch.tensor([0.5])


def render(
    scenes: list[Scene],
    times: Tensor,
    height: int,
    width: int,
    places: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Draw scenes: (B, F, H, W, 3) in [0, 1]. `times` is (F,), or (B, F) for times of each scene's
    own.

    `places`: the centres' x and y (B, F), for paths that are none of the scenes' own. Edges are
    anti-aliased over one pixel; the texture is damped as averaging over a pixel damps it.
    """
    times = times.expand(len(scenes), -1) if times.dim() == 1 else times
    places = places or centres(scenes, times)
    x, y = offsets(places, height, width)
    cover = coverage(scenes, x, y, pixel=1.0 / min(height, width))[..., None]
    paper, ink = layers(scenes, places, (height, width))
    return paper + cover * (ink - paper)


def offsets(places: tuple[Tensor, Tensor], height: int, width: int) -> tuple[Tensor, Tensor]:
    """Of every pixel from centres (B, F): x (B, F, 1, W) and y (B, F, H, 1)."""
    columns, rows = grid(height, width)
    return columns - places[0][..., None, None], rows[:, None] - places[1][..., None, None]


def layers(
    scenes: list[Scene], places: tuple[Tensor, Tensor], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The background and the shape's surface at every pixel, whether it covers that or not, (B, F,
    H, W, 3), with centres at `places` (B, F).
    """
    shape = (*places[0].shape, *size, 3)
    paper = torch.tensor([BACKGROUNDS[scene.background] for scene in scenes])[:, None, None, None]
    return paper.expand(shape), _ink(scenes, *grid(*size)).expand(shape)


def centres(scenes: list[Scene], times: Tensor) -> tuple[Tensor, Tensor]:
    """x and y of each shape's centre at `times` (B, F): two tensors (B, F)."""
    path = torch.tensor(
        [[scene.x, scene.y, *MOTIONS[scene.motion], scene.travel] for scene in scenes]
    )
    x, y, dx, dy, travel = path.T[..., None]
    moved = travel * (times - 0.5)
    return x + dx * moved, y + dy * moved


def grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Positions of the pixels' centres, (W,) and (H,); the shorter side runs from 0 to 1, about the
    same middle.
    """
    side = min(height, width)
    columns = (torch.arange(width) + 0.5 - (width - side) / 2) / side
    rows = (torch.arange(height) + 0.5 - (height - side) / 2) / side
    return columns, rows


def coverage(scenes: list[Scene], x: Tensor, y: Tensor, pixel: float) -> Tensor:
    """How much of each pixel the shape covers, in [0, 1], from offsets (B, ...) and the pixel's
    width.
    """
    shape = (len(scenes),) + (1,) * (x.dim() - 1)
    radius = torch.tensor([scene.radius for scene in scenes]).view(shape)
    distance = torch.empty(torch.broadcast_shapes(x.shape, y.shape))
    for name in {scene.shape for scene in scenes}:
        rows = [index for index, scene in enumerate(scenes) if scene.shape == name]
        if rows:
            distance[rows] = signed_distance(name, x[rows], y[rows], radius=radius[rows])
    return (0.5 - distance / pixel).clamp(0, 1)


def signed_distance(shape: str, x: Tensor, y: Tensor, radius: Tensor | float) -> Tensor:
    """Distance to a shape's edge, negative inside. `radius` is the circle's; the others have about
    its area.
    """
    if shape == "circle":
        return (x * x + y * y).sqrt() - radius
    if shape == "ring":
        return ((x * x + y * y).sqrt() - 0.78 * radius).abs() - 0.30 * radius
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.88 * radius
    slant = x.abs() * (math.sqrt(3) / 2) - y * 0.5
    return torch.maximum(slant, y.expand_as(slant)) - 0.68 * radius


def _ink(scenes: list[Scene], columns: Tensor, rows: Tensor) -> Tensor:
    """Colour of each scene's surface at each pixel, (B, 1, H, W, 3).

    The texture stands still like a pattern cast on the picture while the shape moves through it.
    """
    drawn = patterns(columns, rows, cycles=TEXTURE_CYCLES)
    shade = torch.stack(
        [TEXTURE_CONTRAST[scene.texture] * drawn[scene.texture] for scene in scenes]
    )
    colour = torch.tensor([COLOURS[scene.colour] for scene in scenes])[:, None, None, None]
    return (colour + shade[:, None, ..., None]).clamp(0, 1)


def patterns(columns: Tensor, rows: Tensor, cycles: int) -> dict[str, Tensor]:
    """Each texture at the pixels' positions, (H, W) in [-1, 1], with so many cycles a side."""
    damping = float(torch.sinc(torch.tensor(cycles / min(len(columns), len(rows)))))
    across, along = ((2 * math.pi * cycles * axis).sin() * damping for axis in (columns, rows))
    stripes = along[:, None].expand(-1, len(across))
    return {
        "plain": torch.zeros_like(stripes),
        "striped": stripes,
        "checkered": stripes * across,
    }


def clip(scene: Scene, frames: int, size: int) -> Tensor:
    """A whole clip of one scene as the nodes pass it: (F, H, W, 3) in [0, 1]."""
    return render([scene], frame_times(frames), size, width=size)[0]


def with_words(scene: Scene, **words: str) -> Scene:
    """The same scene with other words."""
    return replace(scene, **words)
