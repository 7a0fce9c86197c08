"""The plan of a run: its steps, its tiles, what shares a forward and how much memory that needs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import InputError, number_within
from ..models.bundle import Show1Model
from ..models.memory import kept_bytes, unet_bytes
from ..progress import counted, gigabytes
from ..runtime import main_memory
from ..sampling.presets import guided_part, preset, steps_of
from ..sampling.reuse import check_reuse, whole_steps
from ..sampling.samplers import Predict, schedule_for
from ..sampling.schedules import Schedule
from ..sampling.tiles import blended, smallest, tile_side, tiles
from ..sampling.windows import Span
from .settings import StageSettings

_LARGEST_CFG = 1000.0  # the schema allows 50


@dataclass(frozen=True, eq=False)
class Steps:
    """A run's schedule, the timesteps on it that are guided, and every how many-th computes the
    whole network. `asked` steps became fewer by a preset.
    """

    schedule: Schedule
    guided_timesteps: frozenset[int]
    reuse: int
    preset: str
    asked: int

    @classmethod
    def of(cls, stage: str, model: Show1Model, s: StageSettings, strength: float = 1.0) -> "Steps":
        number_within(f"{stage}: 'cfg'", s.cfg, 0, most=_LARGEST_CFG)
        number_within(f"{stage}: 'seed'", s.seed, 0, most=2**63 - 1)
        if not 0 <= s.guidance_start <= s.guidance_end <= 1:
            raise InputError(
                f"{stage}: guidance from {s.guidance_start} to {s.guidance_end} is no stretch of "
                "the run; use shares of its steps, 0 <= start <= end <= 1"
            )
        check_reuse(stage, s.reuse)
        if model.student_steps and strength > 0:
            strength = max(strength, 1 / model.student_steps)  # one step at the least
        chosen = preset(s.preset, model.kind)
        sampler = chosen.sampler if s.sampler == "default" else s.sampler
        schedule = schedule_for(
            model.scheduler_config,
            sampler,
            steps_of(chosen, s.steps),
            strength=strength,
            start=chosen.start,
        )
        start, end = max(s.guidance_start, chosen.guided[0]), min(s.guidance_end, chosen.guided[1])
        guided = guided_part(schedule.timesteps, start, end)
        reuse = max(s.reuse, chosen.reuse)
        told = "student" if model.student_steps else s.preset
        return cls(schedule, guided, reuse, preset=told, asked=s.steps)

    def __len__(self) -> int:
        return len(self.schedule.timesteps)

    def for_guidance(self) -> dict[str, Any]:
        """What `settings.guidance` is told of them."""
        return {"guided_timesteps": self.guided_timesteps, "reuse": self.reuse}

    def told(self, runs: int = 1) -> str:
        """ "75 steps", "25 steps (fast instead of 75, guided in 12)"; `runs` times over."""
        fewer = ""
        if self.preset == "student":
            fewer = "a student's own, "
        elif self.preset != "reference":
            fewer = f"{self.preset} instead of {runs * self.asked}, "
        if self.schedule.dropped:
            fewer += f"{runs * self.schedule.dropped} dropped that would repeat a timestep, "
        part = (
            ""
            if len(self.guided_timesteps) == len(self)
            else f"guided in {runs * len(self.guided_timesteps)}, "
        )
        if self.reuse > 1:
            part += f"the whole network in {runs * whole_steps(len(self), self.reuse)}, "
        why = (fewer + part).removesuffix(", ")
        return counted(runs * len(self), "step") + (f" ({why})" if why else "")


@dataclass(frozen=True)
class Layout:
    """How a sample of (height, width) is cut into tiles, how many of its `samples` (videos, two
    each with guidance) share a forward, and what one needs beside the weights.
    """

    height: int
    width: int
    side: int
    multiple: int
    samples: int
    at_once: int
    memory: int  # bytes

    def over(self, predict: Callable[[Span], Predict], time: list[Span]) -> Predict:
        """`predict(span)` on the tiles of every span of time."""

        def boxes(side: int) -> list:
            return tiles(time, self.height, self.width, side=side, multiple=self.multiple)

        return blended(predict, boxes, self.side, least=smallest(self.multiple))

    def __str__(self) -> str:
        count = len(
            tiles(
                [Span(0, 1, torch.ones(1))],
                self.height,
                self.width,
                side=self.side,
                multiple=self.multiple,
            )
        )
        parts = "" if count == 1 else f" x {count} tiles"
        apart = (
            ""
            if self.at_once == self.samples
            else f", {self.at_once} of {self.samples} samples at a time"
        )
        return f"{parts}, about {gigabytes(self.memory)} beside the weights{apart}"


def layout(
    model: Show1Model,
    samples: int,
    frames: int,
    size: tuple[int, int],
    trained: int,
    asked: int,
    multiple: int = 1,
    kept: int = 0,
) -> Layout:
    """Tiles for `samples` (videos, twice with guidance) of `frames` frames of `size` (rows,
    columns).

    `kept` is how many frames' features wait for the next step (sampling.reuse), 0 for none.

    `trained` is the side the model was trained on, `asked` the side a user wants (0: automatic).
    One sample of a tile may take half of the device's memory; as many share a forward as fit beside
    all of the weights. The first changes the numbers and follows the device alone, the second does
    not.
    """

    def needs(side: int, samples: int = 1) -> int:
        return unet_bytes(
            model.network.config,
            samples,
            frames,
            height=min(side, size[0]),
            width=min(side, size[1]),
            dtype=model.unet.dtype,
        )

    waiting = kept_bytes(model.network.config, samples * kept, *size, model.unet.dtype)
    limit, room = model.unet.memory() // 2, model.unet.room() - waiting
    if needs(smallest(multiple)) > 2 * limit:
        raise InputError(
            f"{frames} frames at a time need about {gigabytes(needs(smallest(multiple)))} even in "
            f"the smallest tiles, and the device has {gigabytes(2 * limit)}; use a smaller 'window'"
        )
    side = tile_side(*size, trained, asked, lambda side: needs(side) <= limit, multiple)
    at_once = sharing(samples, lambda count: needs(side, count) <= room)
    memory = needs(side, at_once) + waiting
    return Layout(*size, side, multiple, samples, at_once, memory)


def sharing(samples: int, fits: Callable[[int], bool]) -> int:
    """How many of the samples share a forward: all, or as many as fit in the fewest equal parts, at
    least one.
    """
    parts = next((n for n in range(1, samples) if fits(-(-samples // n))), samples)
    return -(-samples // parts)


def check_result(stage: str, frames: int, height: int, width: int, channels: int) -> None:
    """InputError if the frames a stage is to make cannot be held in main memory."""
    needs, has = 4 * frames * height * width * channels, main_memory()
    if needs > has:
        fits = has // (4 * height * width * channels)
        raise InputError(
            f"{stage}: {counted(frames, 'frame')} of {width}x{height} take {gigabytes(needs)}, and "
            f"this machine has {gigabytes(has)}; make fewer frames at a time (of this size {fits} "
            "fit) or smaller ones"
        )


def largest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `most` that fits, 0 if not even 1 does; what fits grows no
    smaller.
    """
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
