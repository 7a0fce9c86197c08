"""What motion training minimises: losses between the predicted and the true noise of a clip, (B, C,
F, H, W) each.

Every function returns one number per clip, (B,).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

Objective = Callable[[Tensor, Tensor, Generator], Tensor]


def plain(predicted: Tensor, noise: Tensor, source: Generator) -> Tensor:
    """Mean squared error, as the model itself was trained."""
    return (predicted - noise).square().mean((1, 2, 3, 4))


def debiased(noise: Tensor, anchor: int, beta: float = 1.0) -> Tensor:
    """Noise of a clip without what its frames share: sqrt(beta^2 + 1) e - beta e_anchor
    (MotionDirector, eq. 5).
    """
    return (beta**2 + 1) ** 0.5 * noise - beta * noise[:, :, anchor : anchor + 1]


def motion(predicted: Tensor, noise: Tensor, source: Generator) -> Tensor:
    """The plain error, plus that of the appearance-debiased noise about a random anchor frame
    (MotionDirector).
    """
    anchor = int(torch.randint(noise.shape[2], (), generator=source))
    return plain(predicted, noise, source) + plain(
        debiased(predicted, anchor), debiased(noise, anchor), source
    )


def frame_difference(predicted: Tensor, noise: Tensor, source: Generator) -> Tensor:
    """One minus the cosine between the differences of neighbouring frames (Video Motion
    Customization, eq. 9).

    A lone frame has no difference: 0.
    """
    if noise.shape[2] < 2:
        return predicted.sum((1, 2, 3, 4)) * 0
    steps = (x.diff(dim=2).transpose(1, 2).flatten(2) for x in (predicted, noise))
    return (1 - F.cosine_similarity(*steps, dim=-1)).mean(1)


OBJECTIVES: dict[str, Objective] = {
    "motion": motion,
    "frame_difference": frame_difference,
    "plain": plain,
}
