"""Interpolation: three new frames between every two, in pixel space (paper section 3.3)."""

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, number_within
from ..frames import (
    checked,
    finite,
    from_model,
    pad_to_multiple,
    pixel_frames,
    split_alpha,
    to_model,
    with_alpha,
)
from ..models.bundle import Show1Model
from ..models.kinds import INTERPOLATION
from ..noise import generator, randn
from ..progress import Report, announce, counted, previewing, shifted, silent
from ..sampling.cuts import find_cuts
from ..sampling.guidance import Guidance
from ..sampling.loop import denoise
from ..sampling.tiles import whole
from .plan import Steps, check_result, layout
from .prompts import Prompt, PromptSchedule, at, share
from .settings import StageSettings, guidance, one_prompt, own, samples_per_video

STAGE = "Show1Interpolate"
FACTOR = 4  # the model's own
WINDOW = FACTOR + 1  # frames per window: two given ones and the three between
FACTORS = (2, 4, 8, 16)
_FASTEST = 1e6  # frames per second
_PIXELS_AT_ONCE = 2**17  # per batch of windows: ten of the published size


@dataclass(frozen=True, kw_only=True)
class InterpolateSettings(StageSettings):
    """Defaults are those of the released inference script.

    tiling: side in pixels of the tiles that large frames are sampled in; 0: by the device's memory.
    cuts: hold the frame over a scene cut instead of inventing frames between two scenes.
    factor: new rate over the old one, 2, 4, 8 or 16; the model's own is 4, others are passes of it
        and every second frame of one.
    keep_given: the given frames come back as they are; else the model redraws them.
    loop: frames between the last and the first one too.
    """

    steps: int = 75
    cfg: float = 4.0
    tiling: int = 0
    cuts: bool = False
    factor: int = FACTOR
    keep_given: bool = False
    loop: bool = False


@torch.no_grad()
def interpolate(
    model: Show1Model,
    images: Tensor,
    positive: Prompt,
    negative: Prompt,
    settings: InterpolateSettings,
    report: Report = silent,
) -> Tensor:
    """Interpolates between all neighbouring frames.

    Every window of two given frames is sampled from the same initial noise, in batches. As in the
    original the model redraws the given frames too, unless they are kept; where two windows meet,
    the later one's frame stands.

    Args:
        model: an interpolation model.
        images: (F, H, W, C) frames of any size; a single frame comes back as it is.
        positive, negative: T5 states (1, 77, width), or schedules of them.

    Returns:
        (factor * (F - 1) + 1, H, W, C), about [0, 1]; of a loop factor * F.
    """
    model.require(STAGE, INTERPOLATION)
    one_prompt(STAGE, positive, negative)
    images = checked(STAGE, "images", images)
    s = own(model, settings)
    if s.factor not in FACTORS:
        raise InputError(f"{STAGE}: 'factor' is {s.factor}; use one of {list(FACTORS)}")
    steps = Steps.of(STAGE, model, s)
    if len(images) == 1:
        return images.clone()
    check_result(STAGE, s.factor * len(images), *images.shape[1:])
    cuts = find_cuts(images) if s.cuts else []
    clip = torch.cat([images, images[:1]]) if s.loop else images
    passes = 1 if s.factor <= FACTOR else 2
    windows = [FACTOR**i * (len(clip) - 1 - len(cuts)) for i in range(passes)]
    run = _Run(model, positive, negative, s=s, steps=steps, size=clip.shape[1:3], windows=windows)
    announce(report, STAGE, run.told(len(images)))
    for i in range(passes):
        clip = run.between(clip, [FACTOR**i * cut for cut in cuts], report)
    clip = clip[:: FACTOR**passes // s.factor]
    return clip[:-1] if s.loop else clip


class _Run:
    """An interpolation model made ready once: planned, loaded, its text encoded. Then pass by pass.

    Args:
        size: rows and columns of the frames.
        windows: how many windows each pass has.
    """

    def __init__(
        self,
        model: Show1Model,
        positive: Prompt,
        negative: Prompt,
        *,
        s: InterpolateSettings,
        steps: Steps,
        size: tuple[int, int],
        windows: list[int],
    ):
        self.s, self.steps, self.size, self.windows = s, steps, size, windows
        self.multiple = multiple = model.network.size_multiple
        padded = tuple(-(-side // multiple) * multiple for side in size)
        self.batch = max(1, min(windows[-1], _PIXELS_AT_ONCE // (WINDOW * padded[0] * padded[1])))
        # Trained on whole scenes: only memory cuts them into tiles.
        self.plan = plan = layout(
            model,
            samples_per_video(s.cfg) * self.batch,
            WINDOW,
            size=padded,
            trained=max(padded),
            asked=s.tiling,
            multiple=multiple,
            kept=WINDOW if steps.reuse > 1 else 0,
        )
        self.groups, self.done = sum(-(-count // self.batch) for count in windows), 0
        self.device = device = model.unet.load(plan.memory)
        self.noise = randn((1, 3, WINDOW, *padded), generator(s.seed), device)

        @cache
        def predict(moments: tuple[float, ...]) -> Guidance:
            texts = (torch.cat([at(text, m) for m in moments]) for text in (positive, negative))
            return guidance(
                STAGE,
                model,
                *texts,
                cfg=s.cfg,
                device=device,
                at_once=plan.at_once,
                **steps.for_guidance(),
            )

        self._predict = predict
        self._changes = any(isinstance(text, PromptSchedule) for text in (positive, negative))

    def told(self, frames: int) -> str:
        """The plan in words."""
        height, width = self.size
        made = self.s.factor * frames + (0 if self.s.loop else 1 - self.s.factor)
        return (
            f"{frames} frames {width}x{height} -> {made}, in "
            f"{counted(sum(self.windows), 'window')} ({self.batch} at once){self.plan}; "
            f"{self.steps.told(self.groups)}"
        )

    def between(self, images: Tensor, cuts: list[int], report: Report) -> Tensor:
        """Three frames between every two of (F, H, W, C), none over a cut."""
        result = images.new_empty(FACTOR * (len(images) - 1) + 1, *images.shape[1:])
        for k in cuts:  # the last frame of a scene stands until the next begins
            result[FACTOR * (k - 1) : FACTOR * k] = images[k - 1]
            result[FACTOR * k] = images[k]
        starts = [k for k in range(len(images) - 1) if k + 1 not in cuts]
        for i in range(0, len(starts), self.batch):
            group = starts[i : i + self.batch]
            progress = shifted(report, self.done * len(self.steps), self.groups * len(self.steps))
            for k, window in zip(group, self._sampled(images, group, progress)):
                _, alpha = split_alpha(images[k : k + 2])
                result[FACTOR * k : FACTOR * k + WINDOW] = with_alpha(window, alpha)
            self.done += 1
        if self.s.keep_given:
            result[::FACTOR] = images
        return result

    def _sampled(self, images: Tensor, group: list[int], report: Report) -> list[Tensor]:
        """The windows that begin at the frames of `group`, (5, H, W, 3) each.

        As in the original all windows share initial and step noise.
        """
        pairs = torch.cat([to_model(images[k : k + 2, ..., :3], self.device) for k in group])
        padded = pad_to_multiple(pairs, self.multiple)
        condition = torch.cat([condition_of(*pair.unbind(2)) for pair in padded.split(1)])
        moments = tuple(share(k + 0.5, len(images)) for k in group) if self._changes else (0.0,)
        predict = self._predict(moments)
        out = denoise(
            self.plan.over(lambda _: predict, whole(WINDOW)),
            self.noise.expand(len(group), -1, -1, -1, -1),
            self.steps.schedule,
            sources=[generator(self.s.seed) for _ in group],
            report=previewing(report, pixel_frames),
            condition=condition,
            stage=STAGE,
        )
        height, width = self.size
        return [finite(STAGE, from_model(w[..., :height, :width])) for w in out.split(1)]


def condition_of(first: Tensor, last: Tensor) -> Tensor:
    """Condition channels (1, 4, 5, H, W) of one window: the linear blend of two frames (1, 3, H,
    W), and the mask.
    """
    blend = F.interpolate(
        torch.stack([first, last], dim=2),
        size=(WINDOW, *first.shape[-2:]),
        mode="trilinear",
        align_corners=True,
    )
    mask = torch.zeros_like(blend[:, :1])
    mask[:, :, [0, -1]] = 1
    return torch.cat([blend, mask], dim=1)


@dataclass(frozen=True)
class Rate:
    """How a clip comes to another rate: interpolated by `factor`, then these of the frames taken.

    `off` is how far the worst of them is from its exact time, in seconds.
    """

    factor: int
    frames: list[int]
    off: float

    @property
    def told(self) -> str:
        """How near the frames are to their times."""
        near = "exact in time" if self.off < 1e-6 else f"at most {1000 * self.off:.1f} ms off"
        return f"from x{self.factor}, {near}"


def rate(frames: int, fps: float, target_fps: float, loop: bool = False) -> Rate:
    """The frames nearest in time to a clip of `target_fps` that lasts as long.

    The factor is the least by which they are exact, else that which comes closest.
    """
    number_within(f"{STAGE}: 'fps'", fps, 0.01, most=_FASTEST)
    number_within(f"{STAGE}: 'target_fps'", target_fps, 0.01, most=16 * fps)
    loop = loop and frames > 1  # a single frame comes back as it is
    between = frames if loop else frames - 1
    count = max(1, int(between * target_fps / fps + 1e-6) + (0 if loop else 1))

    def taken(factor: int) -> Rate:
        exact = [i * fps * factor / target_fps for i in range(count)]
        last = factor * between - (1 if loop else 0)
        nearest = [min(round(position), last) for position in exact]
        off = max(abs(a - b) for a, b in zip(exact, nearest)) / (fps * factor)
        return Rate(factor, nearest, off)

    return min(map(taken, FACTORS), key=lambda found: (round(found.off, 6), found.factor))
