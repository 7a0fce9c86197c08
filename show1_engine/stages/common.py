"""What the stages share: progress over several runs, previews, text in place."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from ..errors import InputError
from ..models.bundle import Show1Model
from ..models.kinds import LATENT_EXPERT
from ..models.memory import unet_bytes
from ..sampling.loop import Predict, Preview, Report, guided
from ..sampling.tiles import blended, smallest, tile_side, tiles
from ..sampling.windows import Span

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


def previewing(report: Report, to_frames: Callable[[Tensor], Tensor]) -> Report:
    """report() whose previews are frames (F, H, W, 3) made from the predicted clean sample."""
    return lambda step, total, preview=None: report(step, total, preview and (lambda: to_frames(preview())))


def pixel_frames(video: Tensor) -> Tensor:
    """(B, 3, F, H, W) in [-1, 1] -> all frames in a row (B*F, H, W, 3) in [0, 1]."""
    return rearrange(video[:, :3] / 2 + 0.5, "b c f h w -> (b f) h w c").clamp(0, 1)


def predictor(stage: str, model: Show1Model, positive: Tensor, negative: Tensor, cfg: float, device: torch.device,
              labels: Tensor | None = None, windows: int = 1) -> Predict:
    """The model as a guided noise predictor; see sampling.loop.guided."""
    texts = [model.text(stage, name, states, device) for name, states in
             (("positive", positive), ("negative", negative))]
    channels = 4 if model.kind == LATENT_EXPERT else 3
    return guided(model.network, *texts, cfg, model.unet.dtype, channels, labels, windows)


@dataclass(frozen=True)
class Layout:
    """How a sample of (height, width) is cut into tiles, and what one of them needs beside the weights."""

    height: int
    width: int
    side: int
    multiple: int
    memory: int  # bytes

    def over(self, predict: Predict, time: list[Span]) -> Predict:
        """`predict` on the tiles, for every span of time."""
        def boxes(side: int) -> list:
            return tiles(time, self.height, self.width, side, self.multiple)
        return blended(predict, boxes, self.side, smallest(self.multiple))

    def __str__(self) -> str:
        count = len(tiles([Span(0, 1, torch.ones(1))], self.height, self.width, self.side, self.multiple))
        parts = "" if count == 1 else f" x {count} tiles"
        return f"{parts}, about {gigabytes(self.memory)} beside the weights"


def layout(model: Show1Model, videos: int, frames: int, size: tuple[int, int], trained: int, asked: int,
           multiple: int = 1) -> Layout:
    """Tiles for samples of `videos` x `frames` frames of `size` (rows, columns).

    `trained` is the side the model was trained on, `asked` the side a user wants (0: automatic). A tile may take half
    of the device's memory.
    """
    def needs(side: int) -> int:
        return unet_bytes(model.network.config, videos, frames, min(side, size[0]), min(side, size[1]),
                          model.unet.dtype)

    limit = model.unet.memory() // 2
    side = tile_side(*size, trained, asked, lambda side: needs(side) <= limit, multiple)
    return Layout(*size, side, multiple, needs(side))


def check_noise_level(stage: str, name: str, level: int) -> None:
    if not 0 <= level <= 999:
        raise InputError(f"{stage}: '{name}' is {level}; a noise level is a timestep, 0 (clean) to 999 (pure noise)")


def halves(cfg: float) -> int:
    """How many samples one video costs per step: classifier-free guidance runs two."""
    return 2 if cfg > 1 else 1
