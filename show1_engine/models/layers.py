"""Attention, residual and temporal layers of the UNet family.

Sizes: B videos of F frames; 2-D layers see (B*F, C, H, W), frames fastest. Layers are built from an
injected namespace `ops` (torch.nn, or the host's castable twin). Attribute names are the released
checkpoints' state-dict keys.
"""

from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

Ops = ModuleType | SimpleNamespace | type

ACTIVATIONS = {"silu": F.silu, "swish": F.silu, "gelu": F.gelu, "relu": F.relu, "mish": F.mish}
TEMPORAL_CONV_GROUPS = 32  # fixed in the original, whatever norm_num_groups says
_MAX_ATTENTION_BATCH = 65535  # CUDA's grid limit for the batch axis of fused attention kernels
FEED_FORWARD_TOKENS = 2**15  # at once: a feed-forward's hidden values are twelve times its tokens'


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention of (B, tokens, heads*dim) sequences; q sets the output's
    length.
    """
    q, k, v = (rearrange(x, "b n (h d) -> b h n d", h=heads) for x in (q, k, v))
    parts = zip(*(x.split(_MAX_ATTENTION_BATCH) for x in (q, k, v)))
    out = [F.scaled_dot_product_attention(*part) for part in parts]
    return rearrange(out[0] if len(out) == 1 else torch.cat(out), "b h n d -> b n (h d)")


def before_each(shared: Tensor, own: Tensor) -> Tensor:
    """The tokens (B, n, width) of a video before the tokens (B*F, m, width) of each of its frames,
    copied once.
    """
    each = own.unflatten(0, (len(shared), -1))
    return torch.cat([shared.unsqueeze(1).expand(-1, each.shape[1], -1, -1), each], dim=2).flatten(
        0, 1
    )


def attention_to_shared(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention of B*F frames (B*F, tokens, width) to the keys and values (B, n, width) of their
    video.
    """
    return attention(q.reshape(len(k), -1, q.shape[-1]), k, v, heads=heads).view(q.shape)


class Attention(nn.Module):
    """Plain multi-head attention; q/k/v without bias, output with."""

    def __init__(self, dim: int, heads: int, head_dim: int, context_dim: int | None, ops: Ops):
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.to_q = ops.Linear(dim, inner, bias=False)
        self.to_k = ops.Linear(context_dim or dim, inner, bias=False)
        self.to_v = ops.Linear(context_dim or dim, inner, bias=False)
        self.to_out = nn.ModuleList([ops.Linear(inner, dim)])

    def forward(self, x: Tensor, keys_values: tuple[Tensor, Tensor] | None = None) -> Tensor:
        k, v = keys_values or self.keys_values(x)
        return self.to_out[0](attention_to_shared(self.to_q(x), k, v, heads=self.heads))

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        return self.to_k(context), self.to_v(context)


class GEGLU(nn.Module):
    def __init__(self, dim: int, inner: int, ops: Ops):
        super().__init__()
        self.proj = ops.Linear(dim, inner * 2)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, dim: int, ops: Ops):
        super().__init__()
        self.net = nn.ModuleList(
            [GEGLU(dim, 4 * dim, ops), nn.Identity(), ops.Linear(4 * dim, dim)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Token by token, so that a large sample goes through in parts without any difference."""
        tokens = x.reshape(-1, x.shape[-1])
        parts = [self.net[2](self.net[0](part)) for part in tokens.split(FEED_FORWARD_TOKENS)]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).view(x.shape)


class TransformerBlock(nn.Module):
    """LayerNorm-first block: attn1 over x, attn2 over the text (or x again without one), GEGLU
    feed-forward.
    """

    def __init__(self, dim: int, heads: int, head_dim: int, context_dim: int | None, ops: Ops):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (ops.LayerNorm(dim) for _ in range(3))
        self.attn1 = Attention(dim, heads, head_dim, context_dim=None, ops=ops)
        self.attn2 = Attention(dim, heads, head_dim, context_dim=context_dim, ops=ops)
        self.ff = FeedForward(dim, ops)

    def forward(self, x: Tensor, text: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), text)
        return x + self.ff(self.norm3(x))


def over_frames(x: Tensor, frames: int) -> Tensor:
    """(B*F, C, H, W) as (B, C, F, H*W). Channels last stays so, without a copy."""
    if not x.is_contiguous(memory_format=torch.channels_last):
        return rearrange(x, "(b f) c h w -> b c f (h w)", f=frames)
    rows = x.permute(0, 2, 3, 1)
    return rows.view(-1, frames, rows.shape[1] * rows.shape[2], rows.shape[3]).permute(0, 3, 1, 2)


class TemporalTransformer(nn.Module):
    """Self-attention over the frames of each pixel (both attentions), no positions, no mask, no
    text.
    """

    def __init__(self, channels: int, heads: int, head_dim: int, groups: int, ops: Ops):
        super().__init__()
        inner = heads * head_dim
        self.norm = ops.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = ops.Linear(channels, inner)
        self.transformer_blocks = nn.ModuleList(
            [TransformerBlock(inner, heads, head_dim, context_dim=None, ops=ops)]
        )
        self.proj_out = ops.Linear(inner, channels)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        video = over_frames(x, frames)
        tokens = self.proj_in(rearrange(self.norm(video), "b c f p -> (b p) f c"))
        for block in self.transformer_blocks:
            tokens = block(tokens)
        tokens = self.proj_out(tokens)
        return x + rearrange(tokens, "(b h w) f c -> (b f) c h w", h=x.shape[2], w=x.shape[3])


def frame_conv(channels: int, ops: Ops) -> nn.Conv2d:
    """A convolution over three frames of each pixel, of (B, C, F, H*W).

    Checkpoints hold it as a Conv3d of kernel 3x1x1. It gives the same numbers as a 2-D one, which
    every backend has faster kernels for, so the layer is the namespace's own Conv2d; only its state
    dict has the checkpoints' shape.
    """
    layer = ops.Conv2d(channels, channels, (3, 1), padding=(1, 0))
    layer.register_load_state_dict_pre_hook(_drop_width)
    layer.register_state_dict_post_hook(_add_width)
    return layer


def _drop_width(layer: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    weight = state.get(f"{prefix}weight")
    if weight is not None and weight.ndim == 5:
        state[f"{prefix}weight"] = weight.squeeze(-1)


def _add_width(layer: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    state[f"{prefix}weight"] = state[f"{prefix}weight"].unsqueeze(-1)


class TemporalConv(nn.Module):
    """Residual stack of four GroupNorm, SiLU, 3x1x1 convolutions over the frames."""

    def __init__(self, channels: int, ops: Ops):
        super().__init__()
        self.conv1 = self._step(channels, ops)
        self.conv2, self.conv3, self.conv4 = (
            self._step(channels, ops, nn.Dropout(0.1)) for _ in range(3)
        )

    @staticmethod
    def _step(channels: int, ops: Ops, *dropout: nn.Module) -> nn.Sequential:
        return nn.Sequential(
            ops.GroupNorm(TEMPORAL_CONV_GROUPS, channels),
            nn.SiLU(),
            *dropout,
            frame_conv(channels, ops),
        )

    def forward(self, x: Tensor, frames: int) -> Tensor:
        h = over_frames(x, frames)
        for step in (self.conv1, self.conv2, self.conv3, self.conv4):
            h = step(h)
        return x + rearrange(h, "b c f (h w) -> (b f) c h w", h=x.shape[-2])


class SpatialTransformer(nn.Module):
    """Transformer2D of the CrossAttn blocks: pixels attend to pixels, then to the text."""

    def __init__(
        self,
        channels: int,
        heads: int,
        head_dim: int,
        context_dim: int,
        depth: int,
        groups: int,
        linear: bool,
        ops: Ops,
    ):
        super().__init__()
        inner = heads * head_dim
        self.norm = ops.GroupNorm(groups, channels, eps=1e-6)
        self.linear = linear
        self.proj_in = ops.Linear(channels, inner) if linear else ops.Conv2d(channels, inner, 1)
        self.proj_out = ops.Linear(inner, channels) if linear else ops.Conv2d(inner, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            [
                TransformerBlock(inner, heads, head_dim, context_dim=context_dim, ops=ops)
                for _ in range(depth)
            ]
        )

    def text_layers(self) -> list[nn.Module]:
        return [block.attn2 for block in self.transformer_blocks]

    def forward(self, x: Tensor, text: list[tuple[Tensor, Tensor]]) -> Tensor:
        height, width = x.shape[-2:]
        h = self.norm(x)
        if not self.linear:
            h = self.proj_in(h)
        h = rearrange(h, "b c h w -> b (h w) c")
        if self.linear:
            h = self.proj_in(h)
        for block, keys_values in zip(self.transformer_blocks, text):
            h = block(h, keys_values)
        if self.linear:
            h = self.proj_out(h)
        h = rearrange(h, "b (h w) c -> b c h w", h=height, w=width)
        return x + (h if self.linear else self.proj_out(h))


class AddedKVAttention(nn.Module):
    """DeepFloyd's attention: pixels attend to [text, pixels] in one softmax, or to the text
    alone.
    """

    def __init__(
        self,
        channels: int,
        head_dim: int,
        context_dim: int,
        groups: int,
        eps: float,
        text_only: bool,
        ops: Ops,
    ):
        super().__init__()
        self.heads = channels // head_dim
        self.group_norm = ops.GroupNorm(groups, channels, eps=eps)
        self.norm_cross = ops.GroupNorm(32, context_dim, eps=1e-5)
        self.to_q = ops.Linear(channels, channels)
        if not text_only:
            self.to_k = ops.Linear(channels, channels)
            self.to_v = ops.Linear(channels, channels)
        self.text_only = text_only
        self.add_k_proj = ops.Linear(context_dim, channels)
        self.add_v_proj = ops.Linear(context_dim, channels)
        self.to_out = nn.ModuleList([ops.Linear(channels, channels)])

    def text_layers(self) -> list[nn.Module]:
        return [self]

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Text keys and values; the group norm's statistics run over the tokens, pads included."""
        context = self.norm_cross(context.transpose(1, 2)).transpose(1, 2)
        return self.add_k_proj(context), self.add_v_proj(context)

    def forward(self, x: Tensor, text: list[tuple[Tensor, Tensor]]) -> Tensor:
        ((k, v),) = text
        h = rearrange(
            self.group_norm(x), "b c h w -> b (h w) c"
        ).contiguous()  # once, not in each projection
        if not self.text_only:
            k, v = before_each(k, self.to_k(h)), before_each(v, self.to_v(h))
        h = self.to_out[0](attention_to_shared(self.to_q(h), k, v, heads=self.heads))
        return x + h.transpose(1, 2).reshape(x.shape)


class Resnet(nn.Module):
    """Residual block conditioned on time; `resample` ("down", "up" or None) halves or doubles H and
    W inside.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        time_dim: int,
        groups: int,
        eps: float,
        act: str,
        scale_shift: bool,
        skip_time_act: bool,
        out_scale: float,
        resample: str | None,
        ops: Ops,
    ):
        super().__init__()
        self.act, self.scale_shift, self.skip_time_act = (
            ACTIVATIONS[act],
            scale_shift,
            skip_time_act,
        )
        self.out_scale, self.resample = out_scale, resample
        self.norm1 = ops.GroupNorm(groups, in_channels, eps=eps)
        self.conv1 = ops.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = ops.Linear(time_dim, out_channels * (2 if scale_shift else 1))
        self.norm2 = ops.GroupNorm(groups, out_channels, eps=eps)
        self.conv2 = ops.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = (
            ops.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None
        )

    def forward(self, x: Tensor, temb: Tensor, frames: int) -> Tensor:
        h = self._timed(self.conv1(self._resampled(self.act(self.norm1(x)))), temb, frames)
        h = self.conv2(self.act(h))
        x = self._resampled(x)
        if self.conv_shortcut is not None:
            x = self.conv_shortcut(x)
        return x + h if self.out_scale == 1 else (x + h) / self.out_scale

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2.0, mode="nearest") if self.resample == "up" else x

    def _timed(self, h: Tensor, temb: Tensor, frames: int) -> Tensor:
        temb = self.time_emb_proj(temb if self.skip_time_act else self.act(temb))
        temb = temb.repeat_interleave(frames, 0)[:, :, None, None]
        if not self.scale_shift:
            return self.norm2(h + temb)
        scale, shift = temb.chunk(2, dim=1)
        return torch.addcmul(shift, self.norm2(h), 1 + scale)


class Downsample(nn.Module):
    """Stride-2 convolution of the CrossAttnDown and Down blocks."""

    def __init__(self, channels: int, padding: int, ops: Ops):
        super().__init__()
        self.padding = padding
        self.conv = ops.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.padding else F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest resize to `size` (H, W) and convolution, of the CrossAttnUp and Up blocks."""

    def __init__(self, channels: int, ops: Ops):
        super().__init__()
        self.conv = ops.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return self.conv(F.interpolate(x, size=size, mode="nearest"))


class TimestepEmbedding(nn.Module):
    def __init__(self, channels: int, dim: int, act: str, ops: Ops):
        super().__init__()
        self.act = ACTIVATIONS[act]
        self.linear_1, self.linear_2 = ops.Linear(channels, dim), ops.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(self.act(self.linear_1(x)))


class AttentionPooling(nn.Module):
    """One token (the mean of all, plus a learned position) attends to [itself, all tokens]."""

    def __init__(self, dim: int, heads: int, ops: Ops):
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(1, dim) / dim**0.5)
        self.q_proj, self.k_proj, self.v_proj = (ops.Linear(dim, dim) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        # A lone parameter is no castable layer: the host may leave it on another device or dtype.
        first = x.mean(dim=1, keepdim=True) + self.positional_embedding.to(x)
        tokens = torch.cat([first, x], dim=1)
        return attention(
            self.q_proj(first), self.k_proj(tokens), self.v_proj(tokens), heads=self.heads
        )[:, 0]


class TextTimeEmbedding(nn.Module):
    """Pools the raw text states (B, tokens, text_dim) to the width of the time embedding."""

    def __init__(self, text_dim: int, time_dim: int, heads: int, ops: Ops):
        super().__init__()
        self.norm1, self.norm2 = ops.LayerNorm(text_dim), ops.LayerNorm(time_dim)
        self.pool = AttentionPooling(text_dim, heads, ops)
        self.proj = ops.Linear(text_dim, time_dim)

    def forward(self, text: Tensor) -> Tensor:
        return self.norm2(self.proj(self.pool(self.norm1(text))))
