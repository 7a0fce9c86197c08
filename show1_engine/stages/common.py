"""What the stages share: progress over several runs, previews, text in place."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from ..errors import InputError
from ..models.bundle import Show1Model
from ..models.kinds import LATENT_EXPERT
from ..models.memory import unet_bytes
from ..sampling.loop import Predict, Report, guided


def shifted(report: Report, done: int, total: int) -> Report:
    """report() for one of several runs that share a progress bar of `total` steps, `done` of them before it."""
    return lambda step, _, preview=None: report(done + step, total, preview)


def previewing(report: Report, to_frames: Callable[[Tensor], Tensor]) -> Report:
    """report() whose previews are frames (F, H, W, 3) made from the predicted clean sample."""
    return lambda step, total, preview=None: report(step, total, preview and (lambda: to_frames(preview())))


def pixel_frames(video: Tensor) -> Tensor:
    """(B, 3, F, H, W) in [-1, 1] -> all frames in a row (B*F, H, W, 3) in [0, 1]."""
    return rearrange(video[:, :3] / 2 + 0.5, "b c f h w -> (b f) h w c").clamp(0, 1)


def predictor(stage: str, model: Show1Model, positive: Tensor, negative: Tensor, cfg: float, device: torch.device,
              labels: Tensor | None = None, windows: int = 1) -> Predict:
    """The model as a guided noise predictor; see sampling.loop.guided."""
    texts = [model.text(stage, name, states, device) for name, states in
             (("positive", positive), ("negative", negative))]
    channels = 4 if model.kind == LATENT_EXPERT else 3
    return guided(model.network, *texts, cfg, model.unet.dtype, channels, labels, windows)


def fitting(model: Show1Model, batch: int, frames: int) -> Callable[[int], bool]:
    """Whether a square tile of some side, `batch` videos of `frames` frames at once, leaves the device room."""
    limit = model.unet.memory() // 2

    def fits(side: int) -> bool:
        return unet_bytes(model.network.config, batch, frames, side, side, model.unet.dtype) <= limit

    return fits


def check_noise_level(stage: str, name: str, level: int) -> None:
    if not 0 <= level <= 999:
        raise InputError(f"{stage}: '{name}' is {level}; a noise level is a timestep, 0 (clean) to 999 (pure noise)")


def halves(cfg: float) -> int:
    """How many samples one video costs per step: classifier-free guidance runs two."""
    return 2 if cfg > 1 else 1
