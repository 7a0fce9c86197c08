"""Keyframes: text to a few small frames, in pixel space (paper section 3.2)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, number_within
from ..frames import checked, finite, from_model, pixel_frames
from ..models.bundle import Show1Model
from ..models.kinds import KEYFRAMES
from ..models.memory import unet_bytes
from ..noise import generator, randn, repeated_noise
from ..progress import Report, announce, counted, gigabytes, previewing, shifted, silent
from ..sampling.inversion import invert, mixed
from ..sampling.loop import denoise
from ..sampling.samplers import Predict
from ..sampling.tiles import blended, tiles, whole
from ..sampling.windows import Span, loop_spans, spans
from .given import GivenFrames, drawn_from, known_frames, put_back
from .plan import Layout, Steps, check_result, largest, layout
from .prompts import Prompt
from .settings import StageSettings, one_prompt, own, prompted, samples_per_video

STAGE = "Show1Keyframes"
FPS = 2.0  # frames per second of the published keyframe model
TRAINED = 8  # frames it was trained on
_AUTO_ABOVE = 12  # frames; up to there the whole clip still holds together


@dataclass(frozen=True, kw_only=True)
class KeyframeSettings(StageSettings):
    """Defaults are those of the released inference script.

    width: pixels, from 1; the model was trained on 64.
    height: pixels, from 1; the model was trained on 40.
    num_frames: keyframes, from 1, two per second; the model was trained on 8.
    window: frames sampled together, averaged at every step where windows overlap; 0 all at once,
        -1 eight at a time in clips of more than 12.
    overlap: frames that neighbouring windows share, from 0, less than the window.
    loop: windows wrap round, so that the last frame leads to the first.
    strength: with a clip to start from, how far up the noise it starts, 0 (keeps it) to 1.
    drafts: clips of seed, seed + 1 and so on, one after the other in the result.
    """

    width: int = 64
    height: int = 40
    num_frames: int = 8
    steps: int = 75
    cfg: float = 9.0
    window: int = 0
    overlap: int = 4
    loop: bool = False
    strength: float = 0.6
    drafts: int = 1


@torch.no_grad()
def keyframes(
    model: Show1Model,
    positive: Prompt,
    negative: Prompt,
    settings: KeyframeSettings,
    report: Report = silent,
    motion_from: Tensor | None = None,
    motion_mix: float = 0.5,
    given: GivenFrames | None = None,
    images: Tensor | None = None,
) -> Tensor:
    """Samples keyframes from text.

    Args:
        model: a keyframe model.
        positive, negative: T5 states (1, 77, width), or schedules of them.
        report: called after every step with (step, steps, preview).
        motion_from: frames (F, H, W, C) in [0, 1] whose inverted noise sampling starts from, as
            many as `num_frames` evenly drawn from them.
        motion_mix: share of the inverted noise in the starting noise, 0 to 1 (the rest is random).
        given: frames that are known; the others are sampled to go with them.
        images: a clip (F, H, W, C) to start from, by `strength`, drawn as `motion_from` is.

    Returns:
        (drafts * num_frames, height, width, 3), about [0, 1]. Sizes the model's levels do not
        divide are sampled larger and cropped.
    """
    model.require(STAGE, KEYFRAMES)
    one_prompt(STAGE, positive, negative)
    s = own(model, _checked_settings(settings))
    if images is not None and motion_from is not None:
        raise InputError(
            f"{STAGE}: 'images' and 'motion_from' both say where to start; connect one of them"
        )
    strength = 1.0 if images is None else s.strength
    run = _Run(model, positive, negative, s=s, steps=Steps.of(STAGE, model, s, strength=strength))
    passes = 2 if motion_from is not None and motion_mix != 0 else 1
    announce(report, STAGE, run.told)
    clips = []
    for draft in range(s.drafts):
        parts = [
            shifted(
                report, (draft * passes + i) * len(run.steps), s.drafts * passes * len(run.steps)
            )
            for i in range(passes)
        ]
        source = generator(s.seed + draft)
        start = run.noise(source)
        if passes == 2:
            inverted = run.inverted(motion_from, report=parts[0])
            start = mixed(inverted, start, motion_mix)
        clips.append(run.clip(start, source, given, images=images, report=parts[-1]))
    return torch.cat(clips)


class _Run:
    """A keyframe model made ready once: planned, loaded, its text encoded. Then clip by clip."""

    def __init__(
        self,
        model: Show1Model,
        positive: Prompt,
        negative: Prompt,
        *,
        s: KeyframeSettings,
        steps: Steps,
    ):
        self.s, self.steps, self.time = s, steps, _windows(s)
        self.multiple = model.network.size_multiple
        self.size = tuple(-(-side // self.multiple) * self.multiple for side in (s.height, s.width))
        self.together = max(span.stop - span.start for span in self.time)
        _check_memory(model, s, self.together, size=self.size)
        kept = sum(span.stop - span.start for span in self.time) if steps.reuse > 1 else 0
        plan = _layout(model, s, self.together, size=self.size, kept=kept)
        windows = "" if len(self.time) == 1 else f" in {counted(len(self.time), 'window')}"
        clips = "" if s.drafts == 1 else f"{s.drafts} drafts of "
        self.told = (
            f"{clips}{s.num_frames} frames {s.width}x{s.height}{windows}{plan}; "
            f"{steps.told(s.drafts)}"
        )
        self.device = model.unet.load(plan.memory)

        def predicting(away: Prompt, towards: Prompt, cfg: float) -> Predict:
            return self._windowed(
                prompted(
                    STAGE,
                    model,
                    towards,
                    negative=away,
                    cfg=cfg,
                    frames=s.num_frames,
                    device=self.device,
                    at_once=plan.at_once,
                    **steps.for_guidance(),
                )
            )

        self.predict = predicting(negative, positive, s.cfg)
        self._unguided = lambda: predicting(negative, negative, 1.0)

    def _windowed(self, predict: Callable[[float], Predict]) -> Predict:
        """Windows in time, each in one piece: a keyframe model knows scenes, not patches of
        them.
        """
        side = max(self.size)
        boxes = tiles(self.time, *self.size, side)
        return blended(lambda span: predict(span.moment), lambda _: boxes, side, least=side)

    def noise(self, source: torch.Generator) -> Tensor:
        """What a clip starts from; windows have the same frames of it, in other orders."""
        noise = randn((1, 3, self.s.num_frames, *self.size), source, self.device)
        if len(self.time) == 1:
            return noise
        step = max(1, self.together - self.s.overlap)
        return repeated_noise(noise, self.together, step, source=source)

    def inverted(self, motion_from: Tensor, report: Report) -> Tensor:
        """The noise from which the model makes about these frames."""
        clip = checked(STAGE, "motion_from", motion_from)
        video = drawn_from(clip, self.s.num_frames, self.size, device=self.device)
        return invert(self._unguided(), video, self.steps.schedule, report=report)

    def clip(
        self,
        start: Tensor,
        source: torch.Generator,
        given: GivenFrames | None,
        *,
        images: Tensor | None,
        report: Report,
    ) -> Tensor:
        """One clip (num_frames, height, width, 3) from its noise."""
        s, schedule = self.s, self.steps.schedule
        if images is not None:
            clip = checked(STAGE, "images", images)
            clean = drawn_from(clip, s.num_frames, self.size, device=self.device)
            if not schedule.timesteps:
                return from_model(clean[..., : s.height, : s.width])
            start = schedule.stepper().add_noise(clean, start, schedule.timesteps[0])
        known = None
        if given is not None:
            known = known_frames(
                STAGE,
                given,
                s.num_frames,
                size=(s.height, s.width),
                multiple=self.multiple,
                device=self.device,
            )
        video = denoise(
            self.predict,
            start,
            schedule,
            sources=[source],
            report=previewing(report, pixel_frames),
            stage=STAGE,
            known=known,
        )
        made = finite(STAGE, from_model(video[..., : s.height, : s.width]))
        return made if given is None else put_back(made, given)


def _windows(s: KeyframeSettings) -> list[Span]:
    """The windows in time: all frames in one, or overlapping ones."""
    window = s.window
    if window < 0:
        window = TRAINED if s.num_frames > _AUTO_ABOVE else 0
    window = min(window or s.num_frames, s.num_frames)
    overlap = min(s.overlap, window - 1)
    if s.loop:
        return loop_spans(s.num_frames, window, overlap)
    return spans(s.num_frames, window, overlap) if window < s.num_frames else whole(s.num_frames)


def _checked_settings(s: KeyframeSettings) -> KeyframeSettings:
    for name in ("width", "height", "num_frames"):
        number_within(f"{STAGE}: '{name}'", getattr(s, name), 1, most=2**16)
    number_within(f"{STAGE}: 'window'", s.window, -1, most=2**16)
    number_within(f"{STAGE}: 'overlap'", s.overlap, 0, most=2**16)
    number_within(f"{STAGE}: 'strength'", s.strength, 0, most=1)
    number_within(f"{STAGE}: 'drafts'", s.drafts, 1, most=2**10)
    if 0 < s.window <= s.overlap < s.num_frames:
        raise InputError(
            f"{STAGE}: 'overlap' is {s.overlap} and 'window' {s.window}; the overlap must be "
            "smaller"
        )
    check_result(STAGE, s.drafts * s.num_frames, s.height, width=s.width, channels=3)
    return s


def _layout(
    model: Show1Model, s: KeyframeSettings, frames: int, size: tuple[int, int], kept: int
) -> Layout:
    return layout(
        model,
        samples_per_video(s.cfg),
        frames,
        size=size,
        trained=max(size),
        asked=max(size),
        kept=kept,
    )


def _check_memory(
    model: Show1Model, s: KeyframeSettings, together: int, size: tuple[int, int]
) -> None:
    """Keyframes are not cut into tiles: what does not fit is refused before anything is
    computed.
    """

    def needs(frames: int) -> int:
        return unet_bytes(model.network.config, 1, frames, *size, model.unet.dtype)

    has = model.unet.memory()
    if needs(together) > has:
        fits = largest(together, lambda frames: needs(frames) <= has)
        what = (
            f"of this size {counted(fits, 'frame')} fit"
            if fits
            else "not even one frame of this size fits"
        )
        raise InputError(
            f"{STAGE}: {counted(together, 'frame')} of {s.width}x{s.height} need about "
            f"{gigabytes(needs(together))} beside the weights, and the device has "
            f"{gigabytes(has)}; {what}. The model was trained on 8 frames of 64x40: 'window' 8 "
            "takes longer clips in parts, and Show1PixelSR enlarges them"
        )
