"""What the stages share: progress over several runs, previews, text in place."""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

from ..errors import InputError, number_within
from ..host import main_memory
from ..models.bundle import Show1Model
from ..models.kinds import LATENT_EXPERT
from ..models.memory import unet_bytes
from ..sampling.loop import Predict, Preview, Report, guided
from ..sampling.presets import guided_part, preset, steps_of
from ..sampling.schedules import Schedule, with_sampler
from ..sampling.tiles import blended, smallest, tile_side, tiles
from ..sampling.windows import Span

_LARGEST_CFG = 1000.0  # the schema allows 50

log = logging.getLogger(__name__)


def announce(report: Report, stage: str, text: str) -> None:
    """The plan of a run: one line in the log, and on the node where there is one."""
    log.info("%s: %s", stage, text)
    plan = getattr(report, "plan", None)
    if plan is not None:
        plan(text)


def counted(number: int, what: str) -> str:
    """"1 window", "2 windows"."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def shifted(report: Report, done: int, total: int) -> Report:
    """report() for one of several runs that share a progress bar of `total` steps, `done` of them before it."""
    def part(step: int, _: int, preview: Preview | None = None) -> None:
        report(done + step, total, preview)

    part.plan = getattr(report, "plan", None)
    return part


def one_prompt(stage: str, positive: Tensor, negative: Tensor) -> None:
    """InputError unless both are the states of one prompt: a batch would be paired with windows that it does not belong
    to."""
    for name, states in (("positive", positive), ("negative", negative)):
        if not isinstance(states, Tensor) or len(states) != 1:
            count = len(states) if isinstance(states, Tensor) else type(states).__name__
            raise InputError(f"{stage}: '{name}' is a batch of {count} prompts; it reads one, so encode "
                             "one text alone")


def previewing(report: Report, to_frames: Callable[[Tensor], Tensor]) -> Report:
    """report() whose previews are frames (F, H, W, 3) made from the predicted clean sample."""
    return lambda step, total, preview=None: report(step, total, preview and (lambda: to_frames(preview())))


def pixel_frames(video: Tensor) -> Tensor:
    """(B, 3, F, H, W) in [-1, 1] -> all frames in a row (B*F, H, W, 3) in [0, 1]."""
    return rearrange(video[:, :3] / 2 + 0.5, "b c f h w -> (b f) h w c").clamp(0, 1)


class Sampling(Protocol):
    """What every stage's settings say about its steps."""

    steps: int
    cfg: float
    seed: int
    sampler: str
    preset: str
    guidance_start: float
    guidance_end: float


@dataclass(frozen=True, eq=False)
class Steps:
    """A run's schedule and the timesteps on it that are guided. `asked` steps became fewer by a preset."""

    schedule: Schedule
    guided: frozenset[int]
    preset: str
    asked: int

    @classmethod
    def of(cls, stage: str, model: Show1Model, s: Sampling, strength: float = 1.0) -> "Steps":
        number_within(f"{stage}: 'cfg'", s.cfg, 0, _LARGEST_CFG)
        number_within(f"{stage}: 'seed'", s.seed, 0, 2**63 - 1)
        if not 0 <= s.guidance_start <= s.guidance_end <= 1:
            raise InputError(f"{stage}: guidance from {s.guidance_start} to {s.guidance_end} is no stretch of the run; "
                             "use shares of its steps, 0 <= start <= end <= 1")
        chosen = preset(s.preset)
        sampler = chosen.sampler if s.sampler == "default" else s.sampler
        config = with_sampler(model.scheduler_config, sampler)
        schedule = Schedule(config, steps_of(chosen, s.steps), strength=strength)
        start, end = max(s.guidance_start, chosen.guided[0]), min(s.guidance_end, chosen.guided[1])
        return cls(schedule, guided_part(schedule.timesteps, start, end), s.preset, s.steps)

    def __len__(self) -> int:
        return len(self.schedule.timesteps)

    def told(self, runs: int = 1) -> str:
        """"75 steps", "25 steps (fast instead of 75, guided in 12)"; `runs` times over."""
        fewer = "" if self.preset == "reference" else f"{self.preset} instead of {runs * self.asked}, "
        if self.schedule.dropped:
            fewer += f"{runs * self.schedule.dropped} dropped that would repeat a timestep, "
        part = "" if len(self.guided) == len(self) else f"guided in {runs * len(self.guided)}, "
        why = (fewer + part).removesuffix(", ")
        return counted(runs * len(self), "step") + (f" ({why})" if why else "")


def predictor(stage: str, model: Show1Model, positive: Tensor, negative: Tensor, cfg: float, device: torch.device,
              labels: Tensor | None = None, windows: int = 1, at_once: int | None = None,
              where: Collection[int] | None = None) -> Predict:
    """The model as a guided noise predictor; see sampling.loop.guided."""
    texts = [model.text(stage, name, states, device) for name, states in
             (("positive", positive), ("negative", negative))]
    channels = 4 if model.kind == LATENT_EXPERT else 3
    return guided(model.network, *texts, cfg, model.unet.dtype, channels, labels, windows, at_once, where)


@dataclass(frozen=True)
class Layout:
    """How a sample of (height, width) is cut into tiles, how many of its `samples` (videos, two each with guidance)
    share a forward, and what one needs beside the weights."""

    height: int
    width: int
    side: int
    multiple: int
    samples: int
    at_once: int
    memory: int  # bytes

    def over(self, predict: Predict, time: list[Span]) -> Predict:
        """`predict` on the tiles, for every span of time."""
        def boxes(side: int) -> list:
            return tiles(time, self.height, self.width, side, self.multiple)
        return blended(predict, boxes, self.side, smallest(self.multiple))

    def __str__(self) -> str:
        count = len(tiles([Span(0, 1, torch.ones(1))], self.height, self.width, self.side, self.multiple))
        parts = "" if count == 1 else f" x {count} tiles"
        apart = "" if self.at_once == self.samples else f", {self.at_once} of {self.samples} samples at a time"
        return f"{parts}, about {gigabytes(self.memory)} beside the weights{apart}"


def layout(model: Show1Model, samples: int, frames: int, size: tuple[int, int], trained: int, asked: int,
           multiple: int = 1) -> Layout:
    """Tiles for `samples` (videos, twice with guidance) of `frames` frames of `size` (rows, columns).

    `trained` is the side the model was trained on, `asked` the side a user wants (0: automatic). One sample of a tile
    may take half of the device's memory; as many share a forward as fit beside all of the weights. The first changes
    the numbers and follows the device alone, the second does not.
    """
    def needs(side: int, samples: int = 1) -> int:
        return unet_bytes(model.network.config, samples, frames, min(side, size[0]), min(side, size[1]),
                          model.unet.dtype)

    limit, room = model.unet.memory() // 2, model.unet.room()
    if needs(smallest(multiple)) > 2 * limit:
        raise InputError(f"{frames} frames at a time need about "
                         f"{gigabytes(needs(smallest(multiple)))} even in the "
                         f"smallest tiles, and the device has {gigabytes(2 * limit)}; use a "
                         "smaller 'window'")
    side = tile_side(*size, trained, asked, lambda side: needs(side) <= limit, multiple)
    at_once = sharing(samples, lambda count: needs(side, count) <= room)
    return Layout(*size, side, multiple, samples, at_once, needs(side, at_once))


def sharing(samples: int, fits: Callable[[int], bool]) -> int:
    """How many of the samples share a forward: all, or as many as fit in the fewest equal parts, at least one."""
    parts = next((n for n in range(1, samples) if fits(-(-samples // n))), samples)
    return -(-samples // parts)


def check_noise_level(stage: str, name: str, level: int) -> None:
    if not 0 <= level <= 999:
        raise InputError(f"{stage}: '{name}' is {level}; a noise level is a timestep, 0 (clean) to 999 (pure noise)")


def check_result(stage: str, frames: int, height: int, width: int, channels: int) -> None:
    """InputError if the frames a stage is to make cannot be held in main memory."""
    needs, has = 4 * frames * height * width * channels, main_memory()
    if needs > has:
        fits = has // (4 * height * width * channels)
        raise InputError(f"{stage}: {counted(frames, 'frame')} of {width}x{height} take "
                         f"{gigabytes(needs)}, and this "
                         f"machine has {gigabytes(has)}; make fewer frames at a time (of this size "
                         f"{fits} fit) or "
                         "smaller ones")


def largest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `most` that fits, 0 if not even 1 does; what fits grows no smaller."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def halves(cfg: float) -> int:
    """How many samples one video costs per step: classifier-free guidance runs two."""
    return 2 if cfg > 1 else 1
