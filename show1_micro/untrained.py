"""A cascade with the micro architecture and random weights, made on the spot: for tests, before or
without training.
"""

from __future__ import annotations

from pathlib import Path

import torch

from show1_engine.bundled import WEIGHTS
from show1_engine.checkpoints.read import read_checkpoint
from show1_engine.models.layers import TemporalConv, TemporalTransformer
from show1_engine.training.result import write_model

from . import configs
from .export import write_stage
from .initial import initial_unet, initial_vae


def write_forgotten(target: Path, seed: int = 0) -> None:
    """Write the bundled cascade with new temporal layers: what Show-1's own training starts from, a
    model of single pictures.
    """
    with torch.random.fork_rng(devices=[]):
        for index, (kind, name) in enumerate(configs.REPOSITORIES.items()):
            torch.manual_seed(seed + index)
            fresh = initial_unet(kind)
            temporal = tuple(
                f"{layer}."
                for layer, module in fresh.named_modules()
                if isinstance(module, (TemporalConv, TemporalTransformer))
            )
            source = read_checkpoint(WEIGHTS / name)
            mine = {k: v for k, v in fresh.state_dict().items() if k.startswith(temporal)}
            write_model(Path(target) / name, source, mine, card=f"# {name} without motion\n")


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
