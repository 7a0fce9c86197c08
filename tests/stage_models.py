"""The goldens' tiny models for tests of stages, loaded once; text states and clips for them."""

import reference
import torch
from torch import Tensor

from show1_engine.loading import load_model
from show1_engine.models.bundle import Show1Model
from show1_engine.runtime import PlainRuntime

_models: dict[str, Show1Model] = {}


def model(name: str) -> Show1Model:
    if name not in _models:
        _models[name] = load_model(reference.reference_root() / "models" / name, PlainRuntime())
    return _models[name]


def text(name: str) -> tuple[Tensor, Tensor]:
    states = torch.randn(
        2, 77, model(name).network.text_width, generator=torch.Generator().manual_seed(1)
    )
    return states[:1], states[1:]


def clip(frames: int, height: int, width: int, channels: int = 3) -> Tensor:
    return torch.rand(frames, height, width, channels, generator=torch.Generator().manual_seed(2))
