"""A model folder as one .safetensors file."""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError, InputError
from ..models.kinds import LATENT_EXPERT
from .files import Weights
from .read import FORMAT, METADATA_KEY, Checkpoint, read_checkpoint


def convert(source: Path, target: Path, dtype: torch.dtype | None = None) -> None:
    """Write the model in `source` (a folder, or a single file of ours) to the .safetensors file
    `target`.

    Keys are "unet.*" and "vae.*"; the configs go into the header, so the file stands alone.
    Floating weights are stored as `dtype` (None: as they are). `target` appears only when it is
    complete; an older one is replaced. Raises CheckpointError (source damaged, target not writable)
    or InputError (target, dtype).
    """
    source, target = Path(source), Path(target)
    _check_target(source, target)
    if dtype is not None and not dtype.is_floating_point:
        raise InputError(f"Weights cannot be stored as {dtype}. Use float32, float16 or bfloat16.")
    checkpoint = read_checkpoint(source)
    weights = {
        f"{part}.{key}": _as(value, dtype, key)
        for part in _parts(checkpoint)
        for key, value in checkpoint.weights(part)[0].items()
    }
    _write(_apart(weights), _metadata(checkpoint), target)


def _parts(checkpoint: Checkpoint) -> tuple[str, ...]:
    return ("unet",) if checkpoint.vae_config is None else ("unet", "vae")


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    configs = {
        "format": FORMAT,
        "kind": checkpoint.kind,
        "unet": checkpoint.unet_config,
        "scheduler": checkpoint.scheduler_config,
        "noising": checkpoint.noising_config,
        "vae": checkpoint.vae_config,
    }
    if checkpoint.kind == LATENT_EXPERT:  # what a folder's name says, kept under any file name
        configs["trained"] = checkpoint.trained
    return {"format": "pt", METADATA_KEY: json.dumps(configs)}


def _as(value: Tensor, dtype: torch.dtype | None, key: str) -> Tensor:
    if dtype is None or not value.is_floating_point():
        return value.contiguous()
    cast = value.to(dtype).contiguous()
    if bool(value.isfinite().all()) and not bool(cast.isfinite().all()):
        raise InputError(
            f"The weights of {key} are too large for {dtype}. Use bfloat16 or float32."
        )
    return cast


def _apart(weights: Weights) -> Weights:
    """The same tensors without common memory: a pickle may hold views of one another, a safetensors
    file may not.
    """
    apart, end = {}, 0
    for key, value in sorted(weights.items(), key=lambda item: item[1].data_ptr()):
        overlaps = value.data_ptr() < end
        end = max(end, value.data_ptr() + value.nbytes)
        apart[key] = value.clone() if overlaps else value
    return apart


def _check_target(source: Path, target: Path) -> None:
    if target.suffix != ".safetensors" or target.is_dir():
        raise InputError(
            f"'{target}' is not a .safetensors file name. Give one, such as "
            "show-1-base.safetensors."
        )
    if not target.parent.is_dir():
        raise InputError(f"The folder '{target.parent}' does not exist. Create it first.")
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"'{target}' cannot be converted into itself. Give another file name.")


def _write(weights: Weights, metadata: dict[str, str], target: Path) -> None:
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        save_file(weights, unfinished, metadata)
        os.replace(unfinished, target)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"'{target}' cannot be written: {error}.") from error
    finally:
        unfinished.unlink(missing_ok=True)
