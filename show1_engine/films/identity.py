"""What tells models, prompts and other inputs from others of their kind, in a few characters."""

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..models.bundle import Show1Model
from ..models.handle import Handle

_SOME = 16  # values of a weight that are looked at


def digest(*things: Any) -> str:
    """Twelve characters that stay the same as long as the things do."""
    found = hashlib.sha256()
    for thing in things:
        _add(found, thing)
    return found.hexdigest()[:12]


def of_model(model: Show1Model) -> str:
    """A model's name, and a digest of its weights, of what is patched over them, and of its
    schedule.
    """
    about = (model.kind, model.scheduler_config, model.noising_config, model.trained)
    return f"{model.name} {digest(about, *map(_of_handle, model.handles()))}"


def _of_handle(handle: Handle) -> str:
    found = hashlib.sha256(str(handle.dtype).encode())
    for name, _ in handle.module.named_parameters():
        found.update(name.encode())
        _add_tensor(found, handle.weight(name), whole=False)
    _add(found, handle.changes)
    return found.hexdigest()


def _add(found: Any, thing: Any) -> None:
    if isinstance(thing, Tensor):
        _add_tensor(found, thing, whole=True)
    elif isinstance(thing, nn.Module):
        for name, value in thing.named_parameters():
            found.update(name.encode())
            _add_tensor(found, value.data, whole=False)
    elif isinstance(thing, Mapping):
        for key in thing:
            _add(found, (str(key), thing[key]))
    elif isinstance(thing, (list, tuple)):
        found.update(str(len(thing)).encode())
        for item in thing:
            _add(found, item)
    elif is_dataclass(thing):
        _add(found, [getattr(thing, field.name) for field in fields(thing)])
    elif hasattr(thing, "weights"):  # a host's LoRA
        _add(found, thing.weights)
    else:
        found.update(repr(thing).encode())


def _add_tensor(found: Any, value: Tensor, whole: bool) -> None:
    """A tensor's shape, kind and values; of a weight a few, spread over it."""
    found.update(f"{tuple(value.shape)} {value.dtype}".encode())
    flat = value.detach().reshape(-1)
    if not whole:
        flat = flat[:: max(1, len(flat) // _SOME)][:_SOME]
    found.update(flat.cpu().contiguous().view(torch.uint8).numpy().tobytes())
