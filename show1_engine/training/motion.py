"""Training of a motion LoRA on one clip (paper, section 3.7)."""

import math
from collections.abc import Sequence
from contextlib import ExitStack

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import DivergedError, InputError, ModelKindError, ResultError, number_within, one_of
from ..frames import checked, resize_bilinear
from ..lora.merging import MotionLora, Replacement
from ..lora.targets import WHOLE, spatial_layers, temporal_layers
from ..models.bundle import Show1Model
from ..models.compiled import uncompiled
from ..models.kinds import DESCRIPTION, KEYFRAMES, LATENT_EXPERT, PIXEL_SR
from ..models.patches import LowRank, Patches
from ..models.unet import TextStates
from ..noise import generator, randn
from ..progress import Preview, Report, announce, gigabytes, silent
from ..sampling.schedules import make_scheduler
from ..stages.keyframes import KeyframeSettings, keyframes
from ..stages.pixel_sr import SCALE, low_resolution
from .adapters import Adapters
from .clip import encoded, recoloured, step_bytes, training_frames
from .loop import Budget, TrainingLoop, descend, warm_up
from .network import checkpointed, precision, thaw
from .noise_levels import draw_low_resolution_levels, draw_timesteps, loss_weights
from .objectives import OBJECTIVES
from .settings import STAGE, TIMESTEPS, TRAIN_TARGETS, TrainSettings

_DEFAULTS = TrainSettings()
_EXPERT_STEPS = 900  # the latent expert never saw noisier latents
_SPATIAL_DROP = 0.2  # MotionDirector: how often the temporal loss is taken without the spatial path
_CLIP_NORM, _WEIGHT_DECAY, _WARM_UP = 1.0, 0.01, 10
# Super-resolution is shown in this share of windows their first frame as it is to become, as
# windows go on from each other.
_CHAINED = 0.6
_SAMPLE_STEPS, _SAMPLE_CFG = 10, 4.0


class MotionTraining:
    """A training that can be stopped at any step: `run` it, then take `lora` and `losses`, also
    after a cancel.

    Args:
        model: a keyframe model or the latent expert; pixel super-resolution for a texture.
        images: the clip, (F, H, W, C) in [0, 1], any length and size; or several.
        positive: text states (1, tokens, width) of what is to be seen, without the motion; of
            several clips one for all, or one for each.
        sample: text states of a prompt to sample now and then, and of the empty prompt.
        empty: text states of the empty prompt, which recoloured clips are seen with.
        begin: a LoRA to go on from.

    Raises:
        InputError, ModelKindError: a value, or a model without a trainable motion.
    """

    def __init__(
        self,
        model: Show1Model,
        images: Tensor | Sequence[Tensor],
        positive: Tensor | Sequence[Tensor],
        settings: TrainSettings = _DEFAULTS,
        sample: tuple[Tensor, Tensor] | None = None,
        empty: Tensor | None = None,
        begin: MotionLora | None = None,
    ):
        _check(model, settings)
        if settings.recolour and empty is None:
            raise InputError(
                f"{STAGE}: 'recolour' is {settings.recolour}, which needs the empty prompt; take "
                "'positive' from Show1TextEncode, which brings it along, or set 'recolour' to 0"
            )
        clips = [images] if isinstance(images, Tensor) or images is None else list(images)
        clips = [checked(STAGE, "images", clip) for clip in clips]
        prompts = [positive] if isinstance(positive, Tensor) else list(positive)
        if not clips or len(prompts) not in (1, len(clips)):
            raise InputError(
                f"{STAGE}: there are {len(clips)} clips and {len(prompts)} prompts; give one "
                "prompt for all, or one for each"
            )
        for states in (*prompts, empty):
            if states is not None:
                model.text(STAGE, "positive", states, device=torch.device("cpu"))
        self._begin = _gone_on(begin, settings)
        self.model, self.settings, self.sample = model, settings, sample
        self.losses: list[float] = []
        self.stopped = ""  # why it ended before its time
        # The host runs nodes in inference mode, whose tensors cannot be trained with.
        with torch.inference_mode(False), torch.no_grad():
            # A prompt for every clip, then the empty one.
            each = prompts * len(clips) if len(prompts) == 1 else prompts
            self._texts = [states.clone() for states in (*each, empty) if states is not None]
            self._images = [training_frames(model, clip.clone(), settings) for clip in clips]
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
            loop, steps = self._prepare(report, stack), self.settings.steps

            def reported(loss: float, part: float) -> None:
                step = int(loop.counters["step"])
                self.losses.append(loss)
                report(step, steps, self._preview(step))

            try:
                loop.run(self._step_loss, self._rate, Budget(steps=steps), report=reported)
            except DivergedError as error:
                self._stop(error.step, report)

    def _stop(self, step: int, report: Report) -> None:
        """What was learned before stays; a training that learned nothing is an error."""
        way_out = "lower 'learning_rate', or load the model in fp32 or bf16"
        if not self.losses:
            raise ResultError(
                f"{STAGE}: the loss of the first step is NaN or infinite; {way_out}"
            ) from None
        self.stopped = (
            f"stopped at step {step} of {self.settings.steps}, whose loss is NaN or "
            "infinite; what was "
            f"learned before goes on. To go further: {way_out}"
        )
        announce(report, STAGE, self.stopped)

    def _prepare(self, report: Report, stack: ExitStack) -> TrainingLoop:
        """Loads the model, reads the clip and the text, attaches what learns until `stack` ends."""
        s, model = self.settings, self.model
        stack.enter_context(uncompiled(model.network))
        with torch.no_grad():
            clips = [encoded(model, images, self._source) for images in self._images]
        memory = max(step_bytes(model, s, self._window(x), *x.shape[-2:]) for x in clips)
        clip, more = clips[0], f" and of {len(clips) - 1} more clips" if len(clips) > 1 else ""
        announce(
            report,
            STAGE,
            f"{s.steps} steps on windows of {self._window(clip)} of {clip.shape[2]} frames, "
            f"{clip.shape[-1]}x{clip.shape[-2]}{more}, about {gigabytes(memory)} beside the "
            "weights",
        )
        device = model.unet.load(memory)
        thaw(model.network)
        self._place = device
        self._dtype, self._autocast = precision(model.unet, device, s.mixed_precision)
        self._clips = [clip.to(device) for clip in clips]
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
        loop = self._attach(stack)
        if s.gradient_checkpointing:
            stack.enter_context(checkpointed(model.network))
        return loop

    def _attach(self, stack: ExitStack) -> TrainingLoop:
        """Sets adapters beside the network's layers, and a loop that trains the temporal ones."""
        s, network = self.settings, self.model.network
        whole = s.targets == WHOLE
        layers = temporal_layers(network, "attention" if whole else s.targets)
        rank = 0 if whole else s.rank
        self._temporal = Adapters(layers, rank, self._source, device=self._place, begin=self._begin)
        loop = TrainingLoop(
            STAGE,
            _optimiser(self._temporal, s.learning_rate),
            self._temporal.average,
            source=self._source,
            clip=_CLIP_NORM,
        )
        stack.enter_context(self._temporal.attached())
        self._spatial = None
        if s.objective == "motion":
            layers = spatial_layers(network)
            self._spatial = Adapters(layers, s.rank, self._source, device=self._place)
            self._spatial_optimiser = _optimiser(self._spatial, s.learning_rate)
            stack.enter_context(self._spatial.attached())
        return loop

    def _rate(self, step: int, part: float = 0.0) -> float:
        return self.settings.learning_rate * warm_up(step, _WARM_UP)

    def _step_loss(self, step: int) -> Tensor:
        """The temporal path's loss; the spatial one has learned its own step when this returns."""
        which = self._draw_clip()
        clip, words = self._draw_window(self._clips[which]), self._words[which]
        if self.settings.recolour and self._chance() < self.settings.recolour:
            clip, words = recoloured(clip, self._source), self._words[-1]
        if self._spatial is not None:
            self._learn_looks(clip, words, step)
            self._spatial.active, self._spatial.learning = self._chance() >= _SPATIAL_DROP, False
        return self._loss(clip, words, self.settings.objective)

    def _learn_looks(self, clip: Tensor, words: TextStates, step: int) -> None:
        """The spatial path takes up, from single frames, how the clip looks, so that the temporal
        one need not.
        """
        frame = int(torch.randint(clip.shape[2], (), generator=self._source))
        self._temporal.active, self._spatial.active, self._spatial.learning = False, True, True
        loss = self._loss(clip[:, :, frame : frame + 1], words, "plain")
        rate = self._rate(step)
        if descend(self._spatial_optimiser, loss, rate, clip=_CLIP_NORM) is None:
            raise DivergedError(STAGE, step)
        self._temporal.active = True

    def _loss(self, clip: Tensor, words: TextStates, objective: str) -> Tensor:
        timesteps, size = self._draw_timesteps(clip), clip.shape[-2:]
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
        weights = loss_weights(alpha.flatten(), self.settings.timesteps, size)
        return (losses * weights).mean()

    def _low_resolution(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """What super-resolution enlarges to get the clip, and its noise levels."""
        height, width = clip.shape[-2:]
        small = F.avg_pool3d(clip, (1, SCALE, SCALE))
        levels = draw_low_resolution_levels(len(clip), self._source)
        noise = randn(clip.shape, self._source, self._place)
        first = clip[:, :, :1] if self._chance() < _CHAINED else None
        enlarged = resize_bilinear(small, height, width)
        return low_resolution(
            self.model, enlarged, noise, levels=levels, clean_first=first
        ), levels.to(self._place)

    def _cast(self) -> torch.autocast:
        return torch.autocast(self._place.type, torch.bfloat16, enabled=self._autocast)

    def _window(self, clip: Tensor) -> int:
        return min(self.settings.window, clip.shape[2])

    def _draw_clip(self) -> int:
        """Of a lone one nothing is drawn."""
        count = len(self._clips)
        return int(torch.randint(count, (), generator=self._source)) if count > 1 else 0

    def _draw_window(self, clip: Tensor) -> Tensor:
        window = self._window(clip)
        room, count = clip.shape[2] - window + 1, self.settings.batch_size
        starts = torch.randint(room, (count,), generator=self._source).tolist()
        return torch.cat([clip[:, :, start : start + window] for start in starts])

    def _draw_timesteps(self, clip: Tensor) -> Tensor:
        limit = _EXPERT_STEPS if self.model.kind == LATENT_EXPERT else len(self._alphas)
        alphas, choice = self._alphas[:limit].cpu(), self.settings.timesteps
        size = clip.shape[-2:]
        drawn = draw_timesteps(alphas, len(clip), choice, size=size, source=self._source)
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
        clip = self._clips[0]
        height, width = clip.shape[-2:]
        settings = KeyframeSettings(
            width=width,
            height=height,
            num_frames=self._window(clip),
            steps=_SAMPLE_STEPS,
            cfg=_SAMPLE_CFG,
            seed=self.settings.seed,
        )
        return keyframes(self.model, *self.sample, settings).clamp(0, 1)


def _gone_on(lora: MotionLora | None, s: TrainSettings) -> Patches:
    """The changes of a LoRA that training goes on from. InputError where pairs cannot be made of
    them.
    """
    changes = {} if lora is None else lora.changes
    whole = [key for key, change in changes.items() if not isinstance(change, LowRank)]
    replaced = [key for key in whole if isinstance(changes[key], Replacement)]
    if replaced or (whole and s.targets != WHOLE):
        raise InputError(
            f"{STAGE}: 'lora' changes {len(whole)} layers as a whole, such as {whole[0]}, which no "
            f"low-rank pair goes on from; set 'targets' to {WHOLE}, or give a LoRA"
            if not replaced
            else f"{STAGE}: 'lora' replaces {len(replaced)} weights, such as {replaced[0]}, which "
            "training does not go on from; give a LoRA of Show1TrainMotionLoRA"
        )
    return changes


def _check(model: Show1Model, s: TrainSettings) -> None:
    if model.kind not in (KEYFRAMES, PIXEL_SR, LATENT_EXPERT):
        raise ModelKindError(
            f"{STAGE} trains a keyframe model (3 input channels), pixel super-resolution (6) or "
            "the "
            f"latent expert (4); '{model.name}' is {DESCRIPTION[model.kind]}."
        )
    model.require_noise(STAGE)
    for name, value, allowed in (
        ("objective", s.objective, OBJECTIVES),
        ("timesteps", s.timesteps, TIMESTEPS),
        ("targets", s.targets, TRAIN_TARGETS),
    ):
        one_of(f"{STAGE}: {name}", value, allowed)
    for name in ("steps", "rank", "batch_size", "window", "frame_step"):
        number_within(f"{STAGE}: '{name}'", getattr(s, name), 1, most=10**9)
    number_within(f"{STAGE}: 'recolour'", s.recolour, 0, most=1)
    number_within(f"{STAGE}: 'seed'", s.seed, 0, most=2**63 - 1)
    if s.recolour and model.kind == LATENT_EXPERT:
        raise InputError(
            f"{STAGE}: 'recolour' is {s.recolour}; the latent expert's latents have no colours to "
            "exchange, set it to 0"
        )
    if not isinstance(s.learning_rate, float) or not 0 < s.learning_rate < math.inf:
        raise InputError(
            f"{STAGE}: 'learning_rate' is {s.learning_rate}; it must be above 0, 0.001 for instance"
        )


def _optimiser(adapters: Adapters, learning_rate: float) -> torch.optim.Optimizer:
    parameters = list(adapters.parameters.values())
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=_WEIGHT_DECAY)
