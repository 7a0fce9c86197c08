"""LoRA files: every spelling that Show-1's temporal layers are met in, read and written.

Read are low-rank pairs under Show-1's own module names as PEFT and diffusers, kohya or ComfyUI
spell them, weight differences (`.diff`), whole weights (fine-tunes like VMC's), and
MotionDirector's lists without names. Written is PEFT's spelling, or one of the others on demand; no
spelling loses a bit.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoints.files import Weights, first_few, is_plain, read_any_pickle, read_safetensors
from ..checkpoints.finite import check_finite
from ..errors import CheckpointError, one_of, printable
from ..models.bundle import Show1Model
from ..models.kinds import DESCRIPTION
from ..models.patches import Difference, LowRank
from .merging import Change, MotionLora, Replacement
from .origin import kind_of_file, made_for
from .student import read_student
from .targets import is_temporal, temporal_layers

log = logging.getLogger(__name__)

Content = Weights | list[Tensor]

_PREFIXES = (
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "lora_unet_",
    "unet.",
    "module.",
)
_ROLES = (  # ends of keys, longest first; what they hold
    (
        r"\.lora_B\.(?:\w+\.)?weight|\.lora_B|\.lora_up\.weight|[._]lora\.up\.weight"
        r"|\.lora_linear_layer\.up\.weight",
        "up",
    ),
    (
        r"\.lora_A\.(?:\w+\.)?weight|\.lora_A|\.lora_down\.weight|[._]lora\.down\.weight"
        r"|\.lora_linear_layer\.down\.weight",
        "down",
    ),
    (r"\.alpha", "alpha"),
    (r"\.diff", "diff"),
    (r"\.diff_b", "diff_b"),
    (r"\.set_weight", "weight"),
    (r"\.weight", "weight"),
    (r"\.bias", "bias"),
)
_ENDINGS = [(re.compile(f"(.+?)(?:{pattern})$"), role) for pattern, role in _ROLES]
_LONGEST_KEY = 1000  # characters; Show-1's own have less than 100
_TEXT = ("lora_te", "text_encoder", "te1_", "te2_", "clip_")


def read_content(path: Path) -> Content:
    """The tensors of a LoRA file: by name, or MotionDirector's list. Pickles by torch's
    weights-only reader.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    content = read_any_pickle(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    return content


def read_lora(path: Path, model: Show1Model) -> MotionLora:
    """The LoRA in a file, for this model, with a student's settings where there are any.
    CheckpointError says what the file is where it does not fit.
    """
    path = Path(path)
    lora = lora_from(read_content(path), model, path.name)
    return replace(lora, student=read_student(path)) if path.suffix == ".safetensors" else lora


def lora_from(content: Content, model: Show1Model, name: str) -> MotionLora:
    """The LoRA in some tensors, for this model; `name` is what messages call it.

    Raises:
        CheckpointError: it is for another architecture or size; with what it is, what it fits, and
            how much matched.
    """
    network = model.network
    _check_content(content, name)
    if not temporal_layers(network):
        raise CheckpointError(
            f"'{name}' cannot be used on '{model.name}': {DESCRIPTION[model.kind]} has no temporal "
            "attention. Use it on the keyframe model."
        )
    changes = (
        _from_list(content, network, name)
        if isinstance(content, list)
        else _from_names(content, model, name)
    )
    expected = dict(network.named_parameters())
    homeless = next((key for key in changes if key not in expected), None)
    if homeless is not None:
        raise CheckpointError(
            f"'{name}' changes {homeless}, which '{model.name}' does not have. It is of another "
            "model or tool."
        )
    wrong = [key for key, change in changes.items() if not _fits(change, expected[key].shape)]
    if wrong:
        raise CheckpointError(
            f"'{name}' does not fit '{model.name}': {len(changes) - len(wrong)} of {len(changes)} "
            f"layers match in size; {_sizes(changes[wrong[0]], wrong[0], expected)}. "
            f"{made_for(changes)}"
        )
    return MotionLora(name, changes)


def _check_content(content: object, name: str) -> None:
    """CheckpointError unless these are matrices of finite numbers, by name or in a list."""
    values = (
        content.values()
        if isinstance(content, dict)
        else content
        if isinstance(content, list)
        else ()
    )
    if not values or not all(isinstance(value, Tensor) for value in values):
        raise CheckpointError(
            f"'{name}' holds no LoRA: neither tensors by name nor a list of tensors."
        )
    keyed = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in keyed:
        if isinstance(content, dict) and not isinstance(key, str):
            raise CheckpointError(
                f"'{name}' holds no LoRA: it names a tensor by {key!r}, which is no text."
            )
        if not is_plain(value) or not value.is_floating_point():
            raise CheckpointError(
                f"'{name}' has in {key} a tensor of kind {value.dtype}, {value.layout}, on "
                f"'{value.device}'; a LoRA is of plain floating-point numbers. Save it again."
            )
        check_finite(value, f"'{name}'", str(key))


def _fits(change: Change, shape: torch.Size) -> bool:
    if isinstance(change, LowRank):
        return (
            change.up.ndim == change.down.ndim == 2
            and 0 < change.up.shape[1] == change.down.shape[0]
            and (change.up.shape[0], change.down.shape[1]) == tuple(shape)
        )
    return (change.difference if isinstance(change, Difference) else change.weight).shape == shape


def _sizes(change: Change, key: str, expected: dict[str, Tensor]) -> str:
    if isinstance(change, LowRank):
        size = (*change.up.shape[:-1], *change.down.shape[1:])
    else:
        size = (change.difference if isinstance(change, Difference) else change.weight).shape
    return f"{key} is {_times(size)} in the file and {_times(expected[key].shape)} in the model"


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _from_list(tensors: list[Tensor], network: nn.Module, name: str) -> dict[str, Change]:
    """MotionDirector's list: up, down of each layer in diffusers' order, attention and
    feed-forward, without alpha.
    """
    layers = list(temporal_layers(network, "attention_and_ff"))
    if len(tensors) != 2 * len(layers):
        raise CheckpointError(
            f"'{name}' is a list of {len(tensors)} tensors without names (MotionDirector's "
            f"format); this model needs {2 * len(layers)}: up and down of {len(layers)} layers. "
            "340 are for ModelScope and zeroscope, which fit the latent expert (show-1-sr2); 440 "
            "would be for show-1-base."
        )
    return {
        f"{layer}.weight": LowRank(up, down)
        for layer, up, down in zip(layers, tensors[::2], tensors[1::2])
    }


def _from_names(weights: Weights, model: Show1Model, name: str) -> dict[str, Change]:
    foreign = kind_of_file(list(weights))
    if foreign:
        raise CheckpointError(
            f"'{name}' is {foreign}: none of its {len(weights)} keys is a layer of '{model.name}'. "
            "Show-1 needs a LoRA of its own temporal layers, as Show1TrainMotionLoRA makes them."
        )
    resolve = _resolver(model.network)
    parts: dict[str, dict[str, Tensor]] = {}
    lost = []
    for key, value in weights.items():
        module, role = _split(key)
        target = resolve(module)
        if target is None:
            lost += [key] if not key.startswith(_TEXT) else []
        else:
            parts.setdefault(target, {})[role] = value
    changes = {
        key: change
        for module, found in parts.items()
        for key, change in _changes(module, found, name).items()
    }
    whole = {key for key, change in changes.items() if isinstance(change, Replacement)}
    changes = {
        key: change for key, change in changes.items() if key not in whole or is_temporal(key)
    }
    if not changes or (lost and not whole):  # beside whole weights lie the rest of a UNet
        raise CheckpointError(
            f"'{name}' does not fit '{model.name}': {len(weights) - len(lost)} of {len(weights)} "
            f"keys are layers of {DESCRIPTION[model.kind]}; not among them: "
            f"{first_few(lost or list(weights))}. It is of another model or tool."
        )
    log.info("%s: %d layers for %s", printable(name, 200), len(changes), printable(model.name, 200))
    return changes


def _split(key: str) -> tuple[str, str]:
    """The module part of a key and what the tensor is: up, down, alpha, diff, diff_b, weight, bias,
    or unknown.
    """
    for pattern, role in _ENDINGS if len(key) <= _LONGEST_KEY else ():
        match = pattern.match(key)
        if match:
            return match[1], role
    return key, "unknown"


def _resolver(network: nn.Module) -> Callable[[str], str | None]:
    """A function from a module's name in any spelling to its name here; None if there is no such
    module.
    """
    names = {}
    for name, layer in network.named_modules():
        if getattr(layer, "weight", None) is not None:
            for spelled in (name, name.removesuffix(".0")):
                names[spelled] = names[spelled.replace(".", "_")] = name

    def resolve(module: str) -> str | None:
        module = module.replace(".processor.", ".")
        candidates = [module] + [
            module.removeprefix(prefix) for prefix in _PREFIXES if module.startswith(prefix)
        ]
        return next((names[candidate] for candidate in candidates if candidate in names), None)

    return resolve


def _changes(module: str, found: dict[str, Tensor], name: str) -> dict[str, Change]:
    """What one module's tensors change: its weight, its bias or both."""
    odd = {"up", "down"} & found.keys()
    if "unknown" in found or len(odd) == 1 or ("alpha" in found and not odd):
        raise CheckpointError(
            f"'{name}' has for {module} only {', '.join(found)}; a LoRA needs both matrices "
            "(up and down, or lora_A and lora_B). The file is incomplete or of another method."
        )
    out: dict[str, Change] = {}
    if odd:
        alpha = found.get("alpha")
        if alpha is not None and alpha.numel() != 1:
            raise CheckpointError(
                f"'{name}' has for {module} an alpha of {alpha.numel()} values; it must be one. "
                "The file is damaged or of another method."
            )
        out[f"{module}.weight"] = LowRank(
            found["up"], found["down"], None if alpha is None else float(alpha)
        )
    elif "diff" in found:
        out[f"{module}.weight"] = Difference(found["diff"])
    elif "weight" in found:
        out[f"{module}.weight"] = Replacement(found["weight"])
    if "diff_b" in found:
        out[f"{module}.bias"] = Difference(found["diff_b"])
    elif "bias" in found:
        out[f"{module}.bias"] = Replacement(found["bias"])
    return out


SPELLINGS: dict[
    str, Callable[[str], tuple[str, str, str]]
] = {  # module -> its name, the ends of up and down
    "peft": lambda module: (f"unet.{module}", "lora_B.weight", "lora_A.weight"),
    "kohya": lambda module: (
        f"lora_unet_{module.replace('.', '_')}",
        "lora_up.weight",
        "lora_down.weight",
    ),
    "comfyui": lambda module: (f"diffusion_model.{module}", "lora_up.weight", "lora_down.weight"),
}


def spelled(lora: MotionLora, spelling: str = "peft") -> Weights:
    """The LoRA as tensors by name, ready for a .safetensors file: "peft", "kohya" or "comfyui"."""
    one_of("spelling", spelling, SPELLINGS)
    out: Weights = {}
    for key, change in lora.changes.items():
        module, _, parameter = key.rpartition(".")
        name, up, down = SPELLINGS[spelling](module)
        if isinstance(change, LowRank):
            out |= {
                f"{name}.{up}": change.up.contiguous(),
                f"{name}.{down}": change.down.contiguous(),
            }
            if change.alpha is not None or spelling == "kohya":  # tools of that kind expect one
                alpha = change.down.shape[0] if change.alpha is None else change.alpha
                out[f"{name}.alpha"] = torch.tensor(float(alpha))
        elif isinstance(change, Difference):
            out[f"{name}.{'diff' if parameter == 'weight' else 'diff_b'}"] = (
                change.difference.contiguous()
            )
        else:
            out[f"{name}.{'set_weight' if parameter == 'weight' else 'bias'}"] = (
                change.weight.contiguous()
            )
    return out
