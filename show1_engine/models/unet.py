"""The UNet family of Show-1: pixel 3-D, DeepFloyd IF 2-D and the ModelScope-type latent 3-D UNet.

One class builds all of them from a checkpoint's own `config.json`; state-dict keys are those of the
released checkpoints. Facts that a reader would not guess (paper, section 3; recorded from the
original):

- Temporal attention of the Simple blocks has `attention_head_dim` heads, the spatial attention
  beside it has heads of that *width*.
- `attention_head_dim` as a list is not reversed on the way up, every other list is.
- The pad tokens of the text are attended to and pooled: there is no text mask.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelKindError
from .kinds import is_2d
from .layers import (
    ACTIVATIONS,
    AddedKVAttention,
    Downsample,
    Ops,
    Resnet,
    SpatialTransformer,
    TemporalConv,
    TemporalTransformer,
    TextTimeEmbedding,
    TimestepEmbedding,
    Upsample,
)

_BLOCKS = {  # block type without direction and dimension: attention, resampling
    "SimpleCrossAttn": ("added_kv", "resnet"),
    "Resnet": (None, "resnet"),
    "CrossAttn": ("transformer", "conv"),
    "": (None, "conv"),
}
_UNSUPPORTED = (
    "dual_cross_attention",
    "upcast_attention",
    "class_embeddings_concat",
    "timestep_post_act",
    "time_cond_proj_dim",
    "num_class_embeds",
    "mid_block_only_cross_attention",
)


@dataclass
class TextStates:
    """Text as the UNet reads it, computed once per run: pooled (B, time_dim) and per-layer keys and
    values.
    """

    pooled: Tensor | None
    keys_values: dict[str, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)

    def repeat(self, times: int) -> "TextStates":
        """Each sample `times` times in a row (for a batch of windows that share one text)."""

        def again(x: Tensor) -> Tensor:
            return x.repeat_interleave(times, 0)

        pairs = {
            name: [(again(k), again(v)) for k, v in layers]
            for name, layers in self.keys_values.items()
        }
        return TextStates(None if self.pooled is None else again(self.pooled), pairs)

    def __getitem__(self, rows: slice) -> "TextStates":
        """Some samples of the batch."""
        pairs = {
            name: [(k[rows], v[rows]) for k, v in layers]
            for name, layers in self.keys_values.items()
        }
        return TextStates(None if self.pooled is None else self.pooled[rows], pairs)


@dataclass(frozen=True)
class _Config:
    """A config.json with its lists spelled out per block (down order; `up(i)` gives the way up)."""

    raw: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.raw[name]

    def get(self, name: str, default: Any = None) -> Any:
        value = self.raw.get(name)
        return default if value is None else value

    def each(self, name: str, default: Any = None) -> list:
        value = self.get(name, default)
        return (
            list(value)
            if isinstance(value, (list, tuple))
            else [value] * len(self.block_out_channels)
        )

    @property
    def latent(self) -> bool:
        """diffusers' own UNet3DConditionModel (ModelScope, zeroscope). Show-1's class of that name
        writes `transfromer_in_opt` into its config, show-1-sr2's too.
        """
        return "transfromer_in_opt" not in self.raw and not is_2d(self.raw)

    @property
    def head_dim_in(self) -> int:
        """Head width of transformer_in: 64 in Show-1's class, whatever else its config says. The
        micro cascade's config alone carries a key for it, since 512 channels would be most of that
        model.
        """
        own = self.get("transformer_in_head_dim", 64)
        return self.each("attention_head_dim")[0] if self.latent else own

    @property
    def time_dim(self) -> int:
        return self.get("time_embedding_dim", self.block_out_channels[0] * 4)


def _parse(block_type: str) -> tuple[str | None, str]:
    name = block_type.removesuffix("3D").removesuffix("2D").removesuffix("Block")
    for suffix in ("Downsample", "Upsample", "Down", "Up"):
        name = name.removesuffix(suffix)
    if name not in _BLOCKS:
        raise ModelKindError(f"UNet block type '{block_type}' is not one this package knows")
    return _BLOCKS[name]


def _check(config: _Config) -> None:
    odd = [name for name in _UNSUPPORTED if config.get(name)]
    checks = {
        "time_embedding_type": (None, "positional"),
        "class_embed_type": (None, "timestep"),
        "addition_embed_type": (None, "text"),
        "encoder_hid_dim_type": (None, "text_proj"),
        "conv_in_kernel": (None, 3),
        "conv_out_kernel": (None, 3),
    }
    odd += [name for name, allowed in checks.items() if config.raw.get(name) not in allowed]
    if odd:
        raise ModelKindError(
            "this UNet uses options Show-1 does not have: "
            + ", ".join(f"{name}={config.raw[name]!r}" for name in odd)
        )


@dataclass(frozen=True)
class _Level:
    """What the blocks of one resolution are built with."""

    width: int
    head: int  # attention_head_dim: see _heads
    context: int
    depth: int
    text_only: bool


class _Block(nn.Module):
    """Layers of one resolution. One layer is resnet, temp_conv, attention, temp_attention, as far
    as present.
    """

    def __init__(
        self,
        config: _Config,
        block_type: str,
        ins: list[int],
        level: _Level,
        ops: Ops,
        attentions: int | None = None,
        scale: float | None = None,
    ):
        super().__init__()
        kind, self.resampling = _parse(block_type)
        if kind == "transformer" and level.text_only:
            raise ModelKindError(
                "only_cross_attention in CrossAttn blocks is an option Show-1 does not have"
            )
        resnet = _resnet_options(config, self.resampling, scale)
        layers = range((len(ins) if attentions is None else attentions) if kind else 0)
        self.resnets = nn.ModuleList(
            [Resnet(width, level.width, resample=None, ops=ops, **resnet) for width in ins]
        )
        if not is_2d(config.raw):
            self.temp_convs = nn.ModuleList([TemporalConv(level.width, ops) for _ in ins])
            self.temp_attentions = nn.ModuleList([_temporal(config, level, ops) for _ in layers])
        self.attentions = nn.ModuleList([_spatial(config, kind, level, ops=ops) for _ in layers])

    def layer(self, j: int, x: Tensor, step: "_Step") -> Tensor:
        x = self.resnets[j](x, step.temb, step.frames)
        if hasattr(self, "temp_convs"):
            x = self.temp_convs[j](x, step.frames)
        if j < len(self.attentions):
            x = self.attentions[j](x, step.text_for(self.attentions[j]))
            if hasattr(self, "temp_attentions"):
                x = self.temp_attentions[j](x, step.frames)
        return x


def _resnet_options(config: _Config, resampling: str, scale: float | None = None) -> dict[str, Any]:
    """Show-1's two extra resnet options reach only the Simple and Resnet blocks."""
    plain = resampling == "conv"
    if scale is None:
        scale = 1.0 if plain else config.get("resnet_out_scale_factor", 1.0)
    return {
        "time_dim": config.time_dim,
        "groups": config.norm_num_groups,
        "eps": config.norm_eps,
        "act": config.act_fn,
        "scale_shift": config.get("resnet_time_scale_shift", "default") == "scale_shift",
        "skip_time_act": not plain and bool(config.get("resnet_skip_time_act", False)),
        "out_scale": scale,
    }


def _heads(config: _Config, level: _Level) -> tuple[int, int]:
    """Heads and head width, except of the Simple blocks' spatial attention: Show-1's class reads
    `attention_head_dim` as the number of heads, diffusers' class as their width. What is published
    as [5, 10, 20, 20] in the one is 64 in the other.
    """
    other = level.width // level.head
    return (other, level.head) if config.latent else (level.head, other)


def _temporal(config: _Config, level: _Level, ops: Ops) -> TemporalTransformer:
    return TemporalTransformer(level.width, *_heads(config, level), config.norm_num_groups, ops)


def _spatial(config: _Config, kind: str | None, level: _Level, ops: Ops) -> nn.Module:
    if kind == "added_kv":
        return AddedKVAttention(
            level.width,
            level.head,
            level.context,
            groups=config.norm_num_groups,
            eps=config.norm_eps,
            text_only=level.text_only,
            ops=ops,
        )
    linear = config.latent or bool(config.get("use_linear_projection", False))
    return SpatialTransformer(
        level.width,
        *_heads(config, level),
        level.context,
        level.depth,
        config.norm_num_groups,
        linear,
        ops,
    )


class _DownBlock(_Block):
    def __init__(
        self,
        config: _Config,
        block_type: str,
        ins: list[int],
        level: _Level,
        ops: Ops,
        downsample: bool,
    ):
        super().__init__(config, block_type, ins, level, ops)
        self.downsamplers = nn.ModuleList()
        if downsample and self.resampling == "resnet":
            self.downsamplers.append(
                Resnet(
                    level.width,
                    level.width,
                    resample="down",
                    ops=ops,
                    **_resnet_options(config, "resnet"),
                )
            )
        elif downsample:
            self.downsamplers.append(
                Downsample(level.width, config.get("downsample_padding", 1), ops)
            )

    def forward(self, x: Tensor, skips: list[Tensor], step: "_Step") -> Tensor:
        """Its layers, and down to the next resolution, if there is one. What the way up needs is
        added to `skips`.
        """
        x = self.layers(x, skips, step)
        for sampler in self.downsamplers:
            x = sampler(x, step.temb, step.frames) if self.resampling == "resnet" else sampler(x)
            skips.append(x)
        return x

    def layers(self, x: Tensor, skips: list[Tensor], step: "_Step") -> Tensor:
        """At its own resolution alone."""
        for j in range(len(self.resnets)):
            x = self.layer(j, x, step)
            skips.append(x)
        return x


class _UpBlock(_Block):
    def __init__(
        self,
        config: _Config,
        block_type: str,
        ins: list[int],
        level: _Level,
        ops: Ops,
        upsample: bool,
    ):
        super().__init__(config, block_type, ins, level, ops)
        self.upsamplers = nn.ModuleList()
        if upsample and self.resampling == "resnet":
            self.upsamplers.append(
                Resnet(
                    level.width,
                    level.width,
                    resample="up",
                    ops=ops,
                    **_resnet_options(config, "resnet"),
                )
            )
        elif upsample:
            self.upsamplers.append(Upsample(level.width, ops))

    def forward(self, x: Tensor, skips: list[Tensor], step: "_Step") -> Tensor:
        for j in range(len(self.resnets)):
            x = torch.cat([x, skips.pop()], dim=1)
            x = self.layer(j, x, step)
        for sampler in self.upsamplers:
            # The next skip's size: an odd one was rounded up on the way down.
            size = skips[-1].shape[-2:]
            x = (
                sampler(x, step.temb, step.frames)
                if self.resampling == "resnet"
                else sampler(x, size)
            )
        return x


class _MidBlock(_Block):
    def forward(self, x: Tensor, step: "_Step") -> Tensor:
        for j in range(len(self.resnets)):
            x = self.layer(j, x, step)
        return x


class _Step:
    """What every layer of one forward pass shares."""

    def __init__(self, temb: Tensor, text: TextStates, frames: int, names: dict[nn.Module, str]):
        self.temb, self.text, self.frames, self.names = temb, text, frames, names

    def text_for(self, layer: nn.Module) -> list[tuple[Tensor, Tensor]]:
        """The layer's text keys and values, the same for all frames: (B, tokens, width)."""
        return self.text.keys_values[self.names[layer]]


def _laid_out(x: Tensor) -> Tensor:
    """Channels last on a CPU: changes between pixels, tokens and frames are then views, and
    convolutions faster. Elsewhere as it is: CUDA's group norm would undo it in every layer. So too
    where gradients are wanted: the CPU's group norm goes back ten times slower through channels
    last in bfloat16, and takes half of a training step.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return x
    return x.contiguous(memory_format=torch.channels_last)


class UNet(nn.Module):
    """A UNet of the cascade, built from its `config.json`.

    Args:
        config: the checkpoint's UNet config, lists or single values as published.
        ops: namespace with Linear, Conv2d, GroupNorm and LayerNorm (torch.nn, or the host's
            castable ones).

    Raises:
        ModelKindError: the config asks for something no Show-1 model has.
    """

    def __init__(self, config: dict[str, Any], ops: Ops = nn):
        super().__init__()
        c = self._c = _Config(dict(config))
        self.config = c.raw
        _check(c)
        widths = list(c.block_out_channels)
        self.conv_in = ops.Conv2d(c.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(widths[0], c.time_dim, c.act_fn, ops=ops)
        if c.get("class_embed_type"):
            self.class_embedding = TimestepEmbedding(widths[0], c.time_dim, c.act_fn, ops=ops)
        if c.get("addition_embed_type"):
            text_dim = c.get("encoder_hid_dim") or c.cross_attention_dim
            heads = c.get("addition_embed_type_num_heads", 64)
            self.add_embedding = TextTimeEmbedding(text_dim, c.time_dim, heads, ops=ops)
        if c.get("encoder_hid_dim"):
            self.encoder_hid_proj = ops.Linear(c.encoder_hid_dim, c.each("cross_attention_dim")[0])
        if c.latent or c.get("transfromer_in_opt"):
            self.transformer_in = TemporalTransformer(
                widths[0], 8, c.head_dim_in, groups=32, ops=ops
            )
        self._build_blocks(widths, ops)
        self.conv_norm_out = ops.GroupNorm(c.norm_num_groups, widths[0], eps=c.norm_eps)
        self.conv_out = ops.Conv2d(widths[0], c.out_channels, 3, padding=1)
        self._text_layer_names = {
            m: name for name, m in self.named_modules() if hasattr(m, "text_layers")
        }

    def _build_blocks(self, widths: list[int], ops: Ops) -> None:
        c, last = self._c, len(widths) - 1
        layers, heads = c.each("layers_per_block"), c.each("attention_head_dim", 8)
        levels = [
            _Level(*values)
            for values in zip(
                widths,
                heads,
                c.each("cross_attention_dim"),
                c.each("transformer_layers_per_block", 1),
                c.each("only_cross_attention", False),
            )
        ]
        self.down_blocks = nn.ModuleList(
            [
                _DownBlock(
                    c,
                    block_type,
                    [widths[max(i - 1, 0)]] + [widths[i]] * (layers[i] - 1),
                    level=levels[i],
                    ops=ops,
                    downsample=i < last,
                )
                for i, block_type in enumerate(c.down_block_types)
            ]
        )
        self.mid_block = self._mid_block(levels[-1], ops)
        self.up_blocks = nn.ModuleList()
        for i, block_type in enumerate(c.up_block_types):
            j = last - i  # the down block of the same resolution
            level = levels[j]
            if _parse(block_type)[0] == "added_kv":
                level = replace(
                    level, head=heads[i]
                )  # a list of head widths keeps its down order on the way up
            into = [widths[min(j + 1, last)]] + [widths[j]] * layers[j]
            skips = [widths[j]] * layers[j] + [widths[max(j - 1, 0)]]
            self.up_blocks.append(
                _UpBlock(
                    c,
                    block_type,
                    [a + b for a, b in zip(into, skips)],
                    level=level,
                    ops=ops,
                    upsample=i < last,
                )
            )

    def _mid_block(self, level: _Level, ops: Ops) -> _MidBlock:
        simple = "Simple" in (self._c.get("mid_block_type") or "")
        if not simple:
            level = replace(level, text_only=False)
        return _MidBlock(
            self._c,
            "SimpleCrossAttnDown" if simple else "CrossAttnDown",
            [level.width] * 2,
            level=level,
            ops=ops,
            attentions=1,
            scale=self._c.get("mid_block_scale_factor", 1.0),
        )

    @property
    def size_multiple(self) -> int:
        """H and W must be multiples of this (1 where the blocks take any size)."""
        pooled = any(_parse(name)[1] == "resnet" for name in self.config["down_block_types"])
        return 2 ** (len(self._c.block_out_channels) - 1) if pooled else 1

    @property
    def text_width(self) -> int:
        """Width of the text states this UNet reads: 4096 for T5-XXL, 1024 for OpenCLIP-H."""
        return self._c.get("encoder_hid_dim") or self._c.each("cross_attention_dim")[0]

    def prepare_text(self, text: Tensor) -> TextStates:
        """Everything the UNet computes from the text alone, (B, tokens, text_width),
        once per run.
        """
        pooled = self.add_embedding(text) if hasattr(self, "add_embedding") else None
        if hasattr(self, "encoder_hid_proj"):
            text = self.encoder_hid_proj(text)
        return TextStates(
            pooled,
            {
                name: [layer.keys_values(text) for layer in block.text_layers()]
                for block, name in self._text_layer_names.items()
            },
        )

    def forward(
        self,
        sample: Tensor,
        timestep: int | Tensor,
        text: Tensor | TextStates,
        class_labels: Tensor | None = None,
        kept: list[Tensor] | None = None,
    ) -> Tensor:
        """Predicts noise (and variance, for pixel models).

        Args:
            sample: (B, C, F, H, W), or (B, C, H, W) for one frame; pixels in [-1, 1] or latents.
            timestep: 0..999, one for all or one per sample (B,).
            text: (B, tokens, text_width), or what `prepare_text` made of it.
            class_labels: (B,) noise levels, for super-resolution models only.
            kept: what all levels but the top one gave in an earlier forward of this sample, which
                are then not run (DeepCache, Ma et al. 2023); an empty list is filled with it.

        Returns:
            (B, out_channels, F, H, W), or without F where the sample had none.
        """
        if sample.ndim == 4:
            return self(sample.unsqueeze(2), timestep, text, class_labels, kept=kept).squeeze(2)
        if isinstance(text, Tensor):
            text = self.prepare_text(text)
        if sample.shape[0] * sample[0, 0].numel() == 1:  # torch norms no lone value, but two
            twice = sample.expand(2, -1, -1, -1, -1)
            labels = None if class_labels is None else class_labels.expand(2)
            return self(twice, timestep, text.repeat(2), labels, kept=kept)[:1]
        batch, _, frames, _, _ = sample.shape
        step = _Step(
            self._embed(sample, timestep, text, labels=class_labels),
            text,
            frames,
            names=self._text_layer_names,
        )
        if self.config.get("center_input_sample"):
            sample = 2 * sample - 1
        x = self.conv_in(_laid_out(sample.transpose(1, 2).flatten(0, 1)))
        if hasattr(self, "transformer_in"):
            x = self.transformer_in(x, frames)
        x = self._blocks(x, step, kept)
        x = self.conv_out(ACTIVATIONS[self._c.act_fn](self.conv_norm_out(x)))
        return x.unflatten(0, (batch, frames)).transpose(1, 2)

    def _blocks(self, x: Tensor, step: _Step, kept: list[Tensor] | None) -> Tensor:
        skips = [x]
        if kept:
            self.down_blocks[0].layers(x, skips, step)
            x = kept[0]
        else:
            x = self._below(x, skips, step)
            if kept is not None:
                kept.append(x)
        return self.up_blocks[-1](x, skips, step)

    def _below(self, x: Tensor, skips: list[Tensor], step: _Step) -> Tensor:
        """All the way down, and up again to the top level, whose skips are left."""
        for block in self.down_blocks:
            x = block(x, skips, step)
        x = self.mid_block(x, step)
        for block in self.up_blocks[:-1]:
            x = block(x, skips, step)
        return x

    def _embed(
        self, sample: Tensor, timestep: int | Tensor, text: TextStates, labels: Tensor | None
    ) -> Tensor:
        temb = self.time_embedding(self._sinusoid(timestep, sample))
        if hasattr(self, "class_embedding"):
            if labels is None:
                raise ValueError("a super-resolution UNet needs class_labels (its noise level)")
            temb = temb + self.class_embedding(self._sinusoid(labels, sample))
        if text.pooled is not None:
            temb = temb + text.pooled
        act = self._c.get("time_embedding_act_fn")
        return ACTIVATIONS[act](temb) if act else temb

    def _sinusoid(self, value: int | Tensor, sample: Tensor) -> Tensor:
        """Sinusoidal embedding (B, C0) of timesteps or noise levels, cosines first."""
        half = self._c.block_out_channels[0] // 2
        steps = torch.as_tensor(value, device=sample.device, dtype=torch.float32).expand(
            sample.shape[0]
        )
        exponent = torch.arange(half, dtype=torch.float32, device=sample.device) / (
            half - self._c.get("freq_shift", 0)
        )
        angles = steps[:, None] * torch.exp(-math.log(10000) * exponent)
        halves = [angles.cos(), angles.sin()]
        return torch.cat(
            halves if self._c.get("flip_sin_to_cos", True) else halves[::-1], dim=-1
        ).to(sample.dtype)
