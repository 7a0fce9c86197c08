"""Students as LoRAs: how one is to be sampled lies in its file's metadata and goes into the model's
scheduler config with it.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ..checkpoints.header import read_metadata
from ..checkpoints.schema import Schema, said
from ..errors import CheckpointError, InputError
from ..models.bundle import Show1Model
from ..progress import counted

METADATA_KEY = "show1_student"
_LONGEST = 4096  # characters; ours have 350
_WAY_OUT = "Get the file anew from where it was trained"


class StudentSchema(Schema):
    """What a student's scheduler config has in place of its teacher's; see SchedulerSchema."""

    class_name: Literal["DPMSolverMultistepScheduler"] = Field(alias="_class_name")
    algorithm_type: Literal["dpmsolver++"]
    solver_order: Literal[1]
    solver_type: Literal["midpoint"]
    lower_order_final: bool
    timestep_spacing: Literal["linspace"]
    final_sigmas_type: Literal["zero"]
    lambda_min_clipped: Annotated[float, Field(le=0)]
    thresholding: bool
    prediction_type: Literal["epsilon", "v_prediction"]
    student_steps: Annotated[int, Field(ge=1, le=8)]


_KEYS = [field.alias or name for name, field in StudentSchema.model_fields.items()]


def student_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a student's scheduler config that travels with its LoRA."""
    return {key: config[key] for key in _KEYS}


def student_metadata(settings: dict[str, Any]) -> dict[str, str]:
    """As a .safetensors file's metadata."""
    return {METADATA_KEY: json.dumps(settings)}


def read_student(path: Path) -> dict[str, Any] | None:
    """The settings in a .safetensors file that `read_safetensors` takes; None: it is no student's.

    Raises CheckpointError, naming the file, the key, the value and what is allowed.
    """
    text = read_metadata(path).get(METADATA_KEY)
    if text is None:
        return None
    name = f"'{Path(path).name}', in its metadata's {METADATA_KEY}"
    try:
        found = json.loads(text[:_LONGEST])
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CheckpointError(f"{name}: {text[:40]!r} is no JSON object. {_WAY_OUT}.")
    unknown = next((key for key in found if key not in _KEYS), None)
    if unknown is not None:
        raise CheckpointError(
            f"{name}: {unknown!r} is not known; allowed are {', '.join(_KEYS)}. {_WAY_OUT}, or "
            "update this package."
        )
    try:
        StudentSchema.model_validate(found)
    except ValidationError as error:
        raise CheckpointError(f"{name}: {said(StudentSchema, error)}. {_WAY_OUT}.") from None
    return found


def as_student(model: Show1Model, settings: dict[str, Any], name: str) -> Show1Model:
    """The model with a student's scheduler settings; InputError if it is a student already."""
    if model.student_steps:
        raise InputError(
            f"'{name}' is a student of {counted(settings['student_steps'], 'step')}, and "
            f"'{model.name}' is one of {counted(model.student_steps, 'step')} already; use one "
            "student alone, on the model that was its teacher"
        )
    return replace(model, scheduler_config={**model.scheduler_config, **settings})
