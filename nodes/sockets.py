"""Types of our own links, and how text travels in core CONDITIONING."""

from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..show1_engine.errors import InputError
from ..show1_engine.models.bundle import Show1Model
from ..show1_engine.stages.prompts import Prompt, PromptSchedule

Model = io.Custom("SHOW1_MODEL")
TextEncoder = io.Custom("SHOW1_TEXT_ENCODER")

Given = io.Custom("SHOW1_GIVEN")

_EMPTY = "show1_empty"  # the empty prompt's states, for stages whose negative is not connected
_SCHEDULE = "show1_schedule"  # prompts over time, of which the states beside it are the first

Conditioning = list[list[Any]]


def linked(stage: str, name: str, value: Any, kind: type, source: str) -> Any:
    """`value` if it is what such a link carries; a graph may hold anything in its place."""
    if not isinstance(value, kind):
        raise InputError(
            f"{stage}: '{name}' is {type(value).__name__}, not what its link carries; connect "
            f"{source}"
        )
    return value


def loaded(stage: str, model: Any, name: str = "model") -> Show1Model:
    """The model on a link; InputError if something else is there."""
    return linked(stage, name, model, kind=Show1Model, source="Load Show-1 Model")


def clip_frames(stage: str, name: str, clip: Any) -> Tensor:
    """The frames (F, H, W, C) of what a clip_input is connected to."""
    if not isinstance(clip, Tensor) and not hasattr(clip, "get_components"):
        linked(stage, name, clip, kind=Tensor, source="frames (IMAGE) or a video")
    return clip if isinstance(clip, Tensor) else clip.get_components().images


def linked_video(stage: str, video: Any) -> None:
    """InputError unless that is a VIDEO."""
    if not hasattr(video, "get_stream_source"):
        linked(stage, "video", video, kind=Path, source="a video (Load Video)")


def conditioning(prompt: Prompt, empty: Tensor) -> Conditioning:
    """Core CONDITIONING that holds a prompt's states and, beside it, the empty prompt's; (1, 77,
    width) each. Prompts over time go along beside the first of them.
    """
    if isinstance(prompt, PromptSchedule):
        return [[prompt.states[:1], {_EMPTY: empty, _SCHEDULE: prompt}]]
    return [[prompt, {_EMPTY: empty}]]


def texts(
    stage: str, positive: Conditioning, negative: Conditioning | None, guide: bool = True
) -> tuple[Prompt, Prompt]:
    """The states of both prompts, or their schedules. A negative that is not connected is the
    model's own empty prompt; where there is none, it is an error, or (`guide` false) the positive
    one again, which amounts to no guidance.
    """
    states = _states(stage, "positive", positive)
    if negative is not None:
        return states, _states(stage, "negative", negative)
    empty = empty_prompt(positive)
    if empty is None and not guide:
        return states, states
    if empty is None:
        raise InputError(
            f"{stage}: 'negative' is not connected, and 'positive' does not come from "
            "Show1TextEncode, which would bring the empty prompt along; connect a negative prompt"
        )
    return states, empty


def empty_prompt(positive: Conditioning) -> Tensor | None:
    """The states of the empty prompt that Show1TextEncode sends along with a prompt's."""
    return positive[0][1].get(_EMPTY)


def one_text(stage: str, name: str, value: Conditioning) -> Tensor:
    """The states of a prompt that may not change over time."""
    states = _states(stage, name, value)
    if isinstance(states, PromptSchedule):
        raise InputError(
            f"{stage}: '{name}' changes over time, and one prompt is read here; connect "
            "Show1TextEncode"
        )
    return states


def _states(stage: str, name: str, value: Conditioning) -> Prompt:
    if not isinstance(value, (list, tuple)):
        raise InputError(
            f"{stage}: '{name}' is no prompt but {type(value).__name__}; connect Show1TextEncode"
        )
    if len(value) != 1:
        raise InputError(
            f"{stage}: '{name}' holds {len(value)} prompts; Show-1 reads one, so do not combine "
            "prompts"
        )
    pair = value[0]
    if (
        not isinstance(pair, (list, tuple))
        or len(pair) < 2
        or not isinstance(pair[0], Tensor)
        or not isinstance(pair[1], dict)
    ):
        raise InputError(f"{stage}: '{name}' holds no states of a prompt; connect Show1TextEncode")
    if len(pair[0]) != 1:
        raise InputError(
            f"{stage}: '{name}' is a batch of {len(pair[0])} prompts; Show-1 reads one, so encode "
            "one text alone"
        )
    schedule = pair[1].get(_SCHEDULE)
    if schedule is None:
        return pair[0]
    if not isinstance(schedule, PromptSchedule) or not torch.equal(schedule.states[:1], pair[0]):
        raise InputError(
            f"{stage}: '{name}' was changed between Show1PromptSchedule and here; connect it "
            "straight"
        )
    return schedule
