"""Colour anchoring: give frames the colours of their source, so that windows cannot drift apart.

All functions take and return (F, H, W, 3) frames in [0, 1]; the reference has the same shape.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .errors import one_of

_WAVELET_LEVELS = 5
_XYZ = torch.tensor(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)  # linear sRGB (D65) to CIE XYZ, IEC 61966-2-1
_WHITE = torch.tensor([0.95047, 1.0, 1.08883])


def match_color(images: Tensor, reference: Tensor, method: str) -> Tensor:
    """`images` with the colours of `reference`: "none", "mean_std", "wavelet" or "lab".

    mean_std: each channel's mean and spread, per frame. wavelet: everything coarser than about 32
    pixels is the reference's, all detail stays. lab: mean and spread in CIELAB, per frame.
    """
    one_of("color_match", method, METHODS)
    return METHODS[method](images, reference)


def _mean_std(images: Tensor, reference: Tensor) -> Tensor:
    mean, std = (f(images) for f in (_mean, _std))
    return (images - mean) * (_std(reference) / std.clamp(min=1e-4)).clamp(max=4) + _mean(reference)


def _mean(x: Tensor) -> Tensor:
    return x.mean(dim=(1, 2), keepdim=True)


def _std(x: Tensor) -> Tensor:
    return x.std(dim=(1, 2), keepdim=True, correction=0)


def _wavelet(images: Tensor, reference: Tensor) -> Tensor:
    """An a-trous wavelet's residual of the difference: linear, so both pictures are blurred in one
    go. The blur's
    borders would leave a small offset: the mean is set exactly.
    """
    matched = images + _blurred(reference - images)
    return matched + _mean(reference - matched)


def _blurred(x: Tensor) -> Tensor:
    kernel = torch.tensor([1.0, 4, 6, 4, 1]) / 16
    x = rearrange(x, "f h w c -> (f c) 1 h w")
    for level in range(_WAVELET_LEVELS):
        step = 2**level
        for shape, pad in (
            ((1, 1, 1, 5), (2 * step, 2 * step, 0, 0)),
            ((1, 1, 5, 1), (0, 0, 2 * step, 2 * step)),
        ):
            x = F.conv2d(F.pad(x, pad, mode="replicate"), kernel.view(shape), dilation=step)
    return rearrange(x, "(f c) 1 h w -> f h w c", c=3)


def _lab(images: Tensor, reference: Tensor) -> Tensor:
    return _from_lab(_mean_std(_to_lab(images), _to_lab(reference)))


def _to_lab(rgb: Tensor) -> Tensor:
    rgb = rgb.clamp(0, 1)
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = linear @ _XYZ.T / _WHITE
    f = torch.where(
        xyz > 216 / 24389, xyz.clamp(min=1e-8) ** (1 / 3), (24389 / 27 * xyz + 16) / 116
    )
    x, y, z = f.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)


def _from_lab(lab: Tensor) -> Tensor:
    light, a, b = lab.unbind(-1)
    y = (light + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200], dim=-1)
    xyz = torch.where(f > 6 / 29, f**3, (116 * f - 16) * 27 / 24389) * _WHITE
    linear = (xyz @ torch.linalg.inv(_XYZ).T).clamp(0, 1)
    return torch.where(
        linear > 0.0031308, 1.055 * linear.clamp(min=1e-8) ** (1 / 2.4) - 0.055, linear * 12.92
    )


METHODS = {
    "none": lambda images, reference: images,
    "mean_std": _mean_std,
    "wavelet": _wavelet,
    "lab": _lab,
}
