"""Scene cuts: where a chain of windows has to start anew."""

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
    frames = [coarse(image) for image in images]
    return cuts_among([change(before, after) for before, after in zip(frames, frames[1:])])


def coarse(image: Tensor) -> Tensor:
    """What is compared of a frame (H, W, C): (3, 8, 8)."""
    picture = image[..., :3].float().clamp(0, 1).permute(2, 0, 1)
    return F.adaptive_avg_pool2d(picture[None], _GRID)[0]


def change(before: Tensor, after: Tensor) -> float:
    """How much two coarse frames differ, 0 to 1."""
    return float((after - before).abs().mean())


def cuts_among(changes: list[float]) -> list[int]:
    """The cuts, by how much each frame but the first differs from the one before: one number a
    frame is all there is to keep of a film.
    """
    return [i + 1 for i in range(len(changes)) if _stands_out(changes, i)]


def _stands_out(changes: list[float], i: int) -> bool:
    if changes[i] <= _JUMP:
        return False
    around = changes[max(0, i - _AROUND) : i] + changes[i + 1 : i + 1 + _AROUND]
    usual = sorted(around)[(len(around) - 1) // 2] if around else 0.0  # the lower median
    return changes[i] > _OUTSTANDING * usual
