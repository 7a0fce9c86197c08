"""Pixel super-resolution x4 with noise augmentation (paper section 3.4), and the first frame's by a
2-D model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..color import METHODS, match_color
from ..errors import InputError, number_within, one_of
from ..frames import (
    checked,
    finite,
    from_model,
    pad_to_multiple,
    pixel_frames,
    resize,
    resize_bilinear,
    split_alpha,
    to_model,
    with_alpha,
)
from ..models.bundle import Show1Model
from ..models.kinds import FIRST_FRAME_SR, PIXEL_SR
from ..noise import generator, randn
from ..progress import Report, announce, counted, previewing, shifted, silent
from ..sampling.cuts import find_cuts
from ..sampling.known import Known
from ..sampling.loop import denoise
from ..sampling.schedules import Schedule, make_scheduler
from ..sampling.tiles import whole
from ..sampling.windows import Window, chained_windows
from .given import GivenFrames, places
from .masks import checked_mask, mask_of
from .plan import Layout, Steps, check_result, layout
from .prompts import Prompt
from .settings import (
    StageSettings,
    check_noise_level,
    one_prompt,
    own,
    prompted,
    samples_per_video,
)

STAGE = "Show1PixelSR"
SCALE = 4
WINDOW = 8
_COSINE = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "num_train_timesteps": 1000,
}
_ASPECT_TOLERANCE = 0.02
_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class PixelSRSettings(StageSettings):
    """Defaults are those of the released inference script.

    noise_level: noise put on the enlarged frames before they guide the model, 0 to 999.
    tiling: side in output pixels of the tiles that large frames are sampled in; 0: by the model's
        training size and the device's memory.
    color_match: anchors colours to the enlarged input: none does not, mean_std by each frame's mean
        and spread, lab the same in CIELAB, wavelet all but the fine detail.
    scale: output size over input size, 0.001 to 1000; the model's own is 4, others are resampled
        from it.
    cuts: start a new chain of windows at a scene cut.
    """

    steps: int = 125
    cfg: float = 7.0
    noise_level: int = 250
    tiling: int = 0
    color_match: str = "none"
    scale: float = SCALE
    cuts: bool = False


FIRST_FRAME_SETTINGS = PixelSRSettings(steps=70, cfg=4.0, noise_level=150)


@dataclass(frozen=True)
class FirstFrame:
    """Who makes a clip's first frame: a 2-D super-resolution model (DeepFloyd IF-II), and how."""

    model: Show1Model
    settings: PixelSRSettings = FIRST_FRAME_SETTINGS


@dataclass
class Chain:
    """Where a chain of windows stands that is made stretch by stretch: the clean frame (1, 3, 1,
    4H, 4W) in [-1, 1] that the next window begins on, at the model's own size. None at its start.
    """

    clean: Tensor | None = None

    def anchor(self) -> dict[int, Tensor]:
        """That frame as the first of the stretch."""
        return {} if self.clean is None else {0: self.clean}


@torch.no_grad()
def pixel_sr(
    model: Show1Model,
    images: Tensor,
    positive: Prompt,
    negative: Prompt,
    settings: PixelSRSettings,
    first_frame: Tensor | FirstFrame | None = None,
    report: Report = silent,
    windows: list[Window] | None = None,
    references: GivenFrames | None = None,
    mask: Tensor | None = None,
    chain: Chain | None = None,
) -> Tensor:
    """Upscales frames four times, in windows of eight chained by their first frame.

    Args:
        model: a pixel super-resolution model.
        images: (F, H, W, C) frames, any count and size.
        positive, negative: T5 states (1, 77, width), or schedules of them.
        first_frame: (1, H', W', C) the first frame at the target's aspect, which the model then
            follows, or who makes it; else the first window has the noised low resolution alone.
        windows: other windows than the planner's; frames they leave out stay grey.
        references: clean frames at the target's aspect; a new chain of windows starts at each.
        mask: (1 or F, H', W'), 1: upscale, 0: the source, enlarged.
        chain: of a longer clip whose next stretch this is, begun by the last frame of the one
            before; brought up to its last frame.

    Returns:
        (F, scale * H, scale * W, C), about [0, 1].
    """
    model.require(STAGE, PIXEL_SR)
    one_prompt(STAGE, positive, negative)
    images, s = checked(STAGE, "images", images), own(model, _checked_settings(settings))
    anchors = _anchors(references, images)
    windows = _windows(images, s, list(anchors)) if windows is None else windows
    size = tuple(max(1, round(s.scale * side)) for side in images.shape[1:3])
    check_result(STAGE, len(images), *size, images.shape[-1])
    steps = Steps.of(STAGE, model, s)
    total, prompts = len(windows) * len(steps), (positive, negative)
    first, made = _made_first(first_frame, images, *prompts, report=report, after=total)
    chain = chain or Chain()
    anchors |= first | chain.anchor()
    largest = (min(WINDOW, len(images)), *images.shape[1:3])
    upscaler = Upscaler.prepared(
        model, positive, negative, settings=s, steps=steps, size=largest, frames=len(images)
    )
    announce(report, STAGE, _told(images, size, len(windows), upscaler=upscaler, steps=steps))
    result = images.new_full((len(images), *size, images.shape[-1]), 0.5)
    _fill(
        result,
        images,
        windows,
        upscaler=upscaler,
        anchors=anchors,
        mask=None if mask is None else checked_mask(STAGE, mask, len(images)),
        report=lambda i: shifted(report, made + i * len(steps), made + total),
        chain=chain,
    )
    return result


def _windows(images: Tensor, s: PixelSRSettings, starts: list[int]) -> list[Window]:
    """Chains of windows, a new one at each of `starts` and at each scene cut."""
    cuts = {*(find_cuts(images) if s.cuts else []), *starts} - {0}
    return chained_windows(len(images), WINDOW, sorted(cuts))


def _told(
    images: Tensor,
    size: tuple[int, int],
    windows: int,
    *,
    upscaler: "Upscaler",
    steps: Steps,
) -> str:
    """The plan in words."""
    frames, height, width = images.shape[:3]
    return (
        f"{frames} frames {width}x{height} -> {size[1]}x{size[0]}, in "
        f"{counted(windows, 'window')}{upscaler.plan}; {steps.told(windows)}"
    )


def _made_first(
    first_frame: Tensor | FirstFrame | None,
    images: Tensor,
    positive: Prompt,
    negative: Prompt,
    *,
    report: Report,
    after: int,
) -> tuple[dict[int, Tensor], int]:
    """The clean first frame as an anchor, if there is to be one, and the steps it took; `after` it
    come so many.
    """
    if first_frame is None:
        return {}, 0
    steps = 0
    if isinstance(first_frame, FirstFrame):
        maker = first_frame.model
        steps = len(Steps.of(STAGE, maker, own(maker, first_frame.settings)))
        first_frame = first_frame_sr(
            first_frame.model,
            images,
            positive,
            negative=negative,
            settings=first_frame.settings,
            report=shifted(report, 0, steps + after),
        )
    return {0: _given("first_frame", first_frame, images)}, steps


def _fill(
    result: Tensor,
    images: Tensor,
    windows: list[Window],
    *,
    upscaler: "Upscaler",
    anchors: dict[int, Tensor],
    mask: Tensor | None,
    report: Callable[[int], Report],
    chain: Chain,
) -> None:
    """Upscales window after window into `result`; each goes on from a frame of the one before, or
    begins on a clean frame where there is one. The chain is brought up to the last frame.
    """
    chained = None
    for i, window in enumerate(windows):
        low, alpha = split_alpha(images[window.frames])
        video = _anchored(
            upscaler,
            low,
            chained if window.continues else anchors.get(window.start),
            mask=mask if mask is None or len(mask) == 1 else mask[window.frames],
            position=(window.start + window.stop - 1) / 2,
            report=report(i),
        )
        frames = finite(STAGE, from_model(resize(video, *result.shape[1:3])))
        result[window.frames] = with_alpha(frames, alpha)
        # The next one begins on this one's last frame, or earlier if it was moved back.
        following = windows[i + 1].start if i + 1 < len(windows) else window.stop - 1
        first = following - window.start
        chained = video[:, :, first : first + 1]
    chain.clean = None if chained is None else chained.clone()  # not the whole window's memory


@torch.no_grad()
def first_frame_sr(
    model: Show1Model,
    images: Tensor,
    positive: Tensor,
    negative: Tensor,
    settings: PixelSRSettings = FIRST_FRAME_SETTINGS,
    report: Report = silent,
) -> Tensor:
    """The first of `images` (F, H, W, C) upscaled four times by a 2-D model (DeepFloyd IF-II): (1,
    4H, 4W, 3).
    """
    model.require(STAGE, FIRST_FRAME_SR)
    one_prompt(STAGE, positive, negative)
    check_noise_level(STAGE, "first_frame_noise_level", settings.noise_level)
    rgb, _ = split_alpha(checked(STAGE, "images", images[:1]))
    settings = own(model, settings)
    steps = Steps.of(STAGE, model, settings)
    upscaler = Upscaler.prepared(
        model, positive, negative, settings=settings, steps=steps, size=rgb.shape[:3]
    )
    return finite(STAGE, from_model(upscaler.window(to_model(rgb, _CPU), None, report)))


class Upscaler:
    """A super-resolution model made ready once for a run: planned, loaded, its text encoded. Then
    `window` by window.

    Args:
        steps: the schedule, and which of its timesteps are guided.
        size: frames, height and width of the largest low-resolution window.
        frames: how many the clip has over which the prompts change.
    """

    def __init__(
        self,
        model: Show1Model,
        positive: Prompt,
        negative: Prompt,
        settings: PixelSRSettings,
        *,
        schedule: Schedule,
        guided_timesteps: frozenset[int] | None,
        reuse: int = 1,
        size: tuple[int, int, int],
        frames: int = 1,
    ):
        self.model, self.settings, self.schedule = model, settings, schedule
        self.plan = _layout(model, settings, size, reuse=reuse)
        self.device = model.unet.load(self.plan.memory)
        self.noise_level = torch.tensor([settings.noise_level])
        self.predict = prompted(
            STAGE,
            model,
            positive,
            negative=negative,
            cfg=settings.cfg,
            frames=frames,
            device=self.device,
            noise_level=self.noise_level.to(self.device),
            at_once=self.plan.at_once,
            guided_timesteps=guided_timesteps,
            reuse=reuse,
        )

    @classmethod
    def prepared(
        cls,
        model: Show1Model,
        positive: Prompt,
        negative: Prompt,
        settings: PixelSRSettings,
        steps: Steps,
        size: tuple[int, int, int],
        frames: int = 1,
    ) -> "Upscaler":
        """For a run of `steps`."""
        return cls(
            model,
            positive,
            negative,
            settings=settings,
            schedule=steps.schedule,
            **steps.for_guidance(),
            size=size,
            frames=frames,
        )

    def window(
        self,
        low: Tensor,
        clean_first: Tensor | None,
        report: Report = silent,
        position: float = 0.0,
        mask: Tensor | None = None,
    ) -> Tensor:
        """One window (1, 3, F, H, W) in [-1, 1] -> (1, 3, F, 4H, 4W).

        The condition is the bilinearly enlarged window, noised to the noise level; `clean_first`
        (1, 3, 1, 4H, 4W), if given, takes the place of its first frame, without noise. Every window
        draws the same noise. `position` in the clip chooses the prompt; where `mask` (1, 1, F, 4H,
        4W) is 0 the sample is held to the enlarged window.
        """
        height, width = (SCALE * side for side in low.shape[-2:])
        multiple = self.plan.multiple
        target = pad_to_multiple(resize_bilinear(low, height, width), multiple)
        source = generator(self.settings.seed)
        start = randn(target.shape, source, self.device)
        noise = randn(target.shape, source, self.device)
        clean = (
            None if clean_first is None else pad_to_multiple(clean_first, multiple).to(self.device)
        )
        condition = low_resolution(
            self.model, target.to(self.device), noise, levels=self.noise_level, clean_first=clean
        )
        guided = self.predict(position)
        predict = self.plan.over(lambda _: guided, whole(low.shape[2]))
        known = None
        if mask is not None:
            outside = 1 - pad_to_multiple(mask, multiple).to(self.device)
            known = Known(target.to(self.device), outside)
        video = denoise(
            predict,
            start,
            self.schedule,
            sources=[source],
            report=previewing(report, pixel_frames),
            condition=condition,
            stage=STAGE,
            known=known,
        )
        return video[..., :height, :width]


def low_resolution(
    model: Show1Model,
    enlarged: Tensor,
    noise: Tensor,
    levels: Tensor,
    clean_first: Tensor | None = None,
) -> Tensor:
    """The model's condition: enlarged windows (B, 3, F, H, W) noised to `levels` (B,), and
    `clean_first` in the place of the first frame.
    """
    scheduler = make_scheduler(model.noising_config or _COSINE)
    if int(levels.max()) >= len(scheduler.alphas_cumprod):
        raise InputError(
            f"{STAGE}: the noise level is {int(levels.max())}; the noising schedule of "
            f"'{model.name}' has {len(scheduler.alphas_cumprod)} timesteps, so use a lower one"
        )
    condition = scheduler.add_noise(enlarged, noise, levels)
    if clean_first is not None:
        condition[:, :, :1] = clean_first
    return condition


def _checked_settings(s: PixelSRSettings) -> PixelSRSettings:
    check_noise_level(STAGE, "noise_level", s.noise_level)
    number_within(f"{STAGE}: 'scale'", s.scale, 1e-3, most=1e3)
    one_of("color_match", s.color_match, METHODS)
    return s


def _layout(
    model: Show1Model, s: PixelSRSettings, size: tuple[int, int, int], reuse: int
) -> Layout:
    """Tiles for a low-resolution window of that many frames, rows and columns, enlarged and
    padded.
    """
    frames, *sides = size
    multiple = model.network.size_multiple
    padded = tuple(-(-SCALE * side // multiple) * multiple for side in sides)
    trained = model.network.config.get("sample_size") or 256
    return layout(
        model,
        samples_per_video(s.cfg),
        frames,
        size=padded,
        trained=trained,
        asked=s.tiling,
        multiple=multiple,
        kept=frames if reuse > 1 else 0,
    )


def _anchored(
    upscaler: Upscaler,
    low: Tensor,
    clean: Tensor | None,
    *,
    mask: Tensor | None,
    position: float,
    report: Report,
) -> Tensor:
    """One window (F, H, W, 3), enlarged, colour-matched and masked: (1, 3, F, 4H, 4W) in [-1, 1] on
    the CPU.
    """
    low = to_model(low, _CPU)
    size = low.shape[2], SCALE * low.shape[3], SCALE * low.shape[4]
    inside = None if mask is None else mask_of(mask, *size[:2], width=size[2])
    video = upscaler.window(low, clean, report, position=position, mask=inside).cpu()
    method = upscaler.settings.color_match
    if method == "none" and inside is None:
        return video
    source = resize_bilinear(low, *size[1:])
    if method != "none":
        video = to_model(match_color(from_model(video), from_model(source), method), _CPU)
    return video if inside is None else torch.lerp(source, video, inside)


def _anchors(references: GivenFrames | None, images: Tensor) -> dict[int, Tensor]:
    """The clean frames that windows begin on, by the frame of the clip that each is."""
    if references is None:
        return {}
    found = places(STAGE, "reference_frames", references, frames=len(images))
    return {
        place: _given("reference_frames", references.images[i : i + 1], images)
        for i, place in enumerate(found)
    }


def _given(name: str, image: Tensor, images: Tensor) -> Tensor:
    """A user's clean frame as (1, 3, 1, 4H, 4W) in [-1, 1]; another aspect is refused."""
    height, width = (SCALE * side for side in images.shape[1:3])
    rgb, _ = split_alpha(checked(STAGE, name, image[:1]))
    tall, wide = rgb.shape[1:3]
    if abs(wide / tall * height / width - 1) > _ASPECT_TOLERANCE:
        raise InputError(
            f"{STAGE}: '{name}' is {wide}x{tall} but the frames upscale to {width}x{height}; "
            f"give a {name.removesuffix('s').replace('_', ' ')} of the same aspect"
        )
    return resize(to_model(rgb, _CPU), height, width)
