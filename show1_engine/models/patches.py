"""Changes to single weights, which a handle adds while its network is loaded."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LowRank:
    """up (out, rank) @ down (rank, in), times alpha / rank (without alpha: times 1)."""

    up: Tensor
    down: Tensor
    alpha: float | None = None

    def delta(self, device: torch.device) -> Tensor:
        """What is added to the weight, float32."""
        scale = 1.0 if self.alpha is None else self.alpha / self.down.shape[0]
        return scale * (self.up.to(device, torch.float32) @ self.down.to(device, torch.float32))


@dataclass(frozen=True, eq=False)
class Difference:
    """What is added, whole."""

    difference: Tensor

    def delta(self, device: torch.device) -> Tensor:
        return self.difference.to(device, torch.float32)


Patch = LowRank | Difference
Patches = dict[str, Patch]  # by the weight's name in its network


def patched(weight: Tensor, changes: list[tuple[Patch, float]]) -> Tensor:
    """The weight with every change added, each times its strength; summed in float32."""
    total = weight.float()
    for patch, strength in changes:
        total = total + strength * patch.delta(weight.device)
    return total.to(weight.dtype)
