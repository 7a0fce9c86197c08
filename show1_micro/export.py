"""Writing a stage of the micro cascade as a published model folder: diffusers layout, fp16
safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from show1_engine.bundled import WEIGHTS
from show1_engine.models.unet import UNet
from show1_engine.training.loop import load_state

from . import configs
from .editions import FIRST, Edition
from .text_encoders import clip_weights, t5_weights
from .vocabulary import write_clip_tokenizer, write_t5_tokenizer

_UNET_FILE = "diffusion_pytorch_model.safetensors"


def write_stage(
    target: Path,
    kind: str,
    unet: Mapping[str, Tensor],
    vae: Mapping[str, Tensor] | None = None,
    scaling: float = 1.0,
    world: Edition = FIRST,
) -> Path:
    """Write one stage's folder under `target` and return it. `vae` and its scaling go with the
    latent expert only.
    """
    folder = target / configs.REPOSITORIES[kind]
    config = {**configs.unet_config(kind), "sample_size": _sample_size(kind, world)}
    _component(folder / "unet", config, _as_published(unet, config), file=_UNET_FILE)
    _write_json(folder / "scheduler" / "scheduler_config.json", configs.scheduler_config(kind))
    _write_json(folder / "model_index.json", configs.model_index(kind))
    if kind == "keyframes":
        _component(
            folder / "text_encoder",
            configs.t5_config(),
            _without_duplicate(t5_weights()),
            file="model.safetensors",
        )
        write_t5_tokenizer(folder / "tokenizer")
    if kind == "pixel_sr":
        _write_json(
            folder / "image_noising_scheduler" / "scheduler_config.json", configs.noising_config()
        )
    if kind == "latent_expert":
        _component(folder / "vae", configs.vae_config(scaling), vae or {}, file=_UNET_FILE)
        _component(
            folder / "text_encoder", configs.clip_config(), clip_weights(), file="model.safetensors"
        )
        write_clip_tokenizer(folder / "tokenizer")
    return folder


def _as_published(weights: Mapping[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """The weights in the shapes of a checkpoint: a network's own temporal convolutions are flat."""
    with torch.device("meta"):
        shapes = UNet(config).state_dict()
    return {key: value.reshape(shapes[key].shape) for key, value in weights.items()}


def _sample_size(kind: str, world: Edition) -> int:
    """The longer side of what a network was trained on."""
    if kind == "latent_expert":
        return max(world.large) // 4
    return max(world.large if kind == "pixel_sr" else world.keyframe)


def export_run(
    runs: Path,
    stage: str,
    target: Path = WEIGHTS,
    vae: Path | None = None,
    *,
    world: Edition = FIRST,
) -> Path:
    """Write a trained stage (the mean weights of `runs`/`stage`) as a published folder under
    `target`.

    `vae`: training folder of the latent expert's autoencoder, by default the one beside it.
    """
    mean = load_state(runs / stage / "state.pt")["mean"]
    if not stage.startswith("latent_expert"):
        return write_stage(target, stage, mean, world=world)
    state = load_state((vae or runs / "vae") / "state.pt")
    return write_stage(
        target,
        "latent_expert",
        mean,
        vae=state["mean"],
        scaling=state["scaling"],
        world=world,
    )


def _component(
    folder: Path, config: dict[str, Any], weights: Mapping[str, Tensor], file: str
) -> None:
    _write_json(folder / "config.json", config)
    halves = {
        key: value.detach().to("cpu", torch.float16).contiguous() for key, value in weights.items()
    }
    part = folder / (file + ".part")
    save_file(halves, part, metadata={"format": "pt"})
    part.replace(folder / file)  # a reader sees the old file or the new one, never half of one


def _without_duplicate(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in weights.items() if key != "encoder.embed_tokens.weight"}


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
