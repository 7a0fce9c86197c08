"""I3D (Carreira and Zisserman 2017, fig. 3), trained on Kinetics-400: the network of the FVD.

Names of layers are those of the published state dict (`i3d_pretrained_400.pt`), so it loads without
a table. The feature is what the field takes: the 400 logits, averaged over time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from .layers import padded

CLASSES = 400
SIDE = 224  # pixels
LEAST_FRAMES = 9  # fewer do not reach through the last pooling
_EPSILON = 1e-5  # of the normalisation in the code that the weights come with (TATS' family)
# Widths of the nine blocks: 1x1; 1x1 then 3x3x3; 1x1 then 3x3x3; 1x1 after a pooling.
_BLOCKS = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
_POOLS = {  # before which block: kernel and stride of a max pooling
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


class _Unit(nn.Module):
    """Convolution, normalisation, ReLU."""

    def __init__(self, inside: int, out: int, side: int = 1, stride: int = 1):
        super().__init__()
        self._kernel, self._stride = (side,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(inside, out, self._kernel, stride=self._stride, bias=False)
        self.bn = nn.BatchNorm3d(out, eps=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv3d(padded(x, self._kernel, self._stride))))


class _Block(nn.Module):
    """Four branches beside each other."""

    def __init__(self, inside: int, widths: tuple[int, ...]):
        super().__init__()
        self.b0 = _Unit(inside, widths[0])
        self.b1a, self.b1b = _Unit(inside, widths[1]), _Unit(widths[1], widths[2], 3)
        self.b2a, self.b2b = _Unit(inside, widths[3]), _Unit(widths[3], widths[4], 3)
        self.b3b = _Unit(inside, widths[5])

    def forward(self, x: Tensor) -> Tensor:
        pooled = _max_pool(x, (3, 3, 3), (1, 1, 1))
        branches = (self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled))
        return torch.cat(branches, dim=1)


def _max_pool(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    return F.max_pool3d(padded(x, kernel, stride), kernel, stride)


class I3D(nn.Module):
    """(B, 3, F, 224, 224) in [-1, 1], at least 9 frames -> logits (B, 400)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(3, 64, 7, stride=2)
        self.Conv3d_2b_1x1 = _Unit(64, 64)
        self.Conv3d_2c_3x3 = _Unit(64, 192, 3)
        for name, (inside, widths) in _BLOCKS.items():
            self.add_module(name, _Block(inside, widths))
        self.logits = nn.ModuleDict({"conv3d": nn.Conv3d(1024, CLASSES, 1)})

    def forward(self, video: Tensor) -> Tensor:
        _check(video)
        x = video
        for name, layer in self.named_children():
            if name in _POOLS:
                x = _max_pool(x, *_POOLS[name])
            if name != "logits":
                x = layer(x)
        x = F.avg_pool3d(x, (2, SIDE // 32, SIDE // 32), 1)
        return self.logits["conv3d"](x).flatten(2).mean(2)


def _check(video: Tensor) -> None:
    """A wrong range or size gives numbers too, and they look like a distance."""
    frames, height, width = video.shape[-3:]
    if (height, width) != (SIDE, SIDE):
        raise InputError(f"I3D sees frames of {SIDE}x{SIDE}; these are {width}x{height}")
    if frames < LEAST_FRAMES:
        raise InputError(
            f"I3D needs at least {LEAST_FRAMES} frames of a clip; there are {frames}: give longer "
            "clips, or more frames (--frames)"
        )
    low, high = (float(end) for end in video.aminmax())
    if low < -1.001 or high > 1.001:
        raise InputError(
            f"I3D sees values from -1 to 1; these go from {low:.3g} to {high:.3g}: scale them"
        )


def prepared(frames: Tensor) -> Tensor:
    """uint8 frames (F, H, W, 3) -> (1, 3, F, 224, 224) in [-1, 1].

    Squashed to the square, bilinear without antialiasing, as the field does it.
    """
    x = F.interpolate(frames.movedim(-1, 1).float(), size=(SIDE, SIDE), mode="bilinear")
    return (x * 2 / 255 - 1).movedim(0, 1)[None]
