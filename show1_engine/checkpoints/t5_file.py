"""A T5 v1.1 encoder in one .safetensors file, as other packs use it (t5xxl_fp16, t5xxl_fp8_e4m3fn,
..._scaled).

Such a file has the weights under transformers' names and nothing else: the config is read off their
shapes, the tokenizer is looked for.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from . import damage
from .files import Weights, read_json, read_safetensors, unreadable
from .header import HeaderError, read_header

_BLOCK = "encoder.block.{}.layer."
_BIAS = "0.SelfAttention.relative_attention_bias.weight"
_SCALES = (".scale_weight", ".weight_scale")  # of fp8 weights, by ComfyUI's older and newer name
_ASIDE = (".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8")  # for multiplying in fp8
_USE = (
    "Show-1 reads T5 v1.1 XXL: use t5xxl_fp16.safetensors or t5xxl_fp8_e4m3fn(_scaled).safetensors"
)


def t5_config_of(file: Path) -> dict[str, Any]:
    """The T5Config entries of the encoder in `file`. CheckpointError if it holds no T5 v1.1
    encoder.
    """
    shapes = _shapes(file)
    first, second = _BLOCK.format(0), _BLOCK.format(1)
    query = shapes.get(first + "0.SelfAttention.q.weight")
    if query is None:
        raise CheckpointError(
            f"'{file}' holds no T5 encoder under transformers' names ({first}...). {_USE}."
        )
    if first + "1.DenseReluDense.wi.weight" in shapes:
        raise CheckpointError(f"'{file}' is an older T5 (as for Cosmos), not T5 v1.1. {_USE}.")
    if second + _BIAS in shapes:
        raise CheckpointError(f"'{file}' is a UMT5 (as for Wan), not T5 v1.1. {_USE}.")
    try:
        buckets, heads = shapes[first + _BIAS]
        vocabulary, width = shapes.get("shared.weight") or shapes["encoder.embed_tokens.weight"]
        hidden = shapes[first + "1.DenseReluDense.wi_0.weight"][0]
        sizes = {"d_model": width, "d_ff": hidden, "d_kv": query[0] // heads, "num_heads": heads}
    except (LookupError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"'{file}' holds no whole T5 encoder ({error}). {_USE}.") from error
    layers = sum(
        f"{_BLOCK.format(i)}0.SelfAttention.q.weight" in shapes for i in range(len(shapes))
    )
    return {
        "model_type": "t5",
        "feed_forward_proj": "gated-gelu",
        "num_layers": layers,
        "vocab_size": vocabulary,
        "relative_attention_num_buckets": buckets,
        **sizes,
    }


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    try:
        header = read_header(file)[0]
        return {
            name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"
        }
    except OSError as error:
        raise unreadable(file, error) from error
    except (HeaderError, LookupError, TypeError) as error:
        raise CheckpointError(f"'{file}' {damage.of_safetensors(file)}.") from error


def t5_weights(file: Path) -> Weights:
    """The weights of a T5 file. Plain fp8 stays as it is; scaled fp8 is multiplied out, as
    float32.
    """
    weights = read_safetensors(file)
    scales = {
        name.removesuffix(end) + ".weight": value
        for name, value in weights.items()
        for end in _SCALES
        if name.endswith(end)
    }
    return {
        name: _value(file, name, value, scales=scales)
        for name, value in weights.items()
        if not name.endswith((*_SCALES, *_ASIDE))
    }


def _value(file: Path, name: str, value: Tensor, scales: Mapping[str, Tensor]) -> Tensor:
    scale = scales.get(name)
    if scale is None:
        return value
    if value.dtype not in (torch.float8_e4m3fn, torch.float8_e5m2) or scale.numel() != 1:
        raise CheckpointError(
            f"'{file}' keeps {name} as {value.dtype} with {scale.numel()} scales, a form that only "
            f"ComfyUI reads. {_USE}."
        )
    return value.float() * scale.float().reshape(())


def tokenizers_near(file: Path, folder: Path) -> Iterator[Path]:
    """Folders that hold a tokenizer of T5's kind: beside `file`, in the model folders of `folder`,
    in the ComfyUI that `file` lies in.
    """
    children = (
        sorted(child for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    )
    places = [
        file.parent / "tokenizer",
        file.parent / "t5_tokenizer",
        file.parent,
        folder / "tokenizer",
        *(child / "tokenizer" for child in children),
    ]
    places += [
        parent / "comfy" / "text_encoders" / "t5_tokenizer" for parent in file.absolute().parents
    ]
    return (place for place in dict.fromkeys(places) if _is_t5_tokenizer(place))


def _is_t5_tokenizer(folder: Path) -> bool:
    if (folder / "spiece.model").is_file():
        return True
    file = folder / "tokenizer.json"
    try:
        return file.is_file() and read_json(file).get("model", {}).get("type") == "Unigram"
    except (CheckpointError, AttributeError):  # not JSON, or nothing of that form
        return False
