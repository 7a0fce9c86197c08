"""A cascade with the micro architecture and random weights, made on the spot: for tests, before or
without training.
"""

from __future__ import annotations

from pathlib import Path

import torch

from . import configs
from .export import write_stage
from .initial import initial_unet, initial_vae


def write_untrained(target: Path, seed: int = 0) -> None:
    """Write the four stages' folders under `target` (about 15 MB), each as a published checkpoint
    is laid out.

    The same seed gives the same weights. The T5 encoder and its tokenizer lie with the keyframe
    model.
    """
    with torch.random.fork_rng(devices=[]):
        for index, kind in enumerate(configs.REPOSITORIES):
            torch.manual_seed(seed + index)
            vae = initial_vae().state_dict() if kind == "latent_expert" else None
            write_stage(Path(target), kind, initial_unet(kind).state_dict(), vae=vae)
