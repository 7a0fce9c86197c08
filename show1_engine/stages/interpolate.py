"""Interpolation: three new frames between every two, in pixel space (paper section 3.3)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

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
from ..sampling.loop import denoise
from ..sampling.tiles import whole
from .plan import Steps, check_result, layout
from .settings import StageSettings, guidance, one_prompt, samples_per_video

STAGE = "Show1Interpolate"
WINDOW = 5  # frames per window: two given ones and the three between
FACTOR = WINDOW - 1
_PIXELS_AT_ONCE = 2**17  # per batch of windows: ten of the published size


@dataclass(frozen=True, kw_only=True)
class InterpolateSettings(StageSettings):
    """Defaults are those of the released inference script.

    tiling: side in pixels of the tiles that large frames are sampled in; 0: by the device's memory.
    cuts: hold the frame over a scene cut instead of inventing frames between two scenes.
    """

    steps: int = 75
    cfg: float = 4.0
    tiling: int = 0
    cuts: bool = False


@torch.no_grad()
def interpolate(
    model: Show1Model,
    images: Tensor,
    positive: Tensor,
    negative: Tensor,
    settings: InterpolateSettings,
    report: Report = silent,
) -> Tensor:
    """Interpolates between all neighbouring frames.

    Every window of two given frames is sampled from the same initial noise, in batches. As in the
    original the model redraws the given frames too; where two windows meet, the later one's frame
    is kept.

    Args:
        model: an interpolation model.
        images: (F, H, W, C) frames of any size; a single frame comes back as it is.
        positive, negative: T5 states (1, 77, width).

    Returns:
        (4 * (F - 1) + 1, H, W, C), about [0, 1].
    """
    model.require(STAGE, INTERPOLATION)
    one_prompt(STAGE, positive, negative)
    images = checked(STAGE, "images", images)
    steps = Steps.of(STAGE, model, settings)
    if len(images) == 1:
        return images.clone()
    count = FACTOR * (len(images) - 1) + 1
    check_result(STAGE, count, *images.shape[1:])
    result = images.new_empty(count, *images.shape[1:])
    cuts = set(find_cuts(images)) if settings.cuts else set()
    starts = [k for k in range(len(images) - 1) if k + 1 not in cuts]
    for k in cuts:  # nothing lies between two scenes: the last frame stands until the next begins
        result[FACTOR * (k - 1) : FACTOR * k] = images[k - 1]
        result[FACTOR * k] = images[k]
    _fill(
        result,
        model,
        images,
        starts=starts,
        positive=positive,
        negative=negative,
        s=settings,
        steps=steps,
        report=report,
    )
    return result


def _fill(
    result: Tensor,
    model: Show1Model,
    images: Tensor,
    starts: list[int],
    positive: Tensor,
    negative: Tensor,
    s: InterpolateSettings,
    steps: Steps,
    report: Report,
) -> None:
    """Samples the windows that begin at `starts` and writes them into `result`."""
    multiple, (height, width) = model.network.size_multiple, images.shape[1:3]
    size = pad_to_multiple(images.new_empty(1, 1, 1, height, width), multiple).shape[-2:]
    batch = max(1, min(len(starts), _PIXELS_AT_ONCE // (WINDOW * size[0] * size[1])))
    # Trained on whole scenes: only memory cuts them into tiles.
    plan = layout(
        model,
        samples_per_video(s.cfg) * batch,
        WINDOW,
        size=size,
        trained=max(size),
        asked=s.tiling,
        multiple=multiple,
    )
    groups = [starts[i : i + batch] for i in range(0, len(starts), batch)]
    told = f"{len(images)} frames {width}x{height} -> {len(result)}, in "
    told += f"{counted(len(starts), 'window')} ({batch} at once){plan}; {steps.told(len(groups))}"
    announce(report, STAGE, told)
    device = model.unet.load(plan.memory)
    noise = randn((1, 3, WINDOW, *size), generator(s.seed), device)
    predict = guidance(
        STAGE,
        model,
        positive,
        negative=negative,
        cfg=s.cfg,
        device=device,
        at_once=plan.at_once,
        guided_timesteps=steps.guided_timesteps,
    )
    for i, group in enumerate(groups):
        pairs = torch.cat([to_model(images[k : k + 2, ..., :3], device) for k in group])
        padded = pad_to_multiple(pairs, multiple)
        condition = torch.cat([condition_of(*pair.unbind(2)) for pair in padded.split(1)])
        progress = shifted(report, i * len(steps), len(groups) * len(steps))
        # As in the original all windows share initial and step noise.
        out = denoise(
            plan.over(predict, whole(WINDOW)),
            noise.expand(len(group), -1, -1, -1, -1),
            steps.schedule,
            sources=[generator(s.seed) for _ in group],
            report=previewing(progress, pixel_frames),
            condition=condition,
            stage=STAGE,
        )
        for k, window in zip(group, out.split(1)):
            _, alpha = split_alpha(images[k : k + 2])
            frames = finite(STAGE, from_model(window[..., :height, :width]))
            result[FACTOR * k : FACTOR * k + WINDOW] = with_alpha(frames, alpha)


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
