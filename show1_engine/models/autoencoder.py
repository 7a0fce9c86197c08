"""The latent stage's VAE (diffusers' AutoencoderKL)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from einops import rearrange
from torch import Generator, Tensor, nn

from ..noise import randn
from ..out_of_memory import retried_smaller
from .handle import Handle
from .memory import vae_bytes

PixelsOf = Callable[[slice], Tensor]  # frames -> their pixels (1, 3, n, H, W) in [-1, 1]

_PIXELS_AT_ONCE = 2**20  # more are no faster
_SMALLEST_TILE = 32  # latents


def build(config: dict[str, Any]) -> nn.Module:
    """An AutoencoderKL without weights (on the meta device)."""
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        return AutoencoderKL.from_config(config).eval()


class Codec(Protocol):
    """Frames to latents of the expert's space and back, some frames at a time."""

    factor: int  # pixels per latent along each side

    def encode(self, pixels: PixelsOf, frames: int, source: Generator) -> Tensor:
        """Scaled latents (1, 4, F, H / factor, W / factor), float32, of `frames` frames that
        `pixels` hands out.
        """

    def decode(self, latents: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Scaled latents (1, 4, F, h, w) as (frames, pixels (1, 3, n, H, W) float32 in about [-1,
        1], not clamped).
        """


@dataclass
class _Share:
    """How much of a clip goes through the VAE at a time: frames, and of large ones tiles of `side`
    pixels.
    """

    frames: int
    side: int
    least: int
    unit: int  # the quarter by which tiles overlap is then whole latents

    def halve(self) -> bool:
        """Less at a time; False if this is the least there is."""
        if self.frames > 1:
            self.frames //= 2
        elif self.side // 2 >= self.least:
            self.side = self.side // 2 // self.unit * self.unit
        else:
            return False
        return True


class VaeCodec:
    """The checkpoint's own AutoencoderKL. As many frames at a time as memory allows; where not even
    one fits, or the device runs out of memory, frames are cut into overlapping tiles (which changes
    the numbers a little).
    """

    def __init__(self, vae: Handle):
        self._vae = vae
        self.factor = 2 ** (len(vae.module.config.block_out_channels) - 1)
        self._scaling = vae.module.config.scaling_factor

    def encode(self, pixels: PixelsOf, frames: int, source: Generator) -> Tensor:
        """A sample of the posterior. All frames' noise is drawn at once, whatever is encoded at a
        time.
        """
        posterior = self._posterior(pixels, frames)
        noise = randn(posterior.mean.shape, source, posterior.mean.device)
        latents = posterior.mean + posterior.std * noise
        return rearrange(latents * self._scaling, "f c h w -> 1 c f h w")

    @torch.no_grad()
    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled mean and deviation (F, 4, H / factor, W / factor) of frames (1, 3, F, H, W)."""
        found = self._posterior(lambda part: pixels[:, :, part], pixels.shape[2])
        return found.mean * self._scaling, found.std * self._scaling

    def _posterior(self, pixels: PixelsOf, frames: int) -> Any:
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        device, share = self._load(*pixels(slice(0, 1)).shape[-2:])
        moments = []
        for part in chunks(frames, share.frames):
            images = rearrange(pixels(part), "1 c f h w -> f c h w").to(device, self._vae.dtype)
            moments.append(_sharing(self._encoded, images, share).float())
        return DiagonalGaussianDistribution(torch.cat(moments))

    def decode(self, latents: Tensor) -> Iterator[tuple[slice, Tensor]]:
        device, share = self._load(*(side * self.factor for side in latents.shape[-2:]))
        for part in chunks(latents.shape[2], share.frames):
            images = rearrange(latents[:, :, part] / self._scaling, "1 c f h w -> f c h w")
            pixels = _sharing(self._decoded, images.to(device, self._vae.dtype), share)
            yield part, rearrange(pixels.float().cpu(), "f c h w -> 1 c f h w")

    def _encoded(self, images: Tensor, side: int) -> Tensor:
        net = self._vae.module
        if max(images.shape[-2:]) <= side:
            return net.quant_conv(net.encoder(images))
        self._tile(side)
        return net.encode(images).latent_dist.parameters

    def _decoded(self, latents: Tensor, side: int) -> Tensor:
        net = self._vae.module
        if max(latents.shape[-2:]) * self.factor <= side:
            return net.decoder(net.post_quant_conv(latents))
        self._tile(side)
        return net.decode(latents).sample

    def _tile(self, side: int) -> None:
        """diffusers' own tiles: overlapping by a quarter, blended."""
        net = self._vae.module
        net.enable_tiling()
        net.tile_sample_min_size, net.tile_latent_min_size = side, side // self.factor

    def _load(self, height: int, width: int) -> tuple[torch.device, _Share]:
        """Puts the VAE in place and says how much of a clip goes through it at a time beside its
        weights.
        """
        side = max(height, width)
        share = _Share(
            max(1, _PIXELS_AT_ONCE // (height * width)),
            side,
            _SMALLEST_TILE * self.factor,
            unit=4 * self.factor,
        )

        def needs() -> int:
            size = min(height, share.side), min(width, share.side)
            return vae_bytes(self._vae.module.config, share.frames, *size, self._vae.dtype)

        room = self._vae.room()
        while needs() > room:
            if not share.halve():
                break
        return self._vae.load(needs()), share


def _sharing(function: Callable[[Tensor, int], Tensor], images: Tensor, share: _Share) -> Tensor:
    """`function` on some frames at a time; on less at a time when the device runs out of memory."""

    def all_parts() -> Tensor:
        return torch.cat([function(part, share.side) for part in images.split(share.frames)])

    return retried_smaller(all_parts, share.halve)


def chunks(frames: int, step: int) -> list[slice]:
    """The frames in stretches of at most `step`."""
    return [slice(i, min(i + step, frames)) for i in range(0, frames, step)]
