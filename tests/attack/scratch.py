"""Copies of the bundled models to be spoiled, and the smallest runs that use them."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from harness import Wrong
from torch import Tensor

from show1_engine.bundled import WEIGHTS
from show1_engine.checkpoints.find import find_models, find_text_encoders
from show1_engine.loading import load_model, load_text_encoder
from show1_engine.models.bundle import Show1Model
from show1_engine.runtime import PlainRuntime
from show1_engine.stages.interpolate import InterpolateSettings, interpolate
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.stages.latent_expert_sr import LatentExpertSettings, latent_expert_sr
from show1_engine.stages.pixel_sr import PixelSRSettings, pixel_sr

MODELS = ("show-1-base", "show-1-interpolation", "show-1-sr1", "show-1-sr2")
CLIP = torch.rand(2, 8, 8, 3, generator=torch.Generator().manual_seed(0))
PROMPT = torch.linspace(-1, 1, 77 * 64).view(1, 77, 64)


@contextmanager
def spoiled(model: str, path: str, change: Callable[[Path], None]) -> Iterator[Path]:
    """A folder of models that holds a copy of one, whose file `path` was changed in place."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "models" / model
        shutil.copytree(WEIGHTS / model, copy, copy_function=os.link)
        target = copy / path
        if target.exists():  # a link so far
            content = target.read_bytes()
            target.unlink()
            target.write_bytes(content)
        change(target)
        yield copy


def try_model(folder: Path) -> None:
    """What a user does with a model: sees it in the list, loads it, runs it."""
    find_models([folder.parent])
    run_model(load_model(folder, PlainRuntime()))


def try_text(folder: Path) -> None:
    find_text_encoders([folder.parent])
    states = load_text_encoder(folder, PlainRuntime()).encode(["a red ball", ""])
    if states.shape[:2] != (2, 77) or not states.isfinite().all():
        raise Wrong(f"text of shape {tuple(states.shape)}, or not finite")


def run_model(model: Show1Model, **changes: Any) -> Tensor:
    """The smallest run of a model's stage."""
    text = changes.pop("positive", PROMPT), changes.pop("negative", -PROMPT)
    images = changes.pop("images", CLIP)
    settings = {"steps": 2, "cfg": 3.0} | changes
    if model.kind == "keyframes":
        small = {"width": 8, "height": 8, "num_frames": 2}
        return finite(keyframes(model, *text, KeyframeSettings(**(small | settings))))
    if model.kind == "interpolation":
        return finite(interpolate(model, images, *text, InterpolateSettings(**settings)))
    if model.kind == "pixel_sr":
        return finite(pixel_sr(model, images, *text, PixelSRSettings(**settings)))
    small = {"width": 16, "height": 16}
    return finite(
        latent_expert_sr(model, images, *text, LatentExpertSettings(**(small | settings)))
    )


def finite(images: Tensor) -> Tensor:
    if not images.isfinite().all():
        raise Wrong("the frames are not finite")
    return images


def json_change(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


def written(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None
