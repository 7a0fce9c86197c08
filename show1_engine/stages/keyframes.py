"""Keyframes: text to a few small frames, in pixel space (paper section 3.2)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..frames import from_model
from ..models.bundle import Show1Model
from ..models.kinds import KEYFRAMES
from ..models.memory import unet_bytes
from ..noise import generator, randn
from ..sampling.loop import Report, denoise, silent
from ..sampling.schedules import Schedule, with_sampler
from .common import announce, gigabytes, halves, pixel_frames, predictor, previewing

STAGE = "Show1Keyframes"
FPS = 2.0  # frames per second of the published keyframe model


@dataclass(frozen=True)
class KeyframeSettings:
    """Defaults are those of the released inference script."""

    width: int = 64
    height: int = 40
    num_frames: int = 8
    steps: int = 75
    cfg: float = 9.0
    seed: int = 0
    sampler: str = "default"


@torch.no_grad()
def keyframes(model: Show1Model, positive: Tensor, negative: Tensor, settings: KeyframeSettings,
              report: Report = silent) -> Tensor:
    """Samples keyframes from text.

    Args:
        model: a keyframe model.
        positive, negative: T5 states (1, 77, width).
        report: called after every step with (step, steps, preview).

    Returns:
        (num_frames, height, width, 3), about [0, 1]. Sizes the model's levels do not divide are sampled larger
        and cropped.
    """
    model.require(STAGE, KEYFRAMES)
    s = settings
    for name in ("width", "height", "num_frames"):
        if getattr(s, name) < 1:
            raise InputError(f"{STAGE}: '{name}' is {getattr(s, name)}; it must be at least 1")
    schedule = Schedule(with_sampler(model.scheduler_config, s.sampler), s.steps)
    multiple = model.network.size_multiple
    height, width = (-(-side // multiple) * multiple for side in (s.height, s.width))
    memory = unet_bytes(model.network.config, halves(s.cfg), s.num_frames, height, width, model.unet.dtype)
    announce(report, STAGE, f"{s.num_frames} frames {s.width}x{s.height}, about {gigabytes(memory)} beside the "
                            f"weights; {len(schedule.timesteps)} steps")
    device = model.unet.load(memory)
    source = generator(s.seed)
    start = randn((1, 3, s.num_frames, height, width), source, device)
    predict = predictor(STAGE, model, positive, negative, s.cfg, device)
    video = denoise(predict, start, schedule, [source], previewing(report, pixel_frames))
    return from_model(video[..., :s.height, :s.width])
