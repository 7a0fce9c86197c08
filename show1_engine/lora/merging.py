"""A motion LoRA in memory: what it adds to which weights."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import number_within
from ..models.bundle import Show1Model
from ..models.handle import Handle
from ..models.patches import Difference, LowRank, Patch
from .student import as_student

_STRONGEST = 1000.0  # the schema allows 10


@dataclass(frozen=True, eq=False)
class Replacement:
    """A whole new weight, as fine-tunes without LoRA leave it behind."""

    weight: Tensor


Change = LowRank | Difference | Replacement


@dataclass(frozen=True, eq=False)
class MotionLora:
    """Changes by the name of the weight they belong to ("down_blocks.2. ... .to_q.weight").

    `student`: what of the scheduler config it changes where it makes a student (lora.student).
    """

    name: str
    changes: dict[str, Change] = field(default_factory=dict)
    student: dict[str, Any] | None = None

    def applied(self, handle: Handle, strength: float) -> Handle:
        """A handle on the same network whose weights are changed by `strength` times this LoRA
        while it is loaded.
        """
        return handle.patched(
            {key: _as_patch(change, handle, key) for key, change in self.changes.items()}, strength
        )


def _as_patch(change: Change, handle: Handle, key: str) -> Patch:
    if isinstance(change, Replacement):
        return Difference(change.weight.float() - handle.weight(key).float().cpu())
    return change


def with_motion(model: Show1Model, lora: MotionLora, strength: float) -> Show1Model:
    """The model with a LoRA on it; `model` itself is left as it is. Strength 0 gives `model` back,
    negative is allowed.

    LoRAs stack: their changes add up, in any order. One of them may make a student of the model: at
    any other strength the model is sampled as that student.

    Raises InputError if the strength is none, or the LoRA a student's and so is the model.
    """
    number_within("Show1MotionLoRA: 'strength'", strength, -_STRONGEST, most=_STRONGEST)
    if strength == 0:
        return model
    if lora.student is not None:
        model = as_student(model, lora.student, lora.name)
    with torch.no_grad():
        return model.with_unet(lora.applied(model.unet, strength))
