"""How close pictures are to what they should be."""

import torch
import torch.nn.functional as F
from torch import Tensor


def psnr(images: Tensor, truth: Tensor, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB of clips whose values span `peak`: 1 in [0, 1], 2 in
    [-1, 1].
    """
    return float(-10 * torch.log10((images - truth).square().mean() / peak**2))


def mean_psnr(images: Tensor, truth: Tensor) -> float:
    """Mean over a batch (B, ...) in [-1, 1] of the peak signal-to-noise ratio in dB."""
    pairs = zip(images, truth, strict=True)
    return sum(psnr(made, wanted, peak=2) for made, wanted in pairs) / len(images)


def ssim(images: Tensor, truth: Tensor, window: int = 7) -> float:
    """Mean structural similarity of clips (F, H, W, C) in [0, 1] with a flat window (Wang et al.
    2004).
    """
    x, y = images.movedim(-1, 1), truth.movedim(-1, 1)

    def mean(z: Tensor) -> Tensor:
        return F.avg_pool2d(z, window, 1)

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return float(
        (((2 * mx * my + c1) * (2 * vxy + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean()
    )
