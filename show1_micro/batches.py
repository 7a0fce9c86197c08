"""Training batches of every stage: scenes drawn at random, rendered, noised and captioned as Show-1
trains.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from show1_engine.training.batch import Batch as TrainingBatch

from .configs import FRAMES
from .diffusion import STEPS, cosine_alphas, linear_alphas, loss_weight, noised
from .editions import FIRST, Edition, Size
from .text import Captions
from .world import Scene, frame_times

TEXT_DROP = 0.1
SR_FACTOR = 4
NOISE_LEVELS = 300  # of pixel super-resolution's condition in training
COSINE = cosine_alphas()
LINEAR = linear_alphas()
DECISIVE = (
    0.04,
    0.3,
)  # signal levels where motion is decided: below, eight frames of noise show nothing; above, all
SHOWN = (
    0.005,
    0.2,
)  # where a condition shows the picture, high noise has two things left to teach: the scale of the
# predicted noise, whose error the first step of sampling multiplies by a hundred, and where a
# texture begins
EXPERT_STEPS = 900  # the latent expert never sees the noisiest tenth

Encode = Callable[
    [Tensor, torch.Generator], Tensor
]  # pixels (B, 3, F, H, W) to scaled latents (B, 4, F, h, w)


@dataclass(frozen=True)
class Batch(TrainingBatch):
    """The engine's, of clips or of single frames."""

    still: bool = False  # single frames: the temporal layers are left out
    places: Tensor | None = None  # of single frames: which frame of a clip each is (B,)


def scenes(count: int, generator: torch.Generator, world: Edition = FIRST) -> list[Scene]:
    """Random scenes, without the held-out combinations."""
    return [world.draw(generator, held_out=False) for _ in range(count)]


def pixels(many: list[Scene], times: Tensor, size: Size, world: Edition = FIRST) -> Tensor:
    """Rendered as the UNets see them: (B, 3, F, H, W) in [-1, 1]."""
    return world.render(many, times, *size).permute(0, 4, 1, 2, 3) * 2 - 1


def captions(
    many: list[Scene], generator: torch.Generator, read: Captions, drop: float = TEXT_DROP
) -> Tensor:
    """Text states, a tenth of them of the empty prompt; "plain" is named in two of three captions,
    for what is not named is plain.
    """
    chance = torch.rand(len(many), 2, generator=generator)
    words = [
        "" if dropped < drop else scene.caption(texture=named < 0.67 or scene.texture != "plain")
        for scene, (dropped, named) in zip(many, chance.tolist(), strict=True)
    ]
    return read(words)


def keyframe_stills(
    count: int, generator: torch.Generator, read: Captions, world: Edition = FIRST
) -> Batch:
    """Single keyframes and their places in the clip: the spatial layers learn from them eight times
    as fast.
    """
    many = scenes(count, generator, world)
    places = torch.randint(0, FRAMES, (count,), generator=generator)
    clean = pixels(many, frame_times(FRAMES)[places, None], world.keyframe, world=world)
    batch = _noise_batch(
        clean, None, captions(many, generator, read), generator=generator, still=True, early=0.5
    )
    return replace(batch, places=places)


def keyframe_clips(
    count: int,
    generator: torch.Generator,
    read: Captions,
    world: Edition = FIRST,
    early: float = 0.8,
) -> Batch:
    """Whole clips of keyframes; `early` as of `_noise_batch`."""
    many = scenes(count, generator, world)
    clean = pixels(many, frame_times(FRAMES), world.keyframe, world=world)
    return _noise_batch(
        clean, None, captions(many, generator, read), generator=generator, early=early
    )


def interpolation_clips(
    count: int, generator: torch.Generator, read: Captions, world: Edition = FIRST
) -> Batch:
    """Five frames between two keyframes; the condition is their linear blend, slightly noised."""
    many, times = world.between(count, generator)
    clean = pixels(many, times, world.keyframe, world=world)
    return _noise_batch(
        clean,
        interpolation_condition(grained(clean, generator, most=world.grain), generator),
        captions(many, generator, read),
        generator=generator,
        early=world.noisy,
    )


def interpolation_condition(
    clean: Tensor, generator: torch.Generator, noise: float = 0.1
) -> Tensor:
    """Condition and mask channels (B, 4, 5, H, W) from the first and last frame of `clean`, noised
    up to `noise`.
    """
    ends = clean[:, :, [0, -1]]
    level = noise * torch.rand(len(clean), 1, 1, 1, 1, generator=generator)
    ends = ends + level * torch.randn(ends.shape, generator=generator)
    share = torch.linspace(0, 1, clean.shape[2]).view(-1, 1, 1)
    blend = ends[:, :, :1] * (1 - share) + ends[:, :, 1:] * share
    mask = torch.zeros_like(clean[:, :1])
    mask[:, :, [0, -1]] = 1
    return torch.cat([blend, mask], dim=1)


def middles(many: list[Scene], times: Tensor, world: Edition) -> Tensor:
    """Where the shapes are in the middle of clips at `times` (B, F): (B, 2), y and x in pixels of
    the large size.
    """
    height, width = world.large
    x, y = world.centres(many, times[:, times.shape[1] // 2, None])
    return torch.cat([y * height, x * height + (width - height) / 2], dim=1)


def checkered_scenes(
    count: int, generator: torch.Generator, world: Edition = FIRST, more: float = 0.5
) -> list[Scene]:
    """Scenes with textures for super-resolution and the VAE, a share `more` made checkered: two of
    three are, for their phase on both axes is the slowest thing to learn.

    Neither text nor condition tells it, only the place in the picture; with one in three, half of
    the drawn checkers were inverted after 65,000 stills, and none after 38,000 more of these.
    """
    even = scenes(count, generator, world)
    chosen = torch.rand(count, generator=generator) < more
    return [
        replace(scene, texture="checkered") if checked else scene
        for scene, checked in zip(even, chosen, strict=True)
    ]


def pixel_sr_stills(
    count: int, generator: torch.Generator, read: Captions, world: Edition = FIRST
) -> Batch:
    """Parts of single frames at four times the size, most of them of the shape: a quarter or less
    of the cost of whole ones.
    """
    many = checkered_scenes(count, generator, world)
    times = torch.rand(count, 1, generator=generator)
    labels = torch.randint(0, NOISE_LEVELS, (count,), generator=generator)
    low = grained(pixels(many, times, world.keyframe, world=world), generator, most=world.grain)
    condition = sr_condition(low, labels, generator)
    whole = torch.cat([pixels(many, times, world.large, world=world), condition], dim=1)
    both = cut(whole, world.part, generator, about=middles(many, times, world))
    return _noise_batch(
        both[:, :3],
        both[:, 3:],
        captions(many, generator, read),
        generator=generator,
        labels=labels,
        still=True,
        early=world.noisy,
    )


def cut(
    pictures: Tensor,
    size: int,
    generator: torch.Generator,
    step: int = SR_FACTOR,
    *,
    about: Tensor | None = None,
) -> Tensor:
    """A random square out of each picture, (B, C, F, H, W) to (B, C, F, size, size).

    Corners are multiples of `step`, a texture's period: its phase cannot be told from anything
    else. `about` (B, 2), y and x in pixels: three of four squares hold these places.
    """
    room = torch.tensor(pictures.shape[-2:]) - size
    corners = torch.rand(len(pictures), 2, generator=generator)
    if about is not None:
        near = ((about - corners * size).clamp(min=0) / room.clamp(min=1)).clamp(max=0.999)
        chosen = torch.rand(len(pictures), 1, generator=generator) < 0.75
        corners = torch.where(chosen, near, corners)
    corners = corners * (room // step + 1)
    return torch.stack(
        [
            picture[..., y : y + size, x : x + size]
            for picture, (y, x) in zip(pictures, (corners.long() * step).tolist(), strict=True)
        ]
    )


def pixel_sr_clips(
    count: int,
    generator: torch.Generator,
    read: Captions,
    world: Edition = FIRST,
    part: int | None = None,
) -> Batch:
    """Windows of eight frames at the interpolated rate, most of them continuing a finished first
    frame; `part`: of squares of this side.
    """
    many = checkered_scenes(count, generator, world)
    times = torch.rand(count, 1, generator=generator) * 0.75 + frame_times(FRAMES) * 0.25
    clean = pixels(many, times, world.large, world=world)
    labels = torch.randint(0, NOISE_LEVELS, (count,), generator=generator)
    low = grained(pixels(many, times, world.keyframe, world=world), generator, most=world.grain)
    condition = sr_condition(low, labels, generator)
    if part is not None:
        about = middles(many, times, world)
        both = cut(torch.cat([clean, condition], dim=1), part, generator, about=about)
        clean, condition = both.chunk(2, dim=1)
    chained = torch.rand(count, generator=generator) < 0.6
    condition[chained, :, 0] = clean[chained, :, 0]
    return _noise_batch(
        clean,
        condition,
        captions(many, generator, read),
        generator=generator,
        labels=labels,
        early=world.noisy,
    )


def grained(low: Tensor, generator: torch.Generator, most: float) -> Tensor:
    """Frames (B, 3, F, h, w) with grain on every second clip, up to a deviation of `most`: as fine
    as their pixels and three times as coarse, half of it the same in all frames, as sampled
    keyframes have it.
    """
    if not most:
        return low
    (count, channels, frames), size = low.shape[:3], low.shape[-2:]
    fine = torch.randn(count, channels, frames + 1, *size, generator=generator)
    sides = [-(-side // 3) for side in size]
    coarse = torch.randn(count, channels * (frames + 1), *sides, generator=generator)
    coarse = F.interpolate(coarse, size=size, mode="bicubic").view_as(fine)
    both = (fine + coarse / coarse.std()) / 2
    level = most * (2 * torch.rand(count, 1, 1, 1, 1, generator=generator) - 1).clamp(min=0)
    return low + level * (both[:, :, 1:] + both[:, :, :1])


def sr_condition(low: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Low-resolution frames (B, 3, F, h, w) enlarged as the pipeline does and noised at their
    level.
    """
    flat = F.interpolate(
        low.transpose(1, 2).flatten(0, 1),
        size=(SR_FACTOR * low.shape[-2], SR_FACTOR * low.shape[-1]),
        mode="bilinear",
        align_corners=True,
    )
    large = flat.unflatten(0, (low.shape[0], low.shape[2])).transpose(1, 2)
    return noised(large, torch.randn(large.shape, generator=generator), COSINE[labels])


def _noise_batch(
    clean: Tensor,
    condition: Tensor | None,
    text: Tensor,
    generator: torch.Generator,
    labels: Tensor | None = None,
    still: bool = False,
    early: float = 0.0,
) -> Batch:
    """`early`: share of the timesteps drawn where a clip's motion is decided, or, with a
    condition, where noise is high.
    """
    levels = DECISIVE if condition is None else SHOWN
    timesteps = draw_timesteps(len(clean), generator, early, levels=levels)
    noise = torch.randn(clean.shape, generator=generator)
    sample, weight = noised(clean, noise, COSINE[timesteps]), loss_weight(COSINE[timesteps])
    if condition is not None:
        sample = torch.cat([sample, condition], dim=1)
        weight = loss_weight(COSINE[timesteps], floor=0.002)
    return Batch(sample, timesteps, text, labels=labels, noise=noise, weight=weight, still=still)


class LatentPool:
    """Encoded windows of eight frames to draw from.

    Encoding costs more than the step that learns from it, so each draw encodes few new windows in
    place of the oldest.
    """

    def __init__(self, encode: Encode, size: int = 512, fresh: int = 2, world: Edition = FIRST):
        self.encode, self.size, self.fresh, self.world = encode, size, fresh, world
        self.kept: list[tuple[Scene, Tensor]] = []
        self.added = 0

    def draw(self, count: int, generator: torch.Generator) -> tuple[list[Scene], Tensor]:
        """Scenes and their latents (B, 4, F, h, w)."""
        self._add(max(self.fresh, count - len(self.kept)), generator)
        chosen = torch.randint(len(self.kept), (count,), generator=generator).tolist()
        return [self.kept[index][0] for index in chosen], torch.stack(
            [self.kept[index][1] for index in chosen]
        )

    def _add(self, count: int, generator: torch.Generator) -> None:
        many = scenes(count, generator, self.world)
        times = torch.rand(count, 1, generator=generator) * 0.75 + frame_times(FRAMES) * 0.25
        latents = self.encode(pixels(many, times, self.world.large, world=self.world), generator)
        for pair in zip(many, latents, strict=True):
            if len(self.kept) < self.size:
                self.kept.append(pair)
            else:
                self.kept[self.added % self.size] = pair
            self.added += 1


def latent_clips(
    count: int,
    generator: torch.Generator,
    read: Captions,
    pool: LatentPool,
    steps: int = EXPERT_STEPS,
    part: int | None = None,
    late: float = 0.0,
) -> Batch:
    """Latents of windows of eight frames, noised to timesteps below `steps`, a share `late` of
    them in the lowest quarter; `part`: of squares of this side.
    """
    many, latents = pool.draw(count, generator)
    if part is not None:
        latents = cut(latents, part, generator, step=1)
    timesteps = torch.randint(0, steps, (count,), generator=generator)
    chosen = torch.rand(count, generator=generator) < late
    timesteps = torch.where(chosen, timesteps // 4, timesteps)
    noise = torch.randn(latents.shape, generator=generator)
    return Batch(
        noised(latents, noise, LINEAR[timesteps]),
        timesteps,
        captions(many, generator, read),
        labels=None,
        noise=noise,
        weight=torch.ones(count),
        still=False,
    )


def draw_timesteps(
    count: int,
    generator: torch.Generator,
    share: float = 0.0,
    levels: tuple[float, float] = DECISIVE,
) -> Tensor:
    """Training timesteps (B,), even over all but for a `share` of them at signal levels evenly
    (log) in `levels`.
    """
    timesteps = torch.randint(0, STEPS, (count,), generator=generator)
    low, high = levels
    level = low * (high / low) ** torch.rand(count, generator=generator)
    chosen = (torch.acos(level) * (2 / math.pi) * STEPS).long()
    return torch.where(torch.rand(count, generator=generator) < share, chosen, timesteps)


MAKERS: dict[str, Callable[[int, torch.Generator, Captions], Batch]] = {
    "keyframe_stills": keyframe_stills,
    "keyframe_clips": keyframe_clips,
    "keyframe_fine_clips": partial(keyframe_clips, early=0.3),
    "interpolation_clips": interpolation_clips,
    "pixel_sr_stills": pixel_sr_stills,
    "pixel_sr_clips": pixel_sr_clips,
    "pixel_sr_parts": partial(pixel_sr_clips, part=64),
}
