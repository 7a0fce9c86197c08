"""Random numbers: always drawn in float32 by a CPU generator, so a seed means the same noise on
every device.
"""

import torch
from torch import Generator, Tensor


def generator(seed: int) -> Generator:
    return torch.Generator("cpu").manual_seed(seed)


def randn(shape: tuple[int, ...], source: Generator, device: torch.device) -> Tensor:
    return torch.randn(shape, generator=source, dtype=torch.float32).to(device)


def repeated_noise(noise: Tensor, window: int, step: int, source: Generator) -> Tensor:
    """Noise (B, C, F, H, W) whose frames past the first window are the window's own, shuffled.

    Every stretch of `step` frames has those of the stretch one window before it in another order,
    so that all windows have the same frames of noise and tell of the same things (FreeNoise, Qiu
    et al. 2023, section 3.2). The first window stays as it is.
    """
    frames = noise.shape[2]
    order = list(range(min(window, frames)))
    while len(order) < frames:
        before = order[len(order) - window : len(order) - window + step]
        order += [before[i] for i in torch.randperm(len(before), generator=source).tolist()]
    return noise[:, :, order[:frames]]
