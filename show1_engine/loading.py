"""From files to models: checkpoints read, networks built from a runtime's layers, weights put
in.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoints.finite import check_finite
from .checkpoints.read import (
    Checkpoint,
    TextCheckpoint,
    check_fit,
    load_strict,
    read_checkpoint,
    read_text_encoder,
)
from .checkpoints.t5_file import tokenizers_near
from .errors import CheckpointError, one_of
from .models import autoencoder
from .models.bundle import Show1Model
from .models.compiled import compile_network
from .models.handle import TEXT, UNET, VAE, Handle, Runtime
from .models.text import CLIP, T5, TextEncoder, load_tokenizer
from .models.unet import UNet
from .sampling.schedules import make_scheduler

DTYPES: dict[str, torch.dtype | None] = {
    "default": None,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8_e4m3fn": torch.float8_e4m3fn,
}
FAST = "fp8_e4m3fn_fast"  # of a UNet: multiplied in fp8, too
UNET_DTYPES = {**DTYPES, FAST: torch.float8_e4m3fn}


def dtype_of(name: str) -> torch.dtype | None:
    """The dtype a user names; None for "default"."""
    one_of("weight dtype", name, UNET_DTYPES)
    return UNET_DTYPES[name]


def load_model(
    path: Path,
    runtime: Runtime,
    weight_dtype: str = "default",
    name: str | None = None,
    compiled: bool = False,
) -> Show1Model:
    """A model of the cascade from a diffusers-layout folder or one of our single files.

    `compiled`: its UNet goes through torch.compile.

    Raises:
        CheckpointError: files missing, damaged, unsafe, or keys that do not fit the config.
        ModelKindError: not a Show-1 model.
        InputError: torch.compile does not work here.
    """
    checkpoint = read_checkpoint(Path(path))
    return model_of(checkpoint, runtime, weight_dtype, name=name, compiled=compiled)


def model_of(
    checkpoint: Checkpoint,
    runtime: Runtime,
    weight_dtype: str = "default",
    name: str | None = None,
    compiled: bool = False,
) -> Show1Model:
    """`load_model` of a checkpoint that was read."""
    for config in (checkpoint.scheduler_config, checkpoint.noising_config):
        if config is not None:
            make_scheduler(config)  # refuses what it cannot run
    found = checkpoint.weights("unet")
    check_fit("unet", checkpoint.unet_config, *found)
    unet = empty_unet(checkpoint.unet_config, runtime, weight_dtype)
    handle = filled(UNET, unet, unet, found=found, runtime=runtime, weight_dtype=weight_dtype)
    if compiled:
        compile_network(unet, runtime.device)
    vae = None
    if checkpoint.vae_config is not None:
        found = checkpoint.weights("vae")
        check_fit("vae", checkpoint.vae_config, *found)
        net = autoencoder.build(checkpoint.vae_config)
        vae = filled(VAE, net, net, found=found, runtime=runtime)
    return Show1Model(
        name or checkpoint.name,
        checkpoint.kind,
        handle,
        scheduler_config=checkpoint.scheduler_config,
        noising_config=checkpoint.noising_config,
        vae=vae,
        trained=checkpoint.trained,
    )


def empty_unet(config: dict[str, Any], runtime: Runtime, weight_dtype: str = "default") -> UNet:
    """A UNet of the runtime's layers, without weights yet."""
    with torch.device("meta"):
        return UNet(config, runtime.ops(dtype_of(weight_dtype), weight_dtype == FAST)).eval()


def load_text_encoder(
    path: Path,
    runtime: Runtime,
    weight_dtype: str = "default",
    name: str | None = None,
    models: Path | None = None,
) -> TextEncoder:
    """A T5 or CLIP text encoder with its tokenizer from a diffusers-layout folder, or T5 from a
    single .safetensors file, whose tokenizer is looked for beside it, in `models` and in the
    ComfyUI it lies in.

    Raises CheckpointError.
    """
    checkpoint = read_text_encoder(Path(path))
    kind = T5 if checkpoint.model_type == "t5" else CLIP
    tokenizer = (
        load_tokenizer(kind, checkpoint.tokenizer_folder)
        if checkpoint.tokenizer_folder
        else _tokenizer_for_file(checkpoint, models)
    )
    found = checkpoint.weights()
    check_fit(checkpoint.model_type, checkpoint.config, *found)
    network = runtime.build_text(kind, checkpoint.config)
    handle = filled(
        TEXT, network, network.model, found=found, runtime=runtime, weight_dtype=weight_dtype
    )
    return TextEncoder(
        name or Path(path).name,
        kind,
        tokenizer,
        network=handle,
        vocabulary=checkpoint.config["vocab_size"],
    )


def _tokenizer_for_file(checkpoint: TextCheckpoint, models: Path | None) -> Any:
    """The first tokenizer near a T5 file that fills its vocabulary, which is padded to the next
    128.
    """
    vocabulary = checkpoint.config["vocab_size"]
    for folder in tokenizers_near(checkpoint.path, models or checkpoint.path.parent):
        tokenizer = load_tokenizer(T5, folder)
        if len(tokenizer) <= vocabulary < len(tokenizer) + 128:
            return tokenizer
    raise CheckpointError(
        f"'{checkpoint.path}' needs T5's tokenizer (0.8 MB), for {vocabulary:,} tokens: say "
        "'python -m show1_engine download t5-tokenizer --into FOLDER' with the folder of --models, "
        "or put show-1-base's tokenizer/ beside the file."
    )


def filled(
    role: str,
    network: nn.Module,
    keyed: nn.Module,
    found: tuple[dict[str, Tensor], Path],
    runtime: Runtime,
    weight_dtype: str = "default",
) -> Handle:
    """A handle on `network`, whose part `keyed` has the file's keys. The weights are taken out of
    what was found one by one, so that of a file that is cast no more is held than was cast.
    """
    weights, file = found
    parameters = sum(value.numel() for value in weights.values())
    storage, compute = runtime.dtypes(role, dtype_of(weight_dtype), parameters)
    matrices = _matrix_keys(keyed)
    load_strict(
        keyed,
        {
            key: _stored(weights.pop(key), storage, key, matrix=key in matrices, file=file)
            for key in list(weights)
        },
        file,
    )
    _fill_buffers(keyed)
    return runtime.manage(role, network.requires_grad_(False), compute)


def _fill_buffers(network: nn.Module) -> None:
    """CLIP's position numbers, which current files no longer hold."""
    for module in network.modules():
        ids = module._buffers.get("position_ids")
        if ids is not None and ids.is_meta:
            module.position_ids = torch.arange(ids.shape[-1])[None]


def _matrix_keys(network: nn.Module) -> set[str]:
    """Weights that may be kept in fp8: those of linear and convolution layers."""
    return {
        f"{name}.weight"
        for name, layer in network.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))
    }


def _stored(value: Tensor, dtype: torch.dtype, key: str, matrix: bool, file: Path) -> Tensor:
    """The weight as it is kept; CheckpointError if it is not finite, or too large for that."""
    if not value.is_floating_point():
        return value
    if dtype.itemsize == 1 and not matrix:
        dtype = (
            torch.float16
        )  # norms, biases, embeddings and lone parameters have no castable fp8 form
    check_finite(value, f"'{file}'", key, dtype=dtype)
    return value.to(dtype)
