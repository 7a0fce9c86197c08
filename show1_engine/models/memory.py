"""What a forward pass needs beside its weights, for whoever decides how much of a model stays on
the card.

The estimate walks the model as `unet.py` does and counts the tensors that are alive together in
each layer. It holds for attention kernels that never write the attention weights down (every fused
one: flash, memory-efficient, cuDNN, the CPU's), and leaves out what kernels need for themselves
(cuDNN's and BLAS's workspaces, usually below 100 MB) and the one layer whose weights are cast or
brought in from main memory: the host keeps 400 MB and more free for those.
"""

from collections.abc import Iterator
from typing import Any

import torch

from .kinds import is_2d
from .layers import FEED_FORWARD_TOKENS

_TEXT_TOKENS = 77


def unet_bytes(
    config: dict[str, Any], batch: int, frames: int, height: int, width: int, dtype: torch.dtype
) -> int:
    """Estimated activation memory of a UNet forward of `batch` videos (guidance counts double).

    Args:
        config: the UNet's config.json.
        frames, height, width: of one video, in the UNet's own pixels or latents.
        dtype: what the UNet computes in.
    """
    walk = _Walk(config, batch * frames, height, width=width, dtype=dtype)
    values = max(walk.peaks()) + batch * _TEXT_TOKENS * 2 * walk.text_widths
    outside = batch * frames * height * width * (config["in_channels"] + 2 * config["out_channels"])
    return int(values * dtype.itemsize + outside * torch.float32.itemsize)


def kept_bytes(
    config: dict[str, Any], images: int, height: int, width: int, dtype: torch.dtype
) -> int:
    """What all levels but the top one leave of so many images, if it is kept (UNet.forward)."""
    widths = config["block_out_channels"]
    return images * height * width * widths[min(1, len(widths) - 1)] * dtype.itemsize


class _Walk:
    """Through a UNet's layers, with the skips that wait for the way up. All sizes are numbers of
    values.
    """

    def __init__(
        self, config: dict[str, Any], images: int, height: int, width: int, dtype: torch.dtype
    ):
        self.images, self.size = images, (height, width)
        self.widths = list(config["block_out_channels"])
        levels, layers = len(self.widths), config["layers_per_block"]
        self.layers = list(layers) if isinstance(layers, (list, tuple)) else [layers] * levels
        self.down, self.up = config["down_block_types"], config["up_block_types"]
        self.flat = is_2d(config)
        self.scaled = config.get("resnet_out_scale_factor", 1.0) != 1
        self.sums = (
            torch.float32.itemsize / dtype.itemsize / 64
        )  # softmax sums, a float for each head of about 64
        latent = "transfromer_in_opt" not in config and not self.flat
        head = (
            config["attention_head_dim"] if latent else config.get("transformer_in_head_dim") or 64
        )
        head = head[0] if isinstance(head, (list, tuple)) else head
        self.width_in = (
            8 * head if latent or config.get("transfromer_in_opt") else 0
        )  # of transformer_in
        self.skips: list[int] = []
        self.text_widths = 0

    def tensor(self, channels: int) -> int:
        return self.images * self.size[0] * self.size[1] * channels

    def peaks(self) -> Iterator[float]:
        """Values alive at each layer's worst moment."""
        top, last = self.widths[0], len(self.widths) - 1
        self._keep(top)
        if self.width_in:
            yield self._transformer(self.width_in) + self.tensor(2 * top)
        for i, name in enumerate(self.down):
            yield from self._level(
                name,
                [self.widths[max(i - 1, 0)]] + [self.widths[i]] * (self.layers[i] - 1),
                self.widths[i],
                keeps=True,
            )
            if i < last:
                yield self._resampled(name, self.widths[i], down=True)
                self._keep(self.widths[i])
        yield from self._level(self._middle(), [self.widths[last]] * 2, self.widths[last])
        for i, name in enumerate(self.up):
            j = last - i
            yield from self._way_up(
                name, [self.widths[min(j + 1, last)]] + [self.widths[j]] * self.layers[j]
            )
            if i < last:
                yield self._resampled(name, self.widths[j], down=False)
        yield 3 * self.tensor(top)

    def _way_up(self, name: str, coming: list[int]) -> Iterator[float]:
        """A block of the way up: each layer's input is what comes from the layer before, beside a
        skip.
        """
        held = self.tensor(coming[0])  # by the caller, throughout the block
        for into in coming:
            skip = self.skips.pop()
            both = self.tensor(into) + skip
            yield (
                sum(self.skips) + held + (skip if into is coming[0] else both) + both
            )  # the concatenation
            for peak in self._level(name, [both // self.tensor(1)], coming[-1]):
                yield held + peak

    def _middle(self) -> str:
        return next(
            (name for name in reversed(self.down) if "CrossAttn" in name),
            "SimpleCrossAttnDownBlock",
        )

    def _keep(self, channels: int) -> None:
        self.skips.append(self.tensor(channels))

    def _level(
        self, name: str, ins: list[int], channels: int, keeps: bool = False
    ) -> Iterator[float]:
        """Layers of one resolution. What a layer is given is held by its caller, mostly
        as a skip.
        """
        for into in ins:
            given = 0 if keeps else self.tensor(into)
            yield sum(self.skips) + given + self._resnet(into, channels)
            for part in self._parts(name, channels):
                yield sum(self.skips) + given + self.tensor(channels) + part
            if keeps:
                self._keep(channels)

    def _parts(self, name: str, channels: int) -> Iterator[float]:
        if not self.flat:
            yield 3 * self.tensor(
                channels
            )  # temporal convolutions: input, normalised, activated or result
        if "CrossAttn" in name:
            self.text_widths += channels
            yield self._added_kv(channels) if "Simple" in name else self._transformer(channels)
            if not self.flat:
                yield self._transformer(channels)

    def _resnet(self, into: int, channels: int) -> float:
        ends = 4 if self.scaled else 3
        return max(
            2 * self.tensor(into),
            self.tensor(into) + self.tensor(channels),
            ends * self.tensor(channels),
        )

    def _added_kv(self, channels: int) -> float:
        """Normalised tokens, queries, keys and values behind the text's, and the result."""
        text = 2 * self.images * _TEXT_TOKENS * channels
        return self.tensor(channels) * (5 + self.sums) + text

    def _transformer(self, channels: int) -> float:
        """Attention (two residuals, normalised, q, k, v, result) or feed-forward (hidden values of
        some tokens).
        """
        tokens = self.tensor(1)
        at_once = min(tokens, FEED_FORWARD_TOKENS)
        parts = 2 if tokens > FEED_FORWARD_TOKENS else 0
        return max(
            self.tensor(channels) * (7 + self.sums),
            (tokens * (3 + parts) + 16 * at_once) * channels,
        )

    def _resampled(self, name: str, channels: int, down: bool) -> float:
        """To the next resolution, by a residual block or one convolution; moves `size` on."""
        before = self.tensor(channels)
        self.size = tuple(-(-side // 2) if down else 2 * side for side in self.size)
        after, held = self.tensor(channels), sum(self.skips) + (0 if down else before)
        if name.startswith(("Simple", "Resnet")):
            return held + max(2 * before, (4 if self.scaled else 3) * after)
        return held + (after if down else 2 * after)


def vae_bytes(
    config: dict[str, Any], frames: int, height: int, width: int, dtype: torch.dtype
) -> int:
    """Estimated activation memory of encoding or decoding `frames` frames of that size in pixels at
    once.

    The top level decides: a residual block there (five tensors of its width), or the first one of
    the way up, which comes with the next level's width (three of those).
    """
    top, below = (list(config["block_out_channels"]) * 2)[:2]
    return frames * height * width * max(5 * top, 3 * below) * dtype.itemsize
