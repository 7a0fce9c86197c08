"""Inception-v3 of 2015-12-05 as the FID uses it: TensorFlow's graph, which no torchvision model is.

Names of layers are those of the published state dict (torch-fidelity's). It differs from
torchvision's in the resize (TensorFlow 1: no half-pixel centres), in average poolings that do not
count their padding, in a max pooling in the last block, and in 1,008 classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE, FEATURES, CLASSES = 299, 2048, 1008
_EPSILON = 1e-3


class _Conv(nn.Module):
    """Convolution, normalisation, ReLU."""

    def __init__(
        self, inside: int, out: int, kernel: int | tuple[int, int] = 1, *, stride: int = 1
    ):
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        around = tuple(side // 2 for side in sides)
        self.conv = nn.Conv2d(inside, out, sides, stride=stride, padding=around, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Valid(_Conv):
    """Without padding."""

    def __init__(self, inside: int, out: int, kernel: int, *, stride: int = 1):
        super().__init__(inside, out, kernel, stride=stride)
        self.conv.padding = (0, 0)


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _largest(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2)


class _Block(nn.Module):
    """Branches beside each other, each a chain of layers by their names."""

    branches: tuple[tuple[str, ...], ...]

    def chain(self, x: Tensor, names: tuple[str, ...]) -> Tensor:
        for name in names:
            x = self.get_submodule(name)(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.chain(x, names) for names in self.branches], dim=1)


class _Grid35(_Block):
    """35x35."""

    branches = (
        ("branch1x1",),
        ("branch5x5_1", "branch5x5_2"),
        ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
    )

    def __init__(self, inside: int, pooled: int):
        super().__init__()
        self.branch1x1 = _Conv(inside, 64)
        self.branch5x5_1, self.branch5x5_2 = _Conv(inside, 48), _Conv(48, 64, 5)
        self.branch3x3dbl_1 = _Conv(inside, 64)
        self.branch3x3dbl_2, self.branch3x3dbl_3 = _Conv(64, 96, 3), _Conv(96, 96, 3)
        self.branch_pool = _Conv(inside, pooled)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([super().forward(x), self.branch_pool(_average(x))], dim=1)


class _To17(_Block):
    """35x35 to 17x17."""

    branches = (("branch3x3",), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"))

    def __init__(self, inside: int):
        super().__init__()
        self.branch3x3 = _Valid(inside, 384, 3, stride=2)
        self.branch3x3dbl_1 = _Conv(inside, 64)
        self.branch3x3dbl_2 = _Conv(64, 96, 3)
        self.branch3x3dbl_3 = _Valid(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([super().forward(x), _largest(x)], dim=1)


class _Grid17(_Block):
    """17x17, with convolutions of one row or one column."""

    branches = (
        ("branch1x1",),
        ("branch7x7_1", "branch7x7_2", "branch7x7_3"),
        tuple(f"branch7x7dbl_{i}" for i in range(1, 6)),
    )

    def __init__(self, inside: int, width: int):
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = _Conv(inside, 192)
        self.branch7x7_1 = _Conv(inside, width)
        self.branch7x7_2 = _Conv(width, width, row)
        self.branch7x7_3 = _Conv(width, 192, column)
        self.branch7x7dbl_1 = _Conv(inside, width)
        self.branch7x7dbl_2 = _Conv(width, width, column)
        self.branch7x7dbl_3 = _Conv(width, width, row)
        self.branch7x7dbl_4 = _Conv(width, width, column)
        self.branch7x7dbl_5 = _Conv(width, 192, row)
        self.branch_pool = _Conv(inside, 192)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([super().forward(x), self.branch_pool(_average(x))], dim=1)


class _To8(_Block):
    """17x17 to 8x8."""

    branches = (("branch3x3_1", "branch3x3_2"), tuple(f"branch7x7x3_{i}" for i in range(1, 5)))

    def __init__(self, inside: int):
        super().__init__()
        self.branch3x3_1 = _Conv(inside, 192)
        self.branch3x3_2 = _Valid(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _Conv(inside, 192)
        self.branch7x7x3_2 = _Conv(192, 192, (1, 7))
        self.branch7x7x3_3 = _Conv(192, 192, (7, 1))
        self.branch7x7x3_4 = _Valid(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([super().forward(x), _largest(x)], dim=1)


class _Grid8(_Block):
    """8x8; a row and a column beside each other. The last one takes the largest, not the mean."""

    branches = (
        ("branch1x1",),
        ("branch3x3_1", "branch3x3_2a"),
        ("branch3x3_1", "branch3x3_2b"),
        ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3a"),
        ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3b"),
    )

    def __init__(self, inside: int, last: bool):
        super().__init__()
        self._last = last
        row, column = (1, 3), (3, 1)
        self.branch1x1 = _Conv(inside, 320)
        self.branch3x3_1 = _Conv(inside, 384)
        self.branch3x3_2a, self.branch3x3_2b = _Conv(384, 384, row), _Conv(384, 384, column)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Conv(inside, 448), _Conv(448, 384, 3)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = _Conv(384, 384, row), _Conv(384, 384, column)
        self.branch_pool = _Conv(inside, 192)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self._last else _average(x)
        return torch.cat([super().forward(x), self.branch_pool(pooled)], dim=1)


class Inception(nn.Module):
    """(B, 3, H, W), whole numbers from 0 to 255 -> features after the last pooling (B, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Valid(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Valid(32, 32, 3)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3)
        self.MaxPool_1 = nn.MaxPool2d(3, stride=2)
        self.Conv2d_3b_1x1 = _Conv(64, 80)
        self.Conv2d_4a_3x3 = _Valid(80, 192, 3)
        self.MaxPool_2 = nn.MaxPool2d(3, stride=2)
        self.Mixed_5b = _Grid35(192, pooled=32)
        self.Mixed_5c = _Grid35(256, pooled=64)
        self.Mixed_5d = _Grid35(288, pooled=64)
        self.Mixed_6a = _To17(288)
        self.Mixed_6b = _Grid17(768, width=128)
        self.Mixed_6c = _Grid17(768, width=160)
        self.Mixed_6d = _Grid17(768, width=160)
        self.Mixed_6e = _Grid17(768, width=192)
        self.Mixed_7a = _To8(768)
        self.Mixed_7b = _Grid8(1280, last=False)
        self.Mixed_7c = _Grid8(2048, last=True)
        self.fc = nn.Linear(FEATURES, CLASSES)  # of the file; the features stand before it

    def forward(self, frames: Tensor) -> Tensor:
        x = (resized(frames.float()) - 128) / 128
        for name, layer in self.named_children():
            if name != "fc":
                x = layer(x)
        return x.mean((2, 3))


def resized(frames: Tensor, side: int = SIDE) -> Tensor:
    """(B, C, H, W) at side x side, bilinear as TensorFlow 1 samples: pixel i at i * old / new."""
    for axis in (2, 3):
        old = frames.shape[axis]
        place = torch.arange(side, device=frames.device, dtype=torch.float32) * (old / side)
        low = place.floor().long().clamp(max=old - 1)
        share = (place - low).view([-1 if a == axis else 1 for a in range(4)])
        before = frames.index_select(axis, low)
        after = frames.index_select(axis, (low + 1).clamp(max=old - 1))
        frames = before + (after - before) * share
    return frames


def prepared(frames: Tensor) -> Tensor:
    """uint8 frames (F, H, W, 3) -> (F, 3, H, W), whole numbers from 0 to 255."""
    return frames.movedim(-1, 1)
