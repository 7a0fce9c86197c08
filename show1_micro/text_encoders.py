"""The micro cascade's two text encoders. They are constructed, not trained, and frozen in training
as Show-1's are.

T5: every meaning of the world has a direction of its own, synonyms share it, filler words share one
that attention drops. The only attention layer averages over the real tokens, so that every
position, pads too, carries the sum of
the meanings: the UNet pools all 77 positions without a mask, and ten words would drown among the
pads otherwise. The feed-forward layer after it says what goes without saying: a shape whose texture
is not named is plain.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .configs import TEXT_WIDTH, clip_config, t5_config
from .landscape import SHAPES
from .vocabulary import LATER_SYNONYMS, SYNONYMS, T5_PIECES, t5_word_ids
from .world import TEXTURES

_GAIN = 12.0  # about the number of tokens in a caption: turns the mean over tokens back into a sum
# How open the gate of an unnamed texture is, and what passes it: measured in a caption of four
# meanings, "plain" then weighs about as much as if it were named.
_OPEN, _PASSED = 3.0, 0.25


def t5_weights(seed: int = 0) -> dict[str, Tensor]:
    """State dict of the T5 encoder, float32. Its function does not depend on training, its
    directions on `seed`.
    """
    config = t5_config()
    basis = _orthogonal(TEXT_WIDTH, seed) * TEXT_WIDTH**0.5
    meanings = _meanings(basis) / TEXT_WIDTH**0.5  # rows of unit length
    inner = config["num_heads"] * config["d_kv"]
    prefix = "encoder.block.0.layer"
    embedding = _embedding(basis)
    gate, value, out = _unnamed_is_plain(meanings, config["d_ff"])
    return {
        "shared.weight": embedding,
        "encoder.embed_tokens.weight": embedding,
        f"{prefix}.0.SelfAttention.q.weight": torch.zeros(inner, TEXT_WIDTH),
        f"{prefix}.0.SelfAttention.k.weight": torch.zeros(inner, TEXT_WIDTH),
        f"{prefix}.0.SelfAttention.v.weight": meanings.T @ meanings,
        f"{prefix}.0.SelfAttention.o.weight": _GAIN * torch.eye(TEXT_WIDTH, inner),
        f"{prefix}.0.SelfAttention.relative_attention_bias.weight": torch.zeros(
            32, config["num_heads"]
        ),
        f"{prefix}.0.layer_norm.weight": torch.ones(TEXT_WIDTH),
        f"{prefix}.1.DenseReluDense.wi_0.weight": gate,
        f"{prefix}.1.DenseReluDense.wi_1.weight": value,
        f"{prefix}.1.DenseReluDense.wo.weight": out,
        f"{prefix}.1.layer_norm.weight": torch.ones(TEXT_WIDTH),
        "encoder.final_layer_norm.weight": torch.ones(TEXT_WIDTH),
    }


def _unnamed_is_plain(meanings: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of the gated feed-forward layer: a unit for each shape, shut by any texture's name,
    that adds "plain" where the shape is said.
    """
    row = dict(zip([*SYNONYMS, *LATER_SYNONYMS], meanings, strict=True))
    gate, value = torch.zeros(width, TEXT_WIDTH), torch.zeros(width, TEXT_WIDTH)
    out = torch.zeros(TEXT_WIDTH, width)
    named = torch.stack([row[texture] for texture in TEXTURES]).sum(0)
    for unit, shape in enumerate(SHAPES):
        gate[unit] = _OPEN * (row[shape] - 3 * named)
        value[unit] = row[shape]
        out[:, unit] = _PASSED * row["plain"]
    return gate, value, out


def _meanings(basis: Tensor) -> Tensor:
    """The rows of all meanings: the later ones come behind the fillers' and specials' row."""
    count, later = len(SYNONYMS), len(SYNONYMS) + 4
    return torch.cat([basis[:count], basis[later : later + len(LATER_SYNONYMS)]])


def _embedding(basis: Tensor) -> Tensor:
    """Token embeddings (vocabulary, width): a row of `basis` for each meaning and special, one for
    all fillers.
    """
    count = len(SYNONYMS)
    ids = t5_word_ids()
    table = basis[count].repeat(len(T5_PIECES), 1)
    for special in range(3):
        table[special] = basis[count + 1 + special]
    groups = [*SYNONYMS.values(), *LATER_SYNONYMS.values()]
    for row, words in zip(_meanings(basis), groups, strict=True):
        for word in words:
            table[ids[word]] = row
    return table


def _orthogonal(size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator))[0]


def clip_weights(seed: int = 0) -> dict[str, Tensor]:
    """State dict of the CLIP text encoder, float32: random layers over large token embeddings."""
    config, generator = clip_config(), torch.Generator().manual_seed(seed)
    width, inner = config["hidden_size"], config["intermediate_size"]
    later = config["vocab_size"] - config["eos_token_id"] - 1

    def random(*shape: int, scale: float) -> Tensor:
        return scale * torch.randn(*shape, generator=generator)

    weights = {
        "embeddings.token_embedding.weight": random(config["vocab_size"] - later, width, scale=1.0),
        "embeddings.position_embedding.weight": random(
            config["max_position_embeddings"], width, scale=0.1
        ),
        "final_layer_norm.weight": torch.ones(width),
        "final_layer_norm.bias": torch.zeros(width),
    }
    shapes = {
        **{f"self_attn.{name}_proj": (width, width) for name in "qkv"},
        "self_attn.out_proj": (width, width),
        "mlp.fc1": (inner, width),
        "mlp.fc2": (width, inner),
    }
    for layer in range(config["num_hidden_layers"]):
        prefix = f"encoder.layers.{layer}"
        for norm in ("layer_norm1", "layer_norm2"):
            weights |= {
                f"{prefix}.{norm}.weight": torch.ones(width),
                f"{prefix}.{norm}.bias": torch.zeros(width),
            }
        for name, (rows, columns) in shapes.items():
            weights[f"{prefix}.{name}.weight"] = random(rows, columns, scale=columns**-0.5)
            weights[f"{prefix}.{name}.bias"] = torch.zeros(rows)
    # Drawn last, so that the first edition's text states stay.
    table = weights["embeddings.token_embedding.weight"]
    weights["embeddings.token_embedding.weight"] = torch.cat(
        [table, random(later, width, scale=1.0)]
    )
    return {f"text_model.{key}": value for key, value in weights.items()}
