"""The latent expert's autoencoder: its training, and latents for the expert's."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .batches import pixels, scenes
from .configs import SR_SIZE
from .initial import initial_vae
from .preview import save_sheet

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

log = logging.getLogger(__name__)
_BATCH, _RATE, _WARM_UP, _KL, _EMA = 8, 1e-3, 100, 1e-5, 0.995


class TrainingCodec:
    """A trained autoencoder as the expert's training sees it."""

    def __init__(self, vae: AutoencoderKL, scaling: float):
        self.vae, self.scaling = vae, scaling

    @torch.no_grad()
    def encode(self, video: Tensor, generator: torch.Generator) -> Tensor:
        """Scaled posterior samples (B, 4, F, h, w) of pixels (B, 3, F, H, W) in [-1, 1]."""
        posterior = self.vae.encode(video.transpose(1, 2).flatten(0, 1)).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        latents = (posterior.mean + posterior.std * noise) * self.scaling
        return latents.unflatten(0, (len(video), -1)).transpose(1, 2)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, F, H, W), about [-1, 1], of scaled latents (B, 4, F, h, w)."""
        flat = self.vae.decode(latents.transpose(1, 2).flatten(0, 1) / self.scaling).sample
        return flat.unflatten(0, (len(latents), -1)).transpose(1, 2)


def load_codec(folder: Path) -> TrainingCodec:
    """The autoencoder trained in `folder` (its mean weights)."""
    state = torch.load(folder / "state.pt", weights_only=True)
    vae = initial_vae().eval()
    vae.load_state_dict(state["mean"])
    return TrainingCodec(vae, state["scaling"])


def train_vae(folder: Path, minutes: float, seed: int = 0, anneal: bool = False) -> None:
    """Train the autoencoder on single frames for some minutes; resumes from `folder`."""
    torch.manual_seed(seed)
    vae, generator, counters = (
        initial_vae(),
        torch.Generator().manual_seed(seed),
        {"step": 0, "seconds": 0.0},
    )
    optimiser = torch.optim.AdamW(vae.parameters(), lr=_RATE, betas=(0.9, 0.99), weight_decay=0.0)
    mean = {key: value.clone() for key, value in vae.state_dict().items()}
    if (folder / "state.pt").exists():
        state = torch.load(folder / "state.pt", weights_only=True)
        vae.load_state_dict(state["vae"])
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
        mean, counters = state["mean"], state["counters"]
    start = saved = time.monotonic()
    while (spent := time.monotonic() - start) < minutes * 60:
        rate = (
            _RATE
            * min(1.0, (counters["step"] + 1) / _WARM_UP)
            * (1 - spent / minutes / 60 if anneal else 1.0)
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = _vae_step(vae, optimiser, _frames(_BATCH, generator), generator)
        counters["step"] += 1
        keep = min(_EMA, (1 + counters["step"]) / (10 + counters["step"]))
        for key, value in vae.state_dict().items():
            mean[key].lerp_(value, 1 - keep)
        if counters["step"] % 50 == 0:
            _log(folder, counters | {"loss": round(loss, 4)})
        if time.monotonic() - saved > 300:
            _save(folder, vae, mean, optimiser, generator, counters, time.monotonic() - saved)
            saved = time.monotonic()
    _save(folder, vae, mean, optimiser, generator, counters, time.monotonic() - saved)


def _frames(count: int, generator: torch.Generator) -> Tensor:
    """Single frames (B, 3, H, W) in [-1, 1]."""
    return pixels(scenes(count, generator), torch.rand(count, 1, generator=generator), SR_SIZE)[
        :, :, 0
    ]


def _vae_step(
    vae: AutoencoderKL, optimiser: torch.optim.Optimizer, frames: Tensor, generator: torch.Generator
) -> float:
    """One step of absolute and squared error with a very small pull of the latents to a normal
    distribution.
    """
    optimiser.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = vae.encode(frames).latent_dist
        latents = posterior.mean + posterior.std * torch.randn(
            posterior.mean.shape, generator=generator
        )
        again = vae.decode(latents).sample.float()
    loss = (
        F.l1_loss(again, frames)
        + F.mse_loss(again, frames)
        + _KL * posterior.kl().float().mean() / 64
    )
    loss.backward()
    nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())


def _save(
    folder: Path,
    vae: AutoencoderKL,
    mean: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    counters: dict[str, float],
    seconds: float,
) -> None:
    """Write the state; measure the latents' deviation, the reconstruction's PSNR, and draw a sheet
    with the mean.
    """
    counters["seconds"] += seconds
    current = {key: value.clone() for key, value in vae.state_dict().items()}
    vae.load_state_dict(mean)
    frames = _frames(32, torch.Generator().manual_seed(1234))
    with torch.no_grad():
        latents = vae.encode(frames).latent_dist.mean
        again = vae.decode(latents).sample.clamp(-1, 1)
    vae.load_state_dict(current)
    scaling = round(1.0 / float(latents.std()), 5)
    quality = -10 * torch.log10((again - frames).square().mean((1, 2, 3)) / 4).mean()
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "vae": current,
        "mean": mean,
        "optimiser": optimiser.state_dict(),
        "generator": generator.get_state(),
        "counters": counters,
        "scaling": scaling,
    }
    torch.save(state, folder / "state.part")
    (folder / "state.part").replace(folder / "state.pt")
    save_sheet(
        folder / f"sheet-{int(counters['step']):06d}.png",
        torch.stack([frames[:8], again[:8]]).permute(0, 2, 1, 3, 4),
        scale=2,
    )
    _log(folder, counters | {"psnr": round(float(quality), 2), "scaling": scaling})


def _log(folder: Path, entry: dict[str, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
    log.info("vae %s", entry)
