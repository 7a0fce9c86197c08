"""Latent expert super-resolution: noise the enlarged clip part of the way, denoise it in latent space (section 3.5)."""

from dataclasses import dataclass
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..errors import InputError
from ..frames import checked, cover, from_model, pad_to_multiple, split_alpha, to_model, with_alpha
from ..models.autoencoder import Codec, VaeCodec
from ..models.bundle import Show1Model
from ..models.kinds import LATENT_EXPERT
from ..models.memory import unet_bytes
from ..noise import generator, randn
from ..sampling.loop import Report, denoise, silent
from ..sampling.schedules import Schedule, with_sampler
from .common import halves, predictor, previewing

STAGE = "Show1LatentExpertSR"


@dataclass(frozen=True)
class LatentExpertSettings:
    """Defaults are those of the released inference script. A width or height of 0 follows the input's aspect."""

    width: int = 576
    height: int = 320
    steps: int = 50
    cfg: float = 15.0
    strength: float = 0.8
    seed: int = 0
    sampler: str = "default"


@torch.no_grad()
def latent_expert_sr(model: Show1Model, images: Tensor, positive: Tensor, negative: Tensor,
                     settings: LatentExpertSettings, codec: Codec | None = None, report: Report = silent) -> Tensor:
    """Refines frames at a larger size.

    Args:
        model: a latent expert (with its VAE, unless `codec` is given).
        images: (F, H, W, C) frames, any count and size.
        positive, negative: OpenCLIP states (1, 77, width).
        codec: another VAE for the same latent space.

    Returns:
        (F, height, width, C), about [0, 1]. Another aspect than the input's is cropped to, never squashed.
    """
    model.require(STAGE, LATENT_EXPERT)
    images = checked(STAGE, "images", images)
    s = settings
    if not 0 <= s.strength <= 1:
        raise InputError(f"{STAGE}: 'strength' is {s.strength}; use 0 (keep the input) to 1 (keep nothing)")
    height, width = target_size(s, *images.shape[1:3])
    schedule = Schedule(with_sampler(model.scheduler_config, s.sampler), s.steps, strength=s.strength)
    codec = codec or _own_codec(model)
    rgb, alpha = split_alpha(images)
    video = cover(to_model(rgb, torch.device("cpu")), height, width)
    refined = _refine(model, pad_to_multiple(video, codec.factor), positive, negative, s, schedule, codec, report)
    result = from_model(refined[..., :height, :width])
    return result if alpha is None else with_alpha(result, from_model_alpha(alpha, height, width))


def target_size(s: LatentExpertSettings, height: int, width: int) -> tuple[int, int]:
    """Output (height, width) for an input of that size: 0 follows the input, both 0 keep its size."""
    if s.width < 0 or s.height < 0:
        raise InputError(f"{STAGE}: size {s.width}x{s.height} is negative; use 0 to follow the input")
    if s.width and s.height:
        return s.height, s.width
    if s.width:
        return max(1, round(s.width * height / width)), s.width
    return (s.height, max(1, round(s.height * width / height))) if s.height else (height, width)


def from_model_alpha(alpha: Tensor, height: int, width: int) -> Tensor:
    """Alpha (F, H, W, 1) cropped and resized like the picture."""
    return rearrange(cover(rearrange(alpha, "f h w 1 -> 1 1 f h w"), height, width).clamp(0, 1), "1 1 f h w -> f h w 1")


def _own_codec(model: Show1Model) -> Codec:
    if model.vae is None:
        raise InputError(f"{STAGE}: '{model.name}' has no VAE; connect one (Stable Diffusion 1.5's type) to 'vae'")
    return VaeCodec(model.vae)


def _refine(model: Show1Model, video: Tensor, positive: Tensor, negative: Tensor, s: LatentExpertSettings,
            schedule: Schedule, codec: Codec, report: Report) -> Tensor:
    source = generator(s.seed)
    latents = codec.encode(video, source)
    device = model.unet.load(unet_bytes(model.network.config, halves(s.cfg), *latents.shape[2:], model.unet.dtype))
    latents = latents.to(device)
    noise = rearrange(randn(_frame_major(latents), source, device), "f c h w -> 1 c f h w")
    if schedule.timesteps:
        predict = predictor(STAGE, model, positive, negative, s.cfg, device)
        start = schedule.stepper().add_noise(latents, noise, schedule.timesteps[0])
        latents = denoise(predict, start, schedule, [source], previewing(report, rgb_estimate(latents, video)))
    return codec.decode(latents)


def _frame_major(latents: Tensor) -> tuple[int, ...]:
    """The recorded draw's shape (F, 4, h, w)."""
    _, channels, frames, height, width = latents.shape
    return frames, channels, height, width


def rgb_estimate(latents: Tensor, video: Tensor) -> Callable[[Tensor], Tensor]:
    """A linear map from this VAE's latents to RGB frames, fitted to the clip itself: previews without decoding."""
    size = (video.shape[2], *latents.shape[-2:])
    colours = rearrange(F.interpolate(video, size=size, mode="area"), "1 c f h w -> (f h w) c").float()
    fit = torch.linalg.lstsq(_with_one(latents).cpu(), colours).solution

    def frames(sample: Tensor) -> Tensor:
        rgb = _with_one(sample) @ fit.to(sample.device)
        return (rgb.unflatten(0, size) / 2 + 0.5).clamp(0, 1)

    return frames


def _with_one(latents: Tensor) -> Tensor:
    """(1, C, F, h, w) -> (F*h*w, C + 1), the last column all ones."""
    flat = rearrange(latents, "1 c f h w -> (f h w) c").float()
    return torch.cat([flat, torch.ones_like(flat[:, :1])], dim=1)
