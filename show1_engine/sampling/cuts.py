"""Scene cuts: where a chain of windows has to start anew."""

import torch
import torch.nn.functional as F
from torch import Tensor

_GRID = 8  # frames are compared as 8 x 8 mean colours: motion and noise hardly show there
_JUMP = 0.08  # mean colour difference, of 1, that a cut exceeds ...
_OUTSTANDING = 4.0  # ... and how many times the usual difference around it
_AROUND = 4  # frames on either side that say what is usual


def find_cuts(images: Tensor) -> list[int]:
    """Numbers of the frames of (F, H, W, C) that begin a new scene.

    A cut changes the picture's coarse colours at once, by much more than the frames around it
    change. Fades, flashes of one frame's length at most, and fast motion are no cuts.
    """
    return cuts_between([coarse_colours(image) for image in images])


def cuts_between(coarse: list[Tensor]) -> list[int]:
    """`find_cuts` of frames whose `coarse_colours` alone are kept, so that a film need not be."""
    if len(coarse) < 2:
        return []
    coarse = torch.stack(coarse)
    change = (coarse[1:] - coarse[:-1]).abs().mean(dim=(1, 2, 3))
    return [i + 1 for i in range(len(change)) if _stands_out(change, i)]


def coarse_colours(image: Tensor) -> Tensor:
    """Mean colours (3, 8, 8) of a frame (H, W, C) in [0, 1]."""
    return F.adaptive_avg_pool2d(image[..., :3].float().clamp(0, 1).permute(2, 0, 1)[None], _GRID)[
        0
    ]


def _stands_out(change: Tensor, i: int) -> bool:
    around = torch.cat([change[max(0, i - _AROUND) : i], change[i + 1 : i + 1 + _AROUND]])
    usual = float(around.median()) if len(around) else 0.0
    return float(change[i]) > max(_JUMP, _OUTSTANDING * usual)
