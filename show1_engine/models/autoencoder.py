"""The latent stage's VAE (diffusers' AutoencoderKL): frames to latents and back, a few frames at a time."""

from typing import Any, Protocol

import torch
from einops import rearrange
from torch import Generator, Tensor, nn

from ..host import Handle
from ..noise import randn
from .memory import vae_bytes

_PIXELS_AT_ONCE = 2**20


def build(config: dict[str, Any]) -> nn.Module:
    """An AutoencoderKL without weights (on the meta device)."""
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        return AutoencoderKL.from_config(config).eval()


class Codec(Protocol):
    """Frames to latents of the expert's space and back."""

    factor: int  # pixels per latent along each side

    def encode(self, video: Tensor, source: Generator) -> Tensor:
        """(1, 3, F, H, W) in [-1, 1] -> scaled latents (1, 4, F, H / factor, W / factor), float32."""

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents -> (1, 3, F, H, W) float32, about [-1, 1], not clamped."""


class VaeCodec:
    """The checkpoint's own AutoencoderKL, a few frames at a time."""

    def __init__(self, vae: Handle):
        self._vae = vae
        self.factor = 2 ** (len(vae.module.config.block_out_channels) - 1)
        self._scaling = vae.module.config.scaling_factor

    def encode(self, video: Tensor, source: Generator) -> Tensor:
        """A sample of the posterior. All frames' noise is drawn at once, whatever is encoded at a time."""
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        device, step = self._load(*video.shape[-2:])
        net = self._vae.module
        frames = rearrange(video, "1 c f h w -> f c h w").to(device, self._vae.dtype)
        moments = torch.cat([net.quant_conv(net.encoder(part)) for part in frames.split(step)]).float()
        posterior = DiagonalGaussianDistribution(moments)
        latents = posterior.mean + posterior.std * randn(posterior.mean.shape, source, device)
        return rearrange(latents * self._scaling, "f c h w -> 1 c f h w")

    def decode(self, latents: Tensor) -> Tensor:
        device, step = self._load(*(side * self.factor for side in latents.shape[-2:]))
        net = self._vae.module
        frames = rearrange(latents / self._scaling, "1 c f h w -> f c h w").to(device, self._vae.dtype)
        pixels = torch.cat([net.decoder(net.post_quant_conv(part)).float().cpu() for part in frames.split(step)])
        return rearrange(pixels, "f c h w -> 1 c f h w")

    def _load(self, height: int, width: int) -> tuple[torch.device, int]:
        step = max(1, _PIXELS_AT_ONCE // (height * width))
        return self._vae.load(vae_bytes(step, height, width, self._vae.dtype)), step
