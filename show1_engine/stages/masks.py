"""Masks: which part of a clip a stage works on, 1 inside and 0 outside, soft in between."""

import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError


def checked_mask(stage: str, mask: Tensor, frames: int) -> Tensor:
    """A mask (H, W), or (1 or F, H, W), as float32 (1 or F, H, W) in [0, 1]; else InputError."""
    if not isinstance(mask, Tensor) or mask.ndim not in (2, 3) or 0 in mask.shape:
        what = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(
            f"{stage}: 'mask' is no mask but {what}; connect a MASK (frames, rows, columns)"
        )
    mask = mask[None] if mask.ndim == 2 else mask
    if len(mask) not in (1, frames):
        raise InputError(
            f"{stage}: 'mask' has {len(mask)} frames and the clip {frames}; give one for all, or "
            "one for each"
        )
    mask = mask.float()
    if not bool(mask.isfinite().all()):
        raise InputError(
            f"{stage}: 'mask' has NaN or infinite values; use 0 (outside) to 1 (inside)"
        )
    return mask.clamp(0, 1)


def mask_of(mask: Tensor, frames: int, height: int, width: int) -> Tensor:
    """A checked mask as (1, 1, frames, height, width); what is 0 or 1 all around a place stays so
    there.
    """
    sized = F.interpolate(mask[:, None], size=(height, width), mode="bilinear", align_corners=False)
    return sized.movedim(1, 0)[None].expand(1, 1, frames, height, width)
