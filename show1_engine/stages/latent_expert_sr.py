"""Latent expert super-resolution: noise the enlarged clip part of the way, denoise it in latent
space (section 3.5).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..color import METHODS, match_color
from ..errors import InputError, one_of
from ..frames import checked, cover, finite, from_model, pad_to_multiple, to_model
from ..models.autoencoder import Codec, PixelsOf, VaeCodec, chunks
from ..models.bundle import Show1Model
from ..models.kinds import LATENT_EXPERT
from ..noise import generator, randn
from ..progress import Report, announce, counted, previewing, silent
from ..sampling.cuts import find_cuts
from ..sampling.known import Known
from ..sampling.loop import denoise
from ..sampling.windows import Span, loop_spans, scene_spans
from .masks import checked_mask, mask_of
from .plan import Steps, check_result, layout
from .prompts import Prompt
from .settings import StageSettings, one_prompt, own, prompted, samples_per_video

STAGE = "Show1LatentExpertSR"


@dataclass(frozen=True, kw_only=True)
class LatentExpertSettings(StageSettings):
    """Defaults are those of the released inference script.

    width: output pixels, from 1; 0 follows the input's aspect, both 0 keep its size.
    height: output pixels, from 1; 0 follows the input's aspect.
    strength: how far up the noise the clip starts, 0 (keeps it) to 1 (noise alone); trained up to
        0.9.
    window: frames sampled together, from 1.
    overlap: frames that neighbouring windows share, from 0, less than the window; averaged at every
        step.
    tiling: side in output pixels of the tiles that large frames are sampled in; 0: by the model's
        training size and the device's memory.
    color_match: anchors colours to the enlarged input: none does not, mean_std by each frame's mean
        and spread, lab the same in CIELAB, wavelet all but the fine detail.
    cuts: no window reaches across a scene cut.
    loop: windows wrap round, so that the last frame leads to the first; scene cuts do not count.
    """

    width: int = 576
    height: int = 320
    steps: int = 50
    cfg: float = 15.0
    strength: float = 0.8
    window: int = 32
    overlap: int = 8
    tiling: int = 0
    color_match: str = "none"
    cuts: bool = False
    loop: bool = False


@dataclass
class Before:
    """What a stretch of a longer clip goes on from: the latents (1, 4, n, h, w) of the frames just
    before it, as they were made, and how many stretches there were. None at a clip's start.
    """

    latents: Tensor | None = None
    stretches: int = 0

    @property
    def frames(self) -> int:
        return 0 if self.latents is None else self.latents.shape[2]

    def beside(self, latents: Tensor) -> Tensor:
        """The stretch's latents behind those."""
        return (
            latents if self.latents is None else torch.cat([self.latents.to(latents), latents], 2)
        )

    def moved_on(self, latents: Tensor, keep: int) -> Tensor:
        """The stretch's own of all latents, the last of which are what the next goes on from."""
        own = latents[:, :, self.frames :]
        self.latents = latents[:, :, max(0, latents.shape[2] - keep) :].clone()
        self.stretches += 1
        return own


@torch.no_grad()
def latent_expert_sr(
    model: Show1Model,
    images: Tensor,
    positive: Prompt,
    negative: Prompt,
    settings: LatentExpertSettings,
    codec: Codec | None = None,
    report: Report = silent,
    mask: Tensor | None = None,
    before: Before | None = None,
) -> Tensor:
    """Refines frames at a larger size.

    Args:
        model: a latent expert (with its VAE, unless `codec` is given).
        images: (F, H, W, C) frames, any count and size.
        positive, negative: OpenCLIP states (1, 77, width), or schedules of them.
        codec: another VAE for that latent space.
        mask: (1 or F, H', W') over the result, 1: refine, 0: the source, enlarged.
        before: of a longer clip whose next stretch this is, what was made just before it: held at
            every step while the stretch is sampled beside it; brought up to its last frames.

    Returns:
        (F, height, width, C), about [0, 1]; another aspect is cropped to, never squashed.
    """
    model.require(STAGE, LATENT_EXPERT)
    one_prompt(STAGE, positive, negative)
    images, s = checked(STAGE, "images", images), own(model, _checked_settings(settings))
    height, width = target_size(s, *images.shape[1:3])
    steps = Steps.of(STAGE, model, s, strength=s.strength)
    codec = codec or _own_codec(model)
    check_result(STAGE, len(images), height, width=width, channels=images.shape[-1])

    def enlarged(part: slice) -> Tensor:
        video = cover(to_model(images[part, ..., :3], torch.device("cpu")), height, width)
        return pad_to_multiple(video, codec.factor)

    wanted = None if mask is None else checked_mask(STAGE, mask, len(images))
    before = before or Before()
    latents = _refine(
        model,
        enlarged,
        _windows(s, images, before.frames),
        positive=positive,
        negative=negative,
        s=s,
        steps=steps,
        codec=codec,
        report=report,
        mask=wanted,
        before=before,
    )
    latents = before.moved_on(latents, s.overlap)
    result = images.new_empty(len(images), height, width, images.shape[-1])
    for part, video in codec.decode(latents):
        made = finite(STAGE, from_model(video[..., :height, :width]), "VAE")
        some = wanted if wanted is None or len(wanted) == 1 else wanted[part]
        source = from_model(enlarged(part)[..., :height, :width])
        result[part, ..., :3] = _anchored(made, source, s.color_match, mask=some)
    return _with_alpha_of(images, result)


def _anchored(made: Tensor, source: Tensor, method: str, mask: Tensor | None) -> Tensor:
    """Frames (F, H, W, 3) with the colours of the enlarged source, and the source outside the
    mask.
    """
    if method != "none":
        made = finite(STAGE, match_color(made, source, method))
    if mask is None:
        return made
    inside = mask_of(mask, len(source), source.shape[1], width=source.shape[2])
    return torch.lerp(source, made, inside[0, 0, ..., None])


def _checked_settings(s: LatentExpertSettings) -> LatentExpertSettings:
    if not 0 <= s.strength <= 1:
        raise InputError(
            f"{STAGE}: 'strength' is {s.strength}; use 0 (keep the input) to 1 (keep nothing)"
        )
    if s.width < 0 or s.height < 0:
        raise InputError(
            f"{STAGE}: size {s.width}x{s.height} is negative; use 0 to follow the input"
        )
    one_of("color_match", s.color_match, METHODS)
    if not 0 <= s.overlap < s.window:
        raise InputError(
            f"{STAGE}: 'overlap' is {s.overlap} and 'window' {s.window}; the overlap must be "
            "smaller"
        )
    return s


def target_size(s: LatentExpertSettings, height: int, width: int) -> tuple[int, int]:
    """Output (height, width) for an input of that size: 0 follows the input, both 0 keep
    its size.
    """
    if s.width and s.height:
        return s.height, s.width
    if s.width:
        return max(1, round(s.width * height / width)), s.width
    return (s.height, max(1, round(s.height * width / height))) if s.height else (height, width)


def _with_alpha_of(images: Tensor, result: Tensor) -> Tensor:
    """The result with the source's alpha channel, if it has one, cropped and resized like the
    picture.
    """
    for part in chunks(len(images), 16) if images.shape[-1] == 4 else ():
        alpha = rearrange(images[part, ..., 3:], "f h w 1 -> 1 1 f h w")
        result[part, ..., 3] = cover(alpha, *result.shape[1:3]).clamp(0, 1)[0, 0]
    return result


def _own_codec(model: Show1Model) -> Codec:
    if model.vae is None:
        raise InputError(
            f"{STAGE}: '{model.name}' has no VAE; connect one (Stable Diffusion 1.5's type) to "
            "'vae'"
        )
    return VaeCodec(model.vae)


def _refine(
    model: Show1Model,
    enlarged: PixelsOf,
    time: list[Span],
    positive: Prompt,
    negative: Prompt,
    s: LatentExpertSettings,
    steps: Steps,
    codec: Codec,
    report: Report,
    mask: Tensor | None,
    before: Before,
) -> Tensor:
    """The latents of all frames that `time` covers: those before the stretch, and its own."""
    source = generator((s.seed + before.stretches) % 2**63)
    frames = time[-1].round or time[-1].stop
    own = codec.encode(enlarged, frames - before.frames, source)
    latents = before.beside(finite(STAGE, own, "VAE"))
    height, width = latents.shape[-2:]
    plan = layout(
        model,
        samples_per_video(s.cfg),
        max(span.stop - span.start for span in time),
        size=(height, width),
        trained=model.trained,
        asked=-(-s.tiling // codec.factor),
        kept=sum(span.stop - span.start for span in time) if steps.reuse > 1 else 0,
    )
    announce(
        report,
        STAGE,
        f"{frames - before.frames} frames -> {width * codec.factor}x{height * codec.factor}, in "
        f"{counted(len(time), 'window')}{plan}; {steps.told()}",
    )
    device = model.unet.load(plan.memory)
    latents = latents.to(device)
    noise = randn((frames, latents.shape[1], height, width), source, device).movedim(0, 1)[None]
    schedule = steps.schedule
    if not schedule.timesteps:
        return latents
    predict = prompted(
        STAGE,
        model,
        positive,
        negative=negative,
        cfg=s.cfg,
        frames=frames - before.frames,
        device=device,
        at_once=plan.at_once,
        **steps.for_guidance(),
    )
    return denoise(
        plan.over(lambda span: predict(span.moment - before.frames), time),
        schedule.stepper().add_noise(latents, noise, schedule.timesteps[0]),
        schedule,
        sources=[source],
        report=previewing(report, rgb_estimate(latents[:, :, before.frames :], enlarged)),
        stage=STAGE,
        known=_held(latents, mask, before.frames, factor=codec.factor),
    )


def _held(latents: Tensor, mask: Tensor | None, before: int, factor: int) -> Known | None:
    """The latents of the first frames, which are there already, and those of places that the mask
    leaves out entirely.
    """
    if mask is None and not before:
        return None
    frames, height, width = latents.shape[2:]
    held = latents.new_zeros((1, 1, frames, height, width))
    if mask is not None:
        pixels = mask_of(mask, frames - before, height * factor, width=width * factor)
        inside = F.max_pool3d(pixels, (1, factor, factor)).to(latents.device)
        held[:, :, before:] = 1 - inside
    held[:, :, :before] = 1
    return Known(latents, held)


def _windows(s: LatentExpertSettings, images: Tensor, before: int) -> list[Span]:
    """The windows in time over so many frames before the stretch, and the stretch: within scenes,
    or round a loop.
    """
    if s.loop and len(images) > 1:
        return loop_spans(len(images), s.window, s.overlap)
    cuts = [before + cut for cut in find_cuts(images)] if s.cuts else []
    return scene_spans(before + len(images), s.window, s.overlap, cuts=cuts)


def rgb_estimate(latents: Tensor, pixels: PixelsOf) -> Callable[[Tensor], Tensor]:
    """A linear map from this VAE's latents to RGB frames, fitted to the clip's first frames:
    previews without decoding. Fitted when the first preview is asked for: a fault in it is a
    preview's fault.
    """

    @cache
    def fit() -> Tensor:
        some = slice(0, min(8, latents.shape[2]))
        video = pixels(some)
        size = (video.shape[2], *latents.shape[-2:])
        colours = rearrange(
            F.interpolate(video, size=size, mode="area"), "1 c f h w -> (f h w) c"
        ).float()
        return torch.linalg.lstsq(_with_one(latents[:, :, some]).cpu(), colours).solution

    def frames(sample: Tensor) -> Tensor:
        shown = sample[:, :, :: -(-sample.shape[2] // 32)]  # of a long clip at most 32 frames
        rgb = _with_one(shown) @ fit().to(sample.device)
        return (rgb.unflatten(0, (-1, *latents.shape[-2:])) / 2 + 0.5).clamp(0, 1)

    return frames


def _with_one(latents: Tensor) -> Tensor:
    """(1, C, F, h, w) -> (F*h*w, C + 1), the last column all ones."""
    flat = rearrange(latents, "1 c f h w -> (f h w) c").float()
    return torch.cat([flat, torch.ones_like(flat[:, :1])], dim=1)
