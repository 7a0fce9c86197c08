"""Training of a motion LoRA on one clip (paper, section 3.7)."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import InputError, ModelKindError, ResultError, number_within, one_of
from ..frames import checked, cover, resize_bilinear, split_alpha, to_model
from ..lora.merging import MotionLora
from ..lora.targets import TARGETS, spatial_layers, temporal_layers
from ..models.autoencoder import VaeCodec
from ..models.bundle import Show1Model
from ..models.compiled import uncompiled
from ..models.handle import Handle
from ..models.kinds import DESCRIPTION, KEYFRAMES, LATENT_EXPERT, PIXEL_SR
from ..models.memory import unet_bytes
from ..models.unet import TextStates
from ..noise import generator, randn
from ..progress import Preview, Report, announce, gigabytes, silent
from ..sampling.schedules import make_scheduler
from ..stages.keyframes import KeyframeSettings, keyframes
from ..stages.pixel_sr import SCALE, low_resolution
from ..stages.plan import check_result, largest
from .adapters import Adapters
from .objectives import OBJECTIVES

STAGE = "Show1TrainMotionLoRA"
TIMESTEPS = ("motion", "even")
_CPU = torch.device("cpu")
_EXPERT_STEPS = 900  # the latent expert never saw noisier latents
_SPATIAL_DROP = 0.2  # MotionDirector: how often the temporal loss is taken without the spatial path
_DECISIVE = 0.8  # share of steps at the noise levels where motion is decided
_CLIP_NORM, _WEIGHT_DECAY, _WARM_UP = 1.0, 0.01, 10
# Kept for the way back, in units of a forward pass's activations: every layer's input and one layer
# in full with gradient checkpointing, everything without (counted on the published architectures).
_KEPT, _KEPT_ALL = 5, 40
# Super-resolution is shown the clip's own low resolution, noised at any of these levels (sampled at
# 150 and 250), and in this share of windows its first frame as it is to become, as windows go on
# from each other.
_NOISE_LEVELS, _CHAINED = 300, 0.6
_SAMPLE_STEPS, _SAMPLE_CFG = 10, 4.0


@dataclass(frozen=True)
class TrainSettings:
    """Defaults for a clip of one motion. Every line is also the help of the command line's option.

    steps: training steps, from 1; 300 to 500 for one clip, too many copy its looks.
    rank: size of the LoRA, from 1; 16 is enough for one motion.
    learning_rate: above 0; more learns quicker and copies more, 0.0005 to 0.002.
    seed: of all noise and of what is drawn from the clip.
    objective: motion sets the clip's looks aside (MotionDirector), frame_difference compares
        changes between frames only (VMC), plain learns all that is there, for a texture.
    batch_size: windows per step, from 1; more learns steadier and takes that much longer.
    width: pixels to train at, from 1; 0: the clip's aspect at the size the model was trained on.
    height: pixels to train at, from 1; 0: the clip's aspect at the size the model was trained on.
    window: frames per step, from 1, drawn anywhere from the clip; Show-1 was trained on 8.
    frame_step: use every n-th frame of the clip, from 1; keyframes are half a second apart.
    targets: attention is temporal attention alone, as in the paper; attention_and_ff its
        feed-forward layers too (MotionDirector).
    timesteps: motion draws most steps at the noise levels where a clip's motion is decided, even
        from all alike.
    sample_every: steps from one sampled clip to the next, 0 for none; each costs as much as about
        10 steps, keyframe models only.
    gradient_checkpointing: less memory for a third more time.
    mixed_precision: compute in bfloat16 where the device can; the LoRA itself stays in float32.
    recolour: share of steps, 0 to 1, that see the clip in other colours and without words, so that
        the motion is not bound to its own; not for the latent expert.
    """

    steps: int = 300
    rank: int = 16
    learning_rate: float = 5e-4  # MotionDirector
    seed: int = 0
    objective: str = "motion"
    batch_size: int = 1
    width: int = 0
    height: int = 0
    window: int = 8
    frame_step: int = 1
    targets: str = "attention"
    timesteps: str = "motion"
    sample_every: int = 0
    gradient_checkpointing: bool = True
    mixed_precision: bool = True
    recolour: float = 0.0


class MotionTraining:
    """A training that can be stopped at any step: `run` it, then take `lora` and `losses`, also
    after a cancel.

    Args:
        model: a keyframe model or the latent expert; pixel super-resolution for a texture.
        images: the clip, (F, H, W, C) in [0, 1], any length and size.
        positive: text states (1, tokens, width) of what is to be seen, without the motion.
        sample: text states of a prompt to sample now and then, and of the empty prompt.
        empty: text states of the empty prompt, which recoloured clips are seen with.

    Raises:
        InputError, ModelKindError: a value, or a model without a trainable motion.
    """

    def __init__(
        self,
        model: Show1Model,
        images: Tensor,
        positive: Tensor,
        settings: TrainSettings = TrainSettings(),
        sample: tuple[Tensor, Tensor] | None = None,
        empty: Tensor | None = None,
    ):
        _check(model, settings)
        if settings.recolour and empty is None:
            raise InputError(
                f"{STAGE}: 'recolour' is {settings.recolour}, which needs the empty prompt; take "
                "'positive' from Show1TextEncode, which brings it along, or set 'recolour' to 0"
            )
        images = checked(STAGE, "images", images)
        for states in (positive, empty):
            if states is not None:
                model.text(STAGE, "positive", states, device=_CPU)
        self.model, self.settings, self.sample = model, settings, sample
        self.losses: list[float] = []
        self.stopped = ""  # why it ended before its time
        # The host runs nodes in inference mode, whose tensors cannot be trained with.
        with torch.inference_mode(False), torch.no_grad():
            self._texts = [states.clone() for states in (positive, empty) if states is not None]
            self._images = _frames(model, images.clone(), settings)
            self._source = generator(settings.seed)
        self._temporal: Adapters | None = None

    @property
    def lora(self) -> MotionLora:
        """What is learned so far."""
        return MotionLora(
            f"trained for {len(self.losses)} steps",
            self._temporal.learned() if self._temporal else {},
        )

    def run(self, report: Report = silent) -> None:
        """Trains; `report` is called after every step, with a sampled clip every `sample_every`
        steps.
        """
        with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
            self._prepare(report, stack)
            for step in range(1, self.settings.steps + 1):
                loss = self._step(step)
                if not math.isfinite(loss):
                    self._stop(step, report)
                    return
                self.losses.append(loss)
                report(step, self.settings.steps, self._preview(step))

    def _stop(self, step: int, report: Report) -> None:
        """What was learned before stays; a training that learned nothing is an error."""
        way_out = "lower 'learning_rate', or load the model in fp32 or bf16"
        if not self.losses:
            raise ResultError(f"{STAGE}: the loss of the first step is NaN or infinite; {way_out}")
        self.stopped = (
            f"stopped at step {step} of {self.settings.steps}, whose loss is NaN or "
            "infinite; what was "
            f"learned before goes on. To go further: {way_out}"
        )
        announce(report, STAGE, self.stopped)

    def _prepare(self, report: Report, stack: ExitStack) -> None:
        s, model = self.settings, self.model
        stack.enter_context(uncompiled(model.network))
        with torch.no_grad():
            clip = _encoded(model, self._images, self._source)
        window = min(s.window, clip.shape[2])
        memory = _bytes(model, s, window, *clip.shape[-2:])
        announce(
            report,
            STAGE,
            f"{s.steps} steps on windows of {window} of {clip.shape[2]} frames, {clip.shape[-1]}x"
            f"{clip.shape[-2]}, about {gigabytes(memory)} beside the weights",
        )
        device = model.unet.load(memory)
        _thaw(model.network)
        self._place, self._window = device, window
        self._dtype, self._autocast = _precision(model.unet, device, s.mixed_precision)
        self._clip = clip.to(device)
        with torch.no_grad(), self._cast():
            words = (
                model.text(STAGE, "positive", states, device).to(self._dtype)
                for states in self._texts
            )
            self._words = [
                model.network.prepare_text(states).repeat(s.batch_size) for states in words
            ]
        self._alphas = make_scheduler(model.scheduler_config).alphas_cumprod.to(
            device, torch.float32
        )
        self._temporal = Adapters(
            temporal_layers(model.network, s.targets), s.rank, self._source, device
        )
        self._optimiser = _optimiser(self._temporal, s.learning_rate)
        stack.enter_context(self._temporal.attached())
        self._spatial = None
        if s.objective == "motion":
            self._spatial = Adapters(spatial_layers(model.network), s.rank, self._source, device)
            self._spatial_optimiser = _optimiser(self._spatial, s.learning_rate)
            stack.enter_context(self._spatial.attached())
        if s.gradient_checkpointing:
            stack.enter_context(checkpointed(model.network))

    def _step(self, step: int) -> float:
        clip, words = self._draw_window(), self._words[0]
        if self.settings.recolour and self._chance() < self.settings.recolour:
            clip, words = recoloured(clip, self._source), self._words[1]
        if self._spatial is not None:
            if not self._learn_looks(clip, words, step):
                return math.nan
            self._spatial.active, self._spatial.learning = self._chance() >= _SPATIAL_DROP, False
        loss = self._loss(clip, words, self.settings.objective)
        if not _descend(
            self._optimiser, loss, self.settings.learning_rate * min(1.0, step / _WARM_UP)
        ):
            return math.nan
        self._temporal.average(step)
        return float(loss.detach())

    def _learn_looks(self, clip: Tensor, words: TextStates, step: int) -> bool:
        """The spatial path takes up, from single frames, how the clip looks, so that the temporal
        one need not.
        """
        frame = int(torch.randint(clip.shape[2], (), generator=self._source))
        self._temporal.active, self._spatial.active, self._spatial.learning = False, True, True
        loss = self._loss(clip[:, :, frame : frame + 1], words, "plain")
        learned = _descend(
            self._spatial_optimiser, loss, self.settings.learning_rate * min(1.0, step / _WARM_UP)
        )
        self._temporal.active = True
        return learned

    def _loss(self, clip: Tensor, words: TextStates, objective: str) -> Tensor:
        timesteps = self._draw_timesteps(len(clip), *clip.shape[-2:])
        noise = randn(clip.shape, self._source, self._place)
        alpha = self._alphas[timesteps].view(-1, 1, 1, 1, 1)
        noisy = alpha.sqrt() * clip + (1 - alpha).sqrt() * noise
        labels = None
        if self.model.kind == PIXEL_SR:
            condition, labels = self._low_resolution(clip)
            noisy = torch.cat([noisy, condition], dim=1)
        with self._cast():
            predicted = self.model.network(noisy.to(self._dtype), timesteps, words, labels)
        losses = OBJECTIVES[objective](predicted[:, : clip.shape[1]].float(), noise, self._source)
        return (losses * self._weights(alpha.flatten(), *clip.shape[-2:])).mean()

    def _low_resolution(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """What super-resolution enlarges to get the clip, and its noise levels."""
        height, width = clip.shape[-2:]
        small = F.avg_pool3d(clip, (1, SCALE, SCALE))
        levels = torch.randint(_NOISE_LEVELS, (len(clip),), generator=self._source)
        noise = randn(clip.shape, self._source, self._place)
        first = clip[:, :, :1] if self._chance() < _CHAINED else None
        enlarged = resize_bilinear(small, height, width)
        return low_resolution(self.model, enlarged, noise, levels, first), levels.to(self._place)

    def _weights(self, alpha: Tensor, height: int, width: int) -> Tensor:
        """What each clip's loss counts. Unweighted, the highest noise, where motion is decided,
        would hardly count.
        """
        if self.settings.timesteps == "even":
            return torch.ones_like(alpha)
        return 0.1 / (alpha * (height * width / 16**2) + 0.01)

    def _cast(self) -> torch.autocast:
        return torch.autocast(self._place.type, torch.bfloat16, enabled=self._autocast)

    def _draw_window(self) -> Tensor:
        room = self._clip.shape[2] - self._window + 1
        starts = torch.randint(room, (self.settings.batch_size,), generator=self._source).tolist()
        return torch.cat([self._clip[:, :, start : start + self._window] for start in starts])

    def _draw_timesteps(self, count: int, height: int, width: int) -> Tensor:
        limit = _EXPERT_STEPS if self.model.kind == LATENT_EXPERT else len(self._alphas)
        drawn = torch.randint(limit, (count,), generator=self._source)
        if self.settings.timesteps == "motion":
            decisive = decisive_timesteps(
                self._alphas[:limit].cpu(), height, width, torch.rand(count, generator=self._source)
            )
            drawn = torch.where(
                torch.rand(count, generator=self._source) < _DECISIVE, decisive, drawn
            )
        return drawn.to(self._place)

    def _chance(self) -> float:
        return float(torch.rand((), generator=self._source))

    def _preview(self, step: int) -> Preview | None:
        every = self.settings.sample_every
        due = every and (step % every == 0 or step == self.settings.steps)
        return self._sampled if due and self.model.kind == KEYFRAMES and self.sample else None

    def _sampled(self) -> Tensor:
        """A clip of the sample prompt as the model makes it now."""
        if self._spatial is not None:
            self._spatial.active = False
        height, width = self._clip.shape[-2:]
        settings = KeyframeSettings(
            width=width,
            height=height,
            num_frames=self._window,
            steps=_SAMPLE_STEPS,
            cfg=_SAMPLE_CFG,
            seed=self.settings.seed,
        )
        return keyframes(self.model, *self.sample, settings).clamp(0, 1)


def _bytes(model: Show1Model, s: TrainSettings, window: int, height: int, width: int) -> int:
    """Estimated memory of a training step beside the weights."""
    once = unet_bytes(model.network.config, s.batch_size, window, height, width, model.unet.dtype)
    return once * (_KEPT if s.gradient_checkpointing else _KEPT_ALL)


def _check(model: Show1Model, s: TrainSettings) -> None:
    if model.kind not in (KEYFRAMES, PIXEL_SR, LATENT_EXPERT):
        raise ModelKindError(
            f"{STAGE} trains a keyframe model (3 input channels), pixel super-resolution (6) or "
            "the "
            f"latent expert (4); '{model.name}' is {DESCRIPTION[model.kind]}."
        )
    for name, value, allowed in (
        ("objective", s.objective, OBJECTIVES),
        ("timesteps", s.timesteps, TIMESTEPS),
        ("targets", s.targets, TARGETS),
    ):
        one_of(f"{STAGE}: {name}", value, allowed)
    for name in ("steps", "rank", "batch_size", "window", "frame_step"):
        number_within(f"{STAGE}: '{name}'", getattr(s, name), 1, 10**9)
    number_within(f"{STAGE}: 'recolour'", s.recolour, 0, 1)
    number_within(f"{STAGE}: 'seed'", s.seed, 0, 2**63 - 1)
    if s.recolour and model.kind == LATENT_EXPERT:
        raise InputError(
            f"{STAGE}: 'recolour' is {s.recolour}; the latent expert's latents have no colours to "
            "exchange, set it to 0"
        )
    if not isinstance(s.learning_rate, float) or not 0 < s.learning_rate < math.inf:
        raise InputError(
            f"{STAGE}: 'learning_rate' is {s.learning_rate}; it must be above 0, 0.001 for instance"
        )


def _frames(model: Show1Model, images: Tensor, s: TrainSettings) -> Tensor:
    """The clip's frames to train on, (1, 3, F, H, W) in [-1, 1], at the training size."""
    rgb, _ = split_alpha(images)
    video = to_model(rgb[:: s.frame_step], _CPU)
    if video.shape[2] < 2:
        raise InputError(
            f"{STAGE}: 'images' has {len(rgb)} frames, {video.shape[2]} at a 'frame_step' of "
            f"{s.frame_step}; a motion needs at least 2"
        )
    size = _training_size(model, *video.shape[-2:], s.width, s.height)
    check_result(STAGE, video.shape[2], *size, 3)
    _check_memory(model, s, min(s.window, video.shape[2]), size)
    return cover(video, *size)


def _check_memory(model: Show1Model, s: TrainSettings, window: int, size: tuple[int, int]) -> None:
    """InputError, with what fits, if the device cannot hold a training step."""
    factor = VaeCodec(model.vae).factor if model.kind == LATENT_EXPERT else 1
    height, width = (side // factor for side in size)
    has = model.unet.memory()

    def needs(frames: int) -> int:
        return _bytes(model, replace(s, batch_size=1), frames, height, width)

    total = _bytes(model, s, window, height, width)
    if total > has:
        frames = largest(window, lambda frames: needs(frames) <= has)
        what = (
            f"a window of {frames} at a 'batch_size' of 1 fits"
            if frames >= 2
            else "no window of this size fits: train smaller ('width', 'height')"
        )
        raise InputError(
            f"{STAGE}: windows of {window} frames of {size[1]}x{size[0]}, "
            f"{s.batch_size} at a time, need "
            f"about {gigabytes(total)} beside the weights, and the device has "
            f"{gigabytes(has)}; {what}"
        )


def _training_size(
    model: Show1Model, height: int, width: int, asked_width: int, asked_height: int
) -> tuple[int, int]:
    """(height, width) the model can take: as asked, or the clip's aspect with the model's own
    longer side.
    """
    multiple, factor = model.network.size_multiple, 1
    if model.kind == LATENT_EXPERT:
        factor = VaeCodec(model.vae).factor
    longer = (model.network.config.get("sample_size") or 64) * factor
    scale = longer / max(height, width)
    multiple = max(multiple, 1) * factor
    sides = asked_height or height * scale, asked_width or width * scale
    return tuple(max(multiple, round(side / multiple) * multiple) for side in sides)


def _encoded(model: Show1Model, video: Tensor, source: torch.Generator) -> Tensor:
    """What the model is trained on: the pixels, or the latent expert's latents of them."""
    if model.kind != LATENT_EXPERT:
        return video
    return VaeCodec(model.vae).encode(lambda part: video[:, :, part], video.shape[2], source)


def recoloured(clips: Tensor, source: torch.Generator) -> Tensor:
    """Clips (B, 3, F, H, W) in [-1, 1], each with its colour channels shuffled and, every other
    one, inverted.
    """
    return torch.stack(
        [
            clip[torch.randperm(3, generator=source)]
            * (1 - 2 * int(torch.randint(2, (), generator=source)))
            for clip in clips
        ]
    )


def decisive_timesteps(alphas: Tensor, height: int, width: int, where: Tensor) -> Tensor:
    """Timesteps where the motion of a clip of that size is decided, from the least noisy (`where`
    0) to the most (1).

    That is where the signal of a whole frame rises out of its noise: on show1-micro at signal
    levels of 0.3 down to 0.04 for 16x16 pixels, evenly in their logarithm; more pixels show the
    same at lower levels.
    """
    high, low = (level * 16 / math.sqrt(height * width) for level in (0.3, 0.04))
    wanted = (
        min(high, 0.9) * (low / min(high, 0.9)) ** where
        if low < 0.9
        else torch.full_like(where, 0.9)
    )
    steps = torch.searchsorted(-alphas.sqrt().contiguous(), -wanted.contiguous())
    return steps.clamp(max=len(alphas) - 1)


def _precision(handle: Handle, device: torch.device, mixed: bool) -> tuple[torch.dtype, bool]:
    """What the network is fed, and whether its layers are autocast to bfloat16. Gradients vanish in
    float16, so such models are fed bfloat16 (or float32) where their layers cast, as the host's do.
    """
    if handle.dtype == torch.float32:
        return torch.float32, mixed and device.type != "cpu"  # measured: no faster on a CPU
    if handle.dtype == torch.bfloat16:
        return torch.bfloat16, False
    if not handle.castable:
        raise InputError(
            f"{STAGE}: the model is in float16, in which gradients vanish; load it in bf16 or fp32"
        )
    bfloat16 = mixed and (device.type != "cuda" or torch.cuda.is_bf16_supported())
    return (torch.bfloat16 if bfloat16 else torch.float32), False


def _thaw(network: nn.Module) -> None:
    """Weights made in inference mode cannot take part in training: each is replaced by a plain
    copy.
    """
    for module in network.modules():
        for name, weight in module._parameters.items():
            if weight is not None and weight.is_inference():
                module._parameters[name] = nn.Parameter(
                    weight.detach().clone(), requires_grad=False
                )


def _optimiser(adapters: Adapters, learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(adapters.parameters, lr=learning_rate, weight_decay=_WEIGHT_DECAY)


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor, learning_rate: float) -> bool:
    """One step; False, and nothing changed, if the loss or its slope is not finite."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    steepness = [loss.detach()]
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
        steepness.append(nn.utils.clip_grad_norm_(group["params"], _CLIP_NORM))
    if not bool(torch.stack(steepness).isfinite().all()):
        return False
    optimiser.step()
    return True


@contextmanager
def checkpointed(network: nn.Module) -> Iterator[None]:
    """Layers keep their inputs only and are computed again on the way back, for as long as the
    context lasts.
    """
    blocks = [*network.down_blocks, network.mid_block, *network.up_blocks]
    for block in blocks:
        block.layer = partial(checkpoint, block.layer, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.layer
