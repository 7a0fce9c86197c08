"""What each stage is trained on, as far as Show-1's recipe is published: clips of which length and
rate, noised and conditioned how.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..errors import InputError, number_within, one_of
from ..frames import resize_bilinear
from ..lora.targets import TARGETS
from ..models.autoencoder import VaeCodec
from ..models.bundle import Show1Model
from ..models.kinds import FIRST_FRAME_SR, INTERPOLATION, KEYFRAMES, LATENT_EXPERT, PIXEL_SR
from ..noise import randn
from ..sampling.schedules import make_scheduler
from ..stages.interpolate import FACTOR, WINDOW, condition_of
from ..stages.keyframes import FPS
from ..stages.pixel_sr import SCALE, low_resolution
from .batch import Batch
from .noise_levels import draw_timesteps, loss_weights
from .settings import (
    DECAYS,
    PRECISIONS,
    STARTS,
    TIMESTEPS,
    TRAINED,
    VARIANCES,
    StageTrainSettings,
)
from .student import stretches

EXPERT_STEPS = 900  # the latent expert never saw noisier latents (section 3.4)


@dataclass(frozen=True)
class Recipe:
    """A stage's own clips: frames, frames per second, (height, width)."""

    kind: str
    frames: int
    frame_rate: float
    size: tuple[int, int]


RECIPES: dict[str, Recipe] = {
    "keyframes": Recipe(KEYFRAMES, 8, FPS, size=(40, 64)),
    "interpolation": Recipe(INTERPOLATION, WINDOW, FPS * FACTOR, size=(40, 64)),
    "pixel-sr": Recipe(PIXEL_SR, 8, FPS * FACTOR, size=(160, 256)),
    "first-frame": Recipe(FIRST_FRAME_SR, 1, FPS * FACTOR, size=(160, 256)),
    "expert": Recipe(LATENT_EXPERT, 8, FPS * FACTOR, size=(320, 576)),
}


class Noiser:
    """Makes a clean clip one sample of a batch. All that is random comes from the sample's own
    source.
    """

    def __init__(self, model: Show1Model, s: StageTrainSettings):
        self.model, self.s = model, s
        self.alphas = make_scheduler(model.scheduler_config).alphas_cumprod.float().cpu()
        own = EXPERT_STEPS if model.kind == LATENT_EXPERT else len(self.alphas)
        self.limit = min(s.timestep_limit or own, len(self.alphas))
        student = stretches(model.scheduler_config) if model.student_steps else []
        self.starts = torch.tensor([start for start, _ in student if start < self.limit])

    def sample(self, clip: Tensor, text: Tensor, source: Generator, name: str = "") -> Batch:
        """Of a clip (1, 3, F, H, W) in [-1, 1], or the expert's latents of one, and its text."""
        if self.model.kind == LATENT_EXPERT and clip.shape[1] == 3:
            codec = VaeCodec(self.model.vae)
            with torch.no_grad():
                clip = codec.encode(lambda part: clip[:, :, part], clip.shape[2], source).cpu()
        choice, size = self.s.timesteps, tuple(clip.shape[-2:])
        timesteps = self._timesteps(len(clip), size, source)
        noise = randn(clip.shape, source, clip.device)
        alpha = self.alphas[timesteps].view(-1, 1, 1, 1, 1)
        if len(self.starts) and self.model.kind != LATENT_EXPERT:
            # A student begins on noise alone, as when it samples.
            alpha = alpha * (timesteps < self.starts[0]).view_as(alpha)
        noisy = alpha.sqrt() * clip + (1 - alpha).sqrt() * noise
        condition, labels = self._condition(clip, source)
        return Batch(
            noisy if condition is None else torch.cat([noisy, condition], dim=1),
            timesteps,
            text,
            labels=labels,
            noise=noise,
            weight=loss_weights(alpha.flatten(), choice, size),
            clean=clip,
            names=(name,),
        )

    def _timesteps(self, count: int, size: tuple[int, int], source: Generator) -> Tensor:
        if len(self.starts):
            return self.starts[torch.randint(len(self.starts), (count,), generator=source)]
        alphas = self.alphas[: self.limit]
        return draw_timesteps(alphas, count, self.s.timesteps, size=size, source=source)

    def _condition(self, clip: Tensor, source: Generator) -> tuple[Tensor | None, Tensor | None]:
        if self.model.kind == INTERPOLATION:
            return _between_ends(clip, self.s.condition_noise, source), None
        if self.model.kind not in (PIXEL_SR, FIRST_FRAME_SR):
            return None, None
        levels = torch.randint(self.s.noise_levels, (len(clip),), generator=source)
        chained = float(torch.rand((), generator=source)) < self.s.clean_first
        noise = randn(clip.shape, source, clip.device)
        enlarged = resize_bilinear(F.avg_pool3d(clip, (1, SCALE, SCALE)), *clip.shape[-2:])
        first = clip[:, :, :1] if chained and self.model.kind == PIXEL_SR else None
        condition = low_resolution(self.model, enlarged, noise, levels=levels, clean_first=first)
        return condition, levels


def _between_ends(clip: Tensor, noise: float, source: Generator) -> Tensor:
    """The blend of the first and the last frame, noised a little, and the mask (section 3.3)."""
    ends = clip[:, :, [0, -1]]
    level = noise * float(torch.rand((), generator=source))
    ends = ends + level * randn(ends.shape, source, clip.device)
    return condition_of(ends[:, :, 0], ends[:, :, 1])


def checked_settings(stage: str, s: StageTrainSettings) -> StageTrainSettings:
    """InputError, with what is allowed, unless every value is."""
    for name, allowed in (
        ("train", TRAINED),
        ("targets", TARGETS),
        ("start", STARTS),
        ("timesteps", TIMESTEPS),
        ("variance", VARIANCES),
        ("decay", DECAYS),
        ("precision", PRECISIONS),
    ):
        one_of(f"{stage}: {name}", getattr(s, name), allowed)
    counts = ("steps", "batch_size", "accumulate", "rank", "warm_up", "save_every", "keep")
    counts = (*counts, "sample_steps", "teacher_steps")
    for names, least, most in (
        (counts, 1, 10**9),
        (("frames", "sample_every", "held_out", "workers", "condition_noise"), 0, 10**6),
        (("frame_rate", "weight_decay"), 0, 1000),
        (("noise_levels",), 1, 1000),
        (("timestep_limit",), 0, 1000),
        (("text_drop", "clean_first"), 0, 1),
        (("sample_cfg", "teacher_cfg"), 0, 50),
        (("student_steps",), 0, 8),
        (("ema",), 0, 1 - 1e-9),
        (("learning_rate", "clip"), 1e-12, 1e6),
        (("seed",), 0, 2**63 - 1),
    ):
        for name in names:
            number_within(f"{stage}: '{name}'", getattr(s, name), least, most=most)
    if s.shard and s.train not in ("all", "temporal"):
        raise InputError(
            f"{stage}: 'shard' is for 'train' all and temporal; {s.train} trains so little that "
            "there is nothing to divide, leave it out"
        )
    if stage == "interpolation" and s.frames not in (0, WINDOW):
        raise InputError(
            f"{stage}: 'frames' is {s.frames}; a window of interpolation is {WINDOW}, leave it out"
        )
    if s.start == "keyframes" and stage != "interpolation":
        raise InputError(f"{stage}: 'start' is keyframes, which only interpolation begins from")
    return s


def sizes_of(stage: str, s: StageTrainSettings, model: Show1Model) -> list[tuple[int, int]]:
    """The buckets' (height, width). InputError for what is no size, or none of the model's."""
    factor = VaeCodec(model.vae).factor if model.kind == LATENT_EXPERT else 1
    multiple = max(model.network.size_multiple, 1) * factor
    if model.kind in (PIXEL_SR, FIRST_FRAME_SR):
        multiple = max(multiple, SCALE)
    found = []
    for text in filter(None, (part.strip() for part in s.sizes.split(","))):
        sides = text.lower().split("x")
        if len(sides) != 2 or not all(side.isdecimal() and 0 < int(side) < 2**14 for side in sides):
            raise InputError(f"{stage}: 'sizes' has '{text}', which is no WIDTHxHEIGHT")
        found.append((int(sides[1]), int(sides[0])))
    for height, width in found or [RECIPES[stage].size]:
        if height % multiple or width % multiple:
            raise InputError(
                f"{stage}: 'sizes' has {width}x{height}; '{model.name}' is trained on multiples of "
                f"{multiple}"
            )
    return found or [RECIPES[stage].size]
