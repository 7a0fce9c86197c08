"""Weights are looked at once, when they are read: one that is not finite would make every frame
NaN."""

import math

import torch
from torch import Tensor

from ..errors import CheckpointError

LARGEST = 1e9  # no trained weight comes near; products of larger ones leave float32


def check_finite(value: Tensor, file: str, key: str, dtype: torch.dtype | None = None) -> None:
    """CheckpointError naming `file` and `key` if a value is NaN, infinite or beyond LARGEST, or
    beyond what `dtype` holds. One pass over the values, without a copy."""
    if not value.is_floating_point() or value.numel() == 0:
        return
    largest = _largest(value)
    if not largest <= LARGEST:  # NaN neither
        what = (
            "NaN or infinite values"
            if not math.isfinite(largest)
            else f"values as large as {largest:.3g}"
        )
        raise CheckpointError(
            f"{file} has {what} in '{key}', so every frame would be spoiled. The file is damaged, "
            "or its training went wrong: download it again, or take another."
        )
    most = torch.finfo(dtype or value.dtype).max
    if largest > most:
        raise CheckpointError(
            f"{file} has values as large as {largest:.3g} in '{key}', and {dtype} ends at "
            f"{most:.3g}. Choose the weight_dtype bf16 or fp32."
        )


def _largest(value: Tensor) -> float:
    """The largest magnitude; NaN if there is one."""
    if value.dtype.itemsize == 1:  # without the sign, a float8's bits are in the order of values
        bits = (value.contiguous().view(torch.uint8) & 0x7F).max().reshape(1)
        return float(bits.view(value.dtype).float())
    return float(torch.stack(torch.aminmax(value)).float().abs().max())
