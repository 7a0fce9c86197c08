"""What a stage's training leaves: a model's folder as published, or a motion LoRA, with a card."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..checkpoints.files import Weights
from ..checkpoints.read import Checkpoint
from ..lora.formats import spelled
from ..lora.merging import MotionLora
from ..lora.student import student_metadata
from ..models.kinds import DESCRIPTION, INTERPOLATION
from .settings import StageTrainSettings

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_INTERPOLATION_CHANNELS = 7  # three noisy, three of the blend, the mask
_COPIED = ("text_encoder", "tokenizer")  # text encoders are large: linked where that can be done


def write_model(target: Path, source: Checkpoint, learned: Mapping[str, Tensor], card: str) -> Path:
    """The model of `source` with the `learned` weights in place of its own, in diffusers' layout,
    each weight in its own dtype. The folder appears when it is complete; an older one is replaced.
    """
    part, before = (target.with_name(f".{target.name}.{end}") for end in ("part", "before"))
    for old in (part, before):
        shutil.rmtree(old, ignore_errors=True)
    part.mkdir(parents=True)
    weights, _ = source.weights("unet")
    _component(part / "unet", source.unet_config, _replaced(weights, learned))
    _write_json(part / "scheduler" / "scheduler_config.json", source.scheduler_config)
    if source.noising_config is not None:
        place = part / "image_noising_scheduler" / "scheduler_config.json"
        _write_json(place, source.noising_config)
    if source.vae_config is not None:
        _component(part / "vae", source.vae_config, source.weights("vae")[0])
    for name in (*_COPIED, "model_index.json"):
        _copy(source.path / name, part / name)
    digest = _sha256(part / "unet" / _WEIGHTS)
    (part / "README.md").write_text(f"{card}\n- sha256 of the UNet: {digest}\n", encoding="utf-8")
    if target.exists():
        target.replace(before)
    part.replace(target)
    shutil.rmtree(before, ignore_errors=True)
    return target


def write_lora(target: Path, lora: MotionLora, card: str) -> Path:
    """A LoRA as Show1MotionLoRA and `--lora` read it, a student's with its settings; its card
    beside it.
    """
    part = target.with_suffix(".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    metadata = None if lora.student is None else student_metadata(lora.student)
    save_file(spelled(lora), part, metadata)
    part.replace(target)
    digest = _sha256(target)
    text = f"{card}\n- sha256 of the file: {digest}\n"
    target.with_suffix(".md").write_text(text, encoding="utf-8")
    return target


def model_card(
    name: str, source: Checkpoint, s: StageTrainSettings, done: Mapping[str, Any]
) -> str:
    """What it is, what it was trained on, how. `done`: what is told of the run, by name."""
    rows = [f"- {title}: {value}" for title, value in done.items()]
    settings = [f"| {key} | {value} |" for key, value in asdict(s).items() if value != ""]
    return "\n".join(
        [
            "---",
            "library_name: diffusers",
            "tags: [text-to-video, show-1]",
            "---",
            "",
            f"# {name}",
            "",
            f"{DESCRIPTION[source.kind].capitalize()}, trained from `{source.name}`.",
            "",
            "| setting | value |",
            "|---|---|",
            *settings,
            "",
            *rows,
        ]
    )


def _replaced(weights: Weights, learned: Mapping[str, Tensor]) -> Weights:
    out = dict(weights)
    for name, value in learned.items():
        old = weights[name]
        out[name] = value.detach().cpu().reshape(old.shape).to(old.dtype)
    return out


def _component(folder: Path, config: dict[str, Any], weights: Weights) -> None:
    _write_json(folder / "config.json", config)
    whole = {name: value.contiguous() for name, value in weights.items()}
    save_file(whole, folder / _WEIGHTS, metadata={"format": "pt"})


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_linked)
    elif source.is_file():
        shutil.copy2(source, target)


def _linked(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


class Grown(Checkpoint):
    """An interpolation model of a keyframe model's checkpoint: more input channels, which begin at
    0 (section 3.3).
    """

    @classmethod
    def of(cls, keyframes: Checkpoint) -> "Grown":
        return cls(
            keyframes.path,
            INTERPOLATION,
            {**keyframes.unet_config, "in_channels": _INTERPOLATION_CHANNELS},
            scheduler_config=keyframes.scheduler_config,
        )

    @property
    def name(self) -> str:
        """The published one's."""
        return "show-1-interpolation"

    def weights(self, part: str, prefer_fp16: bool = False) -> tuple[Weights, Path]:
        """Those of the keyframe model."""
        weights, file = super().weights(part, prefer_fp16)
        first = weights["conv_in.weight"]
        new = _INTERPOLATION_CHANNELS - first.shape[1]
        zeros = torch.zeros(first.shape[0], new, *first.shape[2:], dtype=first.dtype)
        return {**weights, "conv_in.weight": torch.cat([first, zeros], dim=1)}, file
