"""The latent stage's VAE (diffusers' AutoencoderKL)."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from einops import rearrange
from torch import Generator, Tensor, nn

from ..host import Handle
from ..noise import randn
from .memory import vae_bytes

PixelsOf = Callable[[slice], Tensor]  # frames -> their pixels (1, 3, n, H, W) in [-1, 1]

_PIXELS_AT_ONCE = 2**20


def build(config: dict[str, Any]) -> nn.Module:
    """An AutoencoderKL without weights (on the meta device)."""
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        return AutoencoderKL.from_config(config).eval()


class Codec(Protocol):
    """Frames to latents of the expert's space and back, some frames at a time."""

    factor: int  # pixels per latent along each side

    def encode(self, pixels: PixelsOf, frames: int, source: Generator) -> Tensor:
        """Scaled latents (1, 4, F, H / factor, W / factor), float32, of `frames` frames that `pixels` hands out."""

    def decode(self, latents: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Scaled latents (1, 4, F, h, w) as (frames, pixels (1, 3, n, H, W) float32 in about [-1, 1], not clamped)."""


class VaeCodec:
    """The checkpoint's own AutoencoderKL."""

    def __init__(self, vae: Handle):
        self._vae = vae
        self.factor = 2 ** (len(vae.module.config.block_out_channels) - 1)
        self._scaling = vae.module.config.scaling_factor

    def encode(self, pixels: PixelsOf, frames: int, source: Generator) -> Tensor:
        """A sample of the posterior. All frames' noise is drawn at once, whatever is encoded at a time."""
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        device, step = self._load(*pixels(slice(0, 1)).shape[-2:])
        net, moments = self._vae.module, []
        for part in chunks(frames, step):
            images = rearrange(pixels(part), "1 c f h w -> f c h w").to(device, self._vae.dtype)
            moments.append(net.quant_conv(net.encoder(images)).float())
        posterior = DiagonalGaussianDistribution(torch.cat(moments))
        latents = posterior.mean + posterior.std * randn(posterior.mean.shape, source, device)
        return rearrange(latents * self._scaling, "f c h w -> 1 c f h w")

    def decode(self, latents: Tensor) -> Iterator[tuple[slice, Tensor]]:
        device, step = self._load(*(side * self.factor for side in latents.shape[-2:]))
        net = self._vae.module
        for part in chunks(latents.shape[2], step):
            images = rearrange(latents[:, :, part] / self._scaling, "1 c f h w -> f c h w")
            pixels = net.decoder(net.post_quant_conv(images.to(device, self._vae.dtype)))
            yield part, rearrange(pixels.float().cpu(), "f c h w -> 1 c f h w")

    def _load(self, height: int, width: int) -> tuple[torch.device, int]:
        step = max(1, _PIXELS_AT_ONCE // (height * width))
        return self._vae.load(vae_bytes(step, height, width, self._vae.dtype)), step


def chunks(frames: int, step: int) -> list[slice]:
    """The frames in stretches of at most `step`."""
    return [slice(i, min(i + step, frames)) for i in range(0, frames, step)]
