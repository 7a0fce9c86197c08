"""C3D (Tran et al. 2015), fine-tuned on UCF-101: the network of the video Inception score.

The weights are `conv3d_deepnetA_ucf.npz` of TGAN2's release, its mean clip `mean2.npz` beside it.
Preprocessing as there: BGR, 128 times [-1, 1], enlarged to 112x112 with aligned corners, then
128 - mean is added.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import CheckpointError, InputError

CLASSES = 101
FRAMES, SIDE = 16, 112
_MARGIN = 8  # of the mean clip, which is 128 pixels high
_CONVOLUTIONS = {
    "conv1a": (3, 64),
    "conv2a": (64, 128),
    "conv3a": (128, 256),
    "conv3b": (256, 256),
    "conv4a": (256, 512),
    "conv4b": (512, 512),
    "conv5a": (512, 512),
    "conv5b": (512, 512),
}
_POOLED = {"conv1a": (1, 2, 2), "conv2a": 2, "conv3b": 2, "conv4b": 2, "conv5b": 2}
_LINEAR = {"fc6": (512 * 4 * 4, 4096), "fc7": (4096, 4096), "fc8": (4096, CLASSES)}


class C3D(nn.Module):
    """(B, 3, 16, H, W) RGB in [-1, 1] -> logits (B, 101). `mean`: (3, 16, 112, 112), BGR."""

    def __init__(self) -> None:
        super().__init__()
        for name, (inside, out) in _CONVOLUTIONS.items():
            self.add_module(name, nn.Conv3d(inside, out, 3, padding=1))
        for name, (inside, out) in _LINEAR.items():
            self.add_module(name, nn.Linear(inside, out))
        self.register_buffer("mean", torch.zeros(3, FRAMES, SIDE, SIDE))

    def forward(self, video: Tensor) -> Tensor:
        x = shifted(video, self.mean)
        for name in _CONVOLUTIONS:
            x = F.relu(self.get_submodule(name)(x))
            if name in _POOLED:  # the last pooling takes 7x7 to 4x4: what is left over counts
                x = F.max_pool3d(x, _POOLED[name], ceil_mode=True)
        x = x.flatten(1)
        for name in _LINEAR:
            x = self.get_submodule(name)(x if name == "fc6" else F.relu(x))
        return x


def shifted(video: Tensor, mean: Tensor) -> Tensor:
    """RGB in [-1, 1] as the network was trained to see it: BGR from 0 to 255, less the mean."""
    if video.shape[2] != FRAMES:
        raise InputError(
            f"C3D sees exactly {FRAMES} frames; this clip has {video.shape[2]}: give longer clips"
        )
    x = video.flip(1) * 128
    x = F.interpolate(
        x, size=(FRAMES, SIDE, SIDE), mode="trilinear", align_corners=True
    )  # as many frames as before: each for itself
    return x + (128 - mean)


def prepared(frames: Tensor) -> Tensor:
    """uint8 frames (16, H, W, 3) -> (1, 3, 16, H, W) in [-1, 1]."""
    return (frames.movedim(-1, 0).float() / 127.5 - 1)[None]


def state_of(weights: Mapping[str, np.ndarray], mean: np.ndarray) -> dict[str, Tensor]:
    """The state dict from the arrays of the two files; CheckpointError if they are not those."""
    state = {}
    for name in (*_CONVOLUTIONS, *_LINEAR):
        for theirs, ours in (("W", "weight"), ("b", "bias")):
            if f"{name}/{theirs}" not in weights:
                raise CheckpointError(
                    f"the weights hold no '{name}/{theirs}'; give conv3d_deepnetA_ucf.npz"
                )
            state[f"{name}.{ours}"] = torch.from_numpy(weights[f"{name}/{theirs}"])
    middle = slice(_MARGIN, _MARGIN + SIDE)
    state["mean"] = torch.from_numpy(mean).float()[..., middle, middle].view(3, FRAMES, SIDE, SIDE)
    return state
