"""What the convolutional networks share: padding as TensorFlow places it."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def padded(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """(B, C, F, H, W) with zeros around it as TensorFlow's SAME puts them: the odd one at the end.

    They follow the input's size, so no fixed padding of a layer can stand for them.
    """
    around: list[int] = []
    for size, k, s in zip(x.shape[:1:-1], kernel[::-1], stride[::-1], strict=True):
        missing = max(k - (size % s or s), 0)
        around += [missing // 2, missing - missing // 2]
    return F.pad(x, around) if any(around) else x
