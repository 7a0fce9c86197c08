"""Models and text encoders on disk: their configs at once, their weights when asked for."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import CheckpointError
from ..models.kinds import kind_of
from . import damage
from .files import Weights, first_few, read_json, read_safetensors, read_weights, unreadable
from .header import HeaderError, read_metadata
from .registry import trained_latents
from .schema import ClipSchema, SchedulerSchema, T5Schema, VaeSchema, complete, given, unet_config
from .t5_file import t5_config_of, t5_weights

__all__ = [
    "Checkpoint",
    "TextCheckpoint",
    "configs_in",
    "load_strict",
    "read_checkpoint",
    "read_json",
    "read_text_encoder",
    "read_weights",
    "text_type",
    "unet_config_of",
]

METADATA_KEY = "show1"
FORMAT = 1
UNET_STEMS = ("diffusion_pytorch_model",)  # of a VAE, too
TEXT_TYPES = ("t5", "clip_text_model")
_TOKENIZER_FILES = ("spiece.model", "tokenizer.json", "vocab.json")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model on disk: a diffusers-layout folder or a single .safetensors file of ours.

    `kind` is one of models.kinds; the configs are those of unet/, scheduler/,
    image_noising_scheduler/ and vae/. `trained`: latents along the wider side of the frames that a
    latent expert was trained on.
    """

    path: Path
    kind: str
    unet_config: dict[str, Any]
    scheduler_config: dict[str, Any]
    noising_config: dict[str, Any] | None = None
    vae_config: dict[str, Any] | None = None
    trained: int = 72

    @property
    def name(self) -> str:
        """The folder's or file's name without .safetensors, for messages."""
        return self.path.name.removesuffix(".safetensors")

    def weights(self, part: str, prefer_fp16: bool = False) -> tuple[Weights, Path]:
        """The weights of "unet" or "vae" under their own names, and their file. CheckpointError if
        unreadable.
        """
        if self.path.is_dir():
            weights, file = read_weights(self.path / part, UNET_STEMS, prefer_fp16)
        else:
            weights, file = read_safetensors(self.path, prefix=f"{part}."), self.path
        if not weights:
            raise CheckpointError(
                f"'{file}' holds no {part} weights. Convert the model's folder again."
            )
        return (_current_vae_names(weights) if part == "vae" else weights), file


@dataclass(frozen=True, eq=False)
class TextCheckpoint:
    """A text encoder on disk. `model_type` is "t5" or "clip_text_model"; `folder` holds its config
    and weights, or is a file with the weights of a T5. Such a file has no tokenizer folder: one is
    to be looked for.
    """

    path: Path
    folder: Path
    tokenizer_folder: Path | None
    model_type: str
    config: dict[str, Any]

    def weights(self, prefer_fp16: bool = False) -> tuple[Weights, Path]:
        """The encoder's weights and their file. CheckpointError if unreadable."""
        if self.folder.is_file():
            weights, file = t5_weights(self.folder), self.folder
        else:
            weights, file = read_weights(self.folder, ("model", "pytorch_model"), prefer_fp16)
        if self.model_type == "t5":  # a whole T5 also holds a decoder
            weights = {
                key: value
                for key, value in weights.items()
                if key.startswith(("shared.", "encoder."))
            }
        return weights, file


def read_checkpoint(path: Path) -> Checkpoint:
    """A diffusers-layout model folder, or a single .safetensors written by `convert`.

    Raises CheckpointError (missing, damaged or foreign files) or ModelKindError (none of Show-1's
    UNets).
    """
    path = Path(path)
    if path.is_dir():
        configs = _configs_of_folder(path)
    elif path.suffix == ".safetensors":
        configs = configs_in(path)
    elif path.exists():
        raise CheckpointError(
            f"'{path}' is neither a model folder nor a .safetensors file. Give the model's folder "
            "(it holds unet/ and scheduler/), or a file written by 'convert'."
        )
    else:
        raise CheckpointError(
            f"'{path}' does not exist. Give a model folder or a .safetensors file."
        )
    trained = configs.get("trained") or trained_latents(path.name, configs["unet"])
    kind = kind_of(configs["unet"])
    configs = _checked(configs, path)
    return Checkpoint(
        path,
        kind,
        configs["unet"],
        scheduler_config=configs["scheduler"],
        noising_config=configs["noising"],
        vae_config=configs["vae"],
        trained=trained,
    )


def _configs_of_folder(folder: Path) -> dict[str, Any]:
    def optional(file: Path) -> dict[str, Any] | None:
        return read_json(file) if file.is_file() else None

    return {
        "unet": unet_config_of(folder),
        "scheduler": read_json(folder / "scheduler" / "scheduler_config.json"),
        "noising": optional(folder / "image_noising_scheduler" / "scheduler_config.json"),
        "vae": optional(folder / "vae" / "config.json"),
    }


def _checked(configs: dict[str, Any], path: Path) -> dict[str, Any]:
    """The configs through their schemas; messages name the file each of them is in."""

    def place(*parts: str) -> tuple[Path, str]:
        return (
            (path.joinpath(*parts), "") if path.is_dir() else (path, f", in its {parts[0]} config")
        )

    def scheduler(part: str, folder: str) -> dict[str, Any] | None:
        return configs[part] and given(
            SchedulerSchema, configs[part], *place(folder, "scheduler_config.json")
        )

    return {
        "unet": unet_config(configs["unet"], *place("unet", "config.json")),
        "scheduler": scheduler("scheduler", "scheduler"),
        "noising": scheduler("noising", "image_noising_scheduler"),
        "vae": configs["vae"] and given(VaeSchema, configs["vae"], *place("vae", "config.json")),
    }


def unet_config_of(folder: Path) -> dict[str, Any]:
    """unet/config.json of a model folder, its deciding entries checked."""
    file = folder / "unet" / "config.json"
    if not file.is_file():
        raise CheckpointError(
            f"'{folder}' is not a model folder: unet/config.json is missing. Give the folder that "
            "holds unet/ and scheduler/, as published."
        )
    return _checked_unet(read_json(file), file)


def configs_in(file: Path) -> dict[str, Any]:
    """The configs (unet, scheduler, noising or None, vae or None) in a single file's metadata."""
    try:
        text = read_metadata(file).get(METADATA_KEY)
    except FileNotFoundError:
        raise CheckpointError(
            f"'{file}' does not exist. Give a model folder or a .safetensors file."
        ) from None
    except OSError as error:
        raise unreadable(file, error) from error
    except HeaderError as error:
        raise CheckpointError(f"'{file}' {damage.of_safetensors(file)}.") from error
    if not isinstance(text, str):
        raise CheckpointError(
            f"'{file}' has no Show-1 metadata, so its architecture is unknown. Use the model's "
            "folder as published, or make such a file from it: python -m show1_engine convert "
            f"MODEL_FOLDER {file.name}"
        )
    return _checked_metadata(text, file)


def _checked_metadata(text: str, file: Path) -> dict[str, Any]:
    try:
        configs = json.loads(text)
        version = configs["format"]
        known = {part: configs[part] for part in ("unet", "scheduler", "noising", "vae")}
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"'{file}' has damaged Show-1 metadata. Convert the model's folder again."
        ) from error
    if version != FORMAT:
        raise CheckpointError(
            f"'{file}' is of format {version}, this version reads format {FORMAT}. Update the "
            "package, or convert the model's folder again."
        )
    for part, config in known.items():
        if not isinstance(config, dict) and not (config is None and part in ("noising", "vae")):
            raise CheckpointError(
                f"'{file}' has no {part} config in its metadata. Convert the model's folder again."
            )
    _checked_unet(known["unet"], file)
    trained = configs.get("trained")  # absent from older files
    return known | ({"trained": trained} if isinstance(trained, int) and trained > 0 else {})


def _checked_unet(config: dict[str, Any], file: Path) -> dict[str, Any]:
    blocks = config.get("down_block_types")
    if (
        not isinstance(config.get("in_channels"), int)
        or not isinstance(blocks, list)
        or not blocks
        or not all(isinstance(name, str) for name in blocks)
    ):
        raise CheckpointError(
            f"'{file}' is no UNet config: in_channels and down_block_types are missing or wrong. "
            "Use the config.json that belongs to the weights."
        )
    return config


def read_text_encoder(path: Path) -> TextCheckpoint:
    """A folder with text_encoder/ and tokenizer/, or one that itself holds config.json and weights,
    with the tokenizer inside or beside it; or a .safetensors file of T5's weights. Raises
    CheckpointError.
    """
    path = Path(path)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise CheckpointError(
                f"'{path}' is no .safetensors file. Give a t5xxl file of that form, or a folder "
                "with text_encoder/ and tokenizer/."
            )
        return TextCheckpoint(path, path, None, model_type="t5", config=t5_config_of(path))
    folder = path / "text_encoder" if (path / "text_encoder").is_dir() else path
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"'{path}' is no text encoder: it holds neither text_encoder/config.json nor "
            "config.json. Give a model folder with text_encoder/ and tokenizer/."
        )
    config = read_json(folder / "config.json")
    kind = text_type(config, folder)
    schema = T5Schema if kind == "t5" else ClipSchema
    return TextCheckpoint(
        path,
        folder,
        _tokenizer_for(folder),
        model_type=kind,
        config=complete(schema, config, folder / "config.json"),
    )


def text_type(config: Mapping[str, Any], folder: Path) -> str:
    """The config's model_type if it is one that Show-1 uses; CheckpointError otherwise."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in TEXT_TYPES:
        raise CheckpointError(
            f"'{folder}' holds a model of type {kind!r}. Show-1 reads text with T5 v1.1 ('t5', "
            "pixel stages) or OpenCLIP-H ('clip_text_model', latent expert)."
        )
    return kind


def _tokenizer_for(folder: Path) -> Path:
    for place in (folder / "tokenizer", folder, folder.parent / "tokenizer"):
        if any((place / name).is_file() for name in _TOKENIZER_FILES):
            return place
    raise CheckpointError(
        f"'{folder}' has no tokenizer. Copy the model's tokenizer folder to "
        f"'{folder.parent / 'tokenizer'}'."
    )


def check_fit(
    part: str, config: Mapping[str, Any], weights: Mapping[str, Tensor], file: Path
) -> None:
    """CheckpointError if the weights of a "unet", "vae", "t5" or "clip_text_model" have other
    layers or another width than the config says. Names and shapes only, so that nothing is built
    from a config that cannot be right.
    """
    layers = {
        "unet": ("down_blocks", "down_block_types"),
        "vae": ("encoder.down_blocks", "down_block_types"),
        "t5": ("encoder.block", "num_layers"),
        "clip_text_model": ("encoder.layers", "num_hidden_layers"),
    }
    name, key = layers[part]
    said = config.get(key, 1)
    count = said if isinstance(said, int) else len(said)
    pairs = (
        *_widths(part, config, weights),
        (name, count, _count(weights, name)),
        *_resnets(part, config, weights),
    )
    faults = [
        f"{what} is {there} instead of {wanted}" for what, wanted, there in pairs if there != wanted
    ]
    if faults:
        raise CheckpointError(
            f"'{file}' does not fit its config: {first_few(faults)}. Config and weights are of "
            "different models, or the file is incomplete: download both again."
        )


def _count(weights: Mapping[str, Tensor], name: str) -> int:
    """How many modules of a list there are: the highest number behind its name, plus one."""
    pattern = re.compile(rf"(?:text_model\.)?{re.escape(name)}\.(\d{{1,6}})\.")
    return max((int(match[1]) + 1 for match in map(pattern.match, weights) if match), default=0)


def _resnets(
    part: str, config: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> Iterator[tuple[str, int, int]]:
    if part not in ("unet", "vae"):
        return
    prefix = "down_blocks" if part == "unet" else "encoder.down_blocks"
    layers = config.get("layers_per_block", 1)
    for i in range(len(config.get("down_block_types", ()))):
        name = f"{prefix}.{i}.resnets"
        yield name, layers[i] if isinstance(layers, list) else layers, _count(weights, name)


def _widths(
    part: str, config: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> Iterator[tuple[str, Any, Any]]:
    keys = {
        "unet": ("conv_in.weight",),
        "vae": ("encoder.conv_in.weight",),
        "t5": ("shared.weight", "encoder.embed_tokens.weight"),
        "clip_text_model": (
            "text_model.embeddings.token_embedding.weight",
            "embeddings.token_embedding.weight",
        ),
    }
    if part in ("unet", "vae"):
        wanted = config.get("block_out_channels", [64])[0], config.get("in_channels", 3)
    else:
        wanted = config["vocab_size"], config["d_model" if part == "t5" else "hidden_size"]
    yield from (
        (key, wanted, tuple(weights[key].shape[:2])) for key in keys[part] if key in weights
    )


def load_strict(module: nn.Module, weights: Mapping[str, Tensor], file: Path) -> None:
    """Give `module` (built on any device, meta too) the tensors of `weights`, as they are, without
    a copy.

    A key that is missing, unknown or of another shape is one CheckpointError naming `file` and the
    keys. Known harmless differences of versions are evened out: T5's two names of one embedding,
    CLIP's prefix and position_ids.
    """
    expected = module.state_dict()
    weights = _named_for(expected, weights)
    faults = _faults(expected, weights)
    if faults:
        raise CheckpointError(
            f"'{file}' does not fit its config: {'; '.join(faults)}. Config and weights are of "
            "different models, or the file is incomplete: download both again."
        )
    module.load_state_dict(weights, strict=False, assign=True)


def _faults(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    missing = [key for key in expected if key not in weights and not key.endswith("position_ids")]
    unknown = [key for key in weights if key not in expected]
    both = [(key, expected[key], weights[key]) for key in expected if key in weights]
    shapes = [
        f"{key} ({tuple(has.shape)} instead of {tuple(want.shape)})"
        for key, want, has in both
        if has.shape != want.shape
    ]
    types = [
        f"{key} ({has.dtype})"
        for key, want, has in both
        if has.is_floating_point() != want.is_floating_point()
    ]
    return [
        f"{len(keys)} {what}: {first_few(keys)}"
        for keys, what in (
            (missing, "missing"),
            (unknown, "unknown"),
            (shapes, "of another shape"),
            (types, "of another type"),
        )
        if keys
    ]


def _named_for(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Weights:
    """`weights` under the names that this version of the libraries gives them."""
    prefix, bare, twins = (
        "text_model.",
        "embeddings.token_embedding.weight",
        ("shared.weight", "encoder.embed_tokens.weight"),
    )
    named = dict(weights)
    if prefix + bare in named and bare in expected:
        named = {key.removeprefix(prefix): value for key, value in named.items()}
    elif bare in named and prefix + bare in expected:
        named = {prefix + key: value for key, value in named.items()}
    for one, other in (twins, twins[::-1]):
        if one in expected and one not in named and other in named:
            named[one] = named[other]
    return {
        key: value
        for key, value in named.items()
        if key in expected or not (key in twins or key.endswith("position_ids"))
    }


def _current_vae_names(weights: Weights) -> Weights:
    """Attention keys that diffusers before 0.17 wrote, under today's names."""
    names = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    return {
        re.sub(
            r"(attentions\.\d+)\.(query|key|value|proj_attn)\.",
            lambda m: f"{m[1]}.{names[m[2]]}.",
            key,
        ): value
        for key, value in weights.items()
    }
