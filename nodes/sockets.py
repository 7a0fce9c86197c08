"""Types of our own links, and how text travels in core CONDITIONING."""

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..show1_engine.errors import InputError

Model = io.Custom("SHOW1_MODEL")
TextEncoder = io.Custom("SHOW1_TEXT_ENCODER")

_EMPTY = "show1_empty"  # the empty prompt's states, for stages whose negative is not connected

Conditioning = list[list[Any]]


def conditioning(states: Tensor, empty: Tensor) -> Conditioning:
    """Core CONDITIONING that holds a prompt's states and, beside it, the empty prompt's; (1, 77,
    width) each.
    """
    return [[states, {_EMPTY: empty}]]


def texts(
    stage: str, positive: Conditioning, negative: Conditioning | None, guide: bool = True
) -> tuple[Tensor, Tensor]:
    """The states of both prompts. A negative that is not connected is the model's own empty prompt;
    where there is none, it is an error, or (`guide` false) the positive one again, which amounts to
    no guidance.
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


def _states(stage: str, name: str, value: Conditioning) -> Tensor:
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
    return pair[0]
