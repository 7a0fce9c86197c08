"""What a forward pass needs beside its weights, for whoever decides how much of a model stays on the card."""

from typing import Any

import torch

# Bytes of live activations at the top level, in units of one (frames, channels, H, W) tensor: skips of every
# level, the two branches of a residual block, the temporal layers' float copies and attention's q, k, v.
_UNET_TENSORS = 14
_VAE_BYTES_PER_PIXEL = 2178 * 2  # a VAE decoder's widest full-resolution layers, per value of 2 bytes


def unet_bytes(config: dict[str, Any], batch: int, frames: int, height: int, width: int, dtype: torch.dtype) -> int:
    """Estimated activation memory of a UNet forward of `batch` videos (guidance counts double)."""
    values = batch * frames * height * width * config["block_out_channels"][0]
    return values * dtype.itemsize * _UNET_TENSORS


def vae_bytes(frames: int, height: int, width: int, dtype: torch.dtype) -> int:
    """Estimated activation memory of decoding `frames` frames at once."""
    return frames * height * width * _VAE_BYTES_PER_PIXEL * dtype.itemsize // 2
