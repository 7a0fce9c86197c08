"""Prompts that change over a clip."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError

_LINE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s?)\s*:\s*(.*)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class PromptSchedule:
    """Prompts one after the other.

    Moments are shares of the clip, 0 at its first frame and 1 at its last, so that every stage
    reads them alike, whatever its frame rate.

    Args:
        states: text states of the prompts (P, 77, width), in their order.
        starts: the moment from which each holds, ascending; the first is 0.
        transition: how long one turns into the next, around the later one's start.
    """

    states: Tensor
    starts: tuple[float, ...]
    transition: float = 0.0

    def at(self, moment: float) -> Tensor:
        """The states (1, 77, width) at a moment: one prompt's, or a blend of two."""
        states = self.states[:1]
        for after, start in zip(self.states[1:, None], self.starts[1:]):
            if self.transition > 0:
                share = min(1.0, max(0.0, (moment - start) / self.transition + 0.5))
            else:
                share = float(moment >= start)
            states = after if share == 1 else torch.lerp(states, after, share) if share else states
        return states

    def part(self, first: float, last: float) -> "PromptSchedule | Tensor":
        """The schedule of a stretch of the clip between two moments, or what holds at one."""
        if (first, last) == (0.0, 1.0):
            return self
        if last <= first:
            return self.at(first)
        length = last - first
        starts = tuple((start - first) / length for start in self.starts)
        return PromptSchedule(self.states, starts, self.transition / length)


Prompt = Tensor | PromptSchedule


def at(prompt: Prompt, moment: float) -> Tensor:
    """A prompt's states (1, 77, width) at a moment of the clip, 0 to 1."""
    return prompt.at(moment) if isinstance(prompt, PromptSchedule) else prompt


def part_of(prompt: Prompt, start: int, stop: int, *, frames: int) -> Prompt:
    """A prompt over frames start..stop-1 of a clip of so many."""
    if not isinstance(prompt, PromptSchedule):
        return prompt
    return prompt.part(share(start, frames), share(stop - 1, frames))


def share(position: float, frames: int) -> float:
    """The moment of a position, in frames, of a clip."""
    return min(1.0, max(0.0, position / max(1, frames - 1)))


def scheduled_prompts(
    stage: str,
    text: str,
    frames: int,
    fps: float,
    transition: float,
    *,
    encode: Callable[[list[str]], Tensor],
) -> PromptSchedule:
    """Lines "FRAME: prompt" or "SECONDSs: prompt" as a schedule over a clip.

    Args:
        text: the lines; one without a number goes on with the prompt above, or is the first.
        frames: how many the clip has as the lines count them.
        fps: their rate, for lines in seconds.
        transition: frames over which a prompt turns into the next.
        encode: prompts to states (P, 77, width).

    Raises InputError, naming the line, where one has no prompt or is not later than the one before.
    """
    found = _lines(stage, text, fps)
    starts = [start for start, _ in found]
    for before, after in zip(starts, starts[1:]):
        if after <= before:
            raise InputError(
                f"{stage}: the prompt from frame {after:g} stands after the one from frame "
                f"{before:g}; write them in the order they are seen"
            )
    if starts[-1] > frames - 1:
        raise InputError(
            f"{stage}: a prompt begins at frame {starts[-1]:g}, and the clip has {frames}, from 0 "
            f"to {frames - 1}; raise 'num_frames' or begin it earlier"
        )
    length = max(1, frames - 1)
    moments = (0.0, *(start / length for start in starts[1:]))
    return PromptSchedule(encode([prompt for _, prompt in found]), moments, transition / length)


def _lines(stage: str, text: str, fps: float) -> list[tuple[float, str]]:
    """(first frame, prompt) of every line; the first prompt begins at 0 whatever it says."""
    found: list[tuple[float, str]] = []
    for line in filter(str.strip, text.splitlines()):
        match = _LINE.fullmatch(line)
        if match:
            number, seconds, prompt = match.groups()
            found.append((float(number) * (fps if seconds else 1), prompt.strip()))
        elif found:
            found[-1] = found[-1][0], f"{found[-1][1]} {line.strip()}".strip()
        else:
            found.append((0.0, line.strip()))
    if not found or not all(prompt for _, prompt in found):
        empty = next((start for start, prompt in found if not prompt), 0)
        raise InputError(
            f"{stage}: there is no prompt from frame {empty:g} on; write lines such as "
            "'0: a red circle' and '16: a blue square', or '8s: ...' in seconds"
        )
    return found
