"""Random numbers: always drawn in float32 by a CPU generator, so a seed means the same noise on
every device.
"""

import torch
from torch import Generator, Tensor


def generator(seed: int) -> Generator:
    return torch.Generator("cpu").manual_seed(seed)


def randn(shape: tuple[int, ...], source: Generator, device: torch.device) -> Tensor:
    return torch.randn(shape, generator=source, dtype=torch.float32).to(device)
