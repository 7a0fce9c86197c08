"""A VAE of ComfyUI's own as the latent stage's codec."""

from collections.abc import Iterator
from typing import Any

import torch
from einops import rearrange
from torch import Generator, Tensor

from ..errors import InputError
from ..models.autoencoder import chunks

_FRAMES_AT_ONCE = 16  # handed to a host VAE, which batches by free memory itself


class ComfyVae:
    """A VAE from the host's own loader as the latent stage's codec (Stable Diffusion 1.5's latent
    space).
    """

    scaling = 0.18215

    def __init__(self, vae: Any):
        self._vae, self.factor = vae, 8

    def encode(self, pixels: Any, frames: int, source: Generator) -> Tensor:
        seed = int(torch.randint(2**31, (), generator=source))
        with torch.random.fork_rng(
            devices=[]
        ):  # the host's VAE draws its posterior noise from the global generator
            torch.manual_seed(seed)
            latents = torch.cat(
                [
                    self._vae.encode(rearrange(pixels(part) / 2 + 0.5, "1 c f h w -> f h w c"))
                    for part in chunks(frames, _FRAMES_AT_ONCE)
                ]
            )
        if latents.ndim != 4 or latents.shape[1] != 4:
            raise InputError(
                f"Show1LatentExpertSR: 'vae' makes latents of shape {tuple(latents.shape)}; the "
                "expert needs Stable Diffusion 1.5's type (4 channels, one eighth of the size)"
            )
        return rearrange(latents.float() * self.scaling, "f c h w -> 1 c f h w")

    def decode(self, latents: Tensor) -> Iterator[tuple[slice, Tensor]]:
        for part in chunks(latents.shape[2], _FRAMES_AT_ONCE):
            images = self._vae.decode(
                rearrange(latents[:, :, part] / self.scaling, "1 c f h w -> f c h w")
            )
            yield part, rearrange(images.float().cpu() * 2 - 1, "f h w c -> 1 c f h w")
