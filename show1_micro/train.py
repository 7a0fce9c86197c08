"""Training of the micro cascade's stages: resumable, seeded, with an exponential mean of the
weights.

A stage is trained in phases (still frames first where that is quicker); a run works for some
minutes, saves its whole state and can be continued. Everything it writes lies in one folder:
`state.pt`, `log.jsonl`, `sheet-*.png`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from show1_engine.bundled import WEIGHTS
from show1_engine.checkpoints.read import read_weights
from show1_engine.models.layers import TEMPORAL_CONV_GROUPS, TemporalConv, TemporalTransformer

from .batches import EXPERT_STEPS, MAKERS, Batch, LatentPool, latent_clips
from .codec import load_codec
from .configs import FRAMES, REPOSITORIES
from .diffusion import STEPS
from .initial import clock_readings, initial_unet
from .text import Captions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """Part of a stage's training: kinds of batches in turn with their sizes, and the number of
    steps (None: no end).
    """

    batches: tuple[tuple[str, int], ...]
    until: int | None
    learning_rate: float


PHASES: dict[str, tuple[Phase, ...]] = {
    "keyframes": (
        Phase((("keyframe_stills", 48),), 450, 1.5e-3),
        Phase((("keyframe_clips", 8),), None, 1e-3),
    ),
    "interpolation": (Phase((("interpolation_clips", 10),), None, 7e-4),),
    "pixel_sr": (
        Phase((("pixel_sr_stills", 16),), 1200, 1e-3),
        Phase((("pixel_sr_stills", 16), ("pixel_sr_clips", 1)), None, 6e-4),
    ),
    "latent_expert": (Phase((("latent_clips", 4),), None, 1e-3),),
    "latent_expert_full": (Phase((("latent_clips", 4),), None, 1e-3),),
}
KINDS = {
    "latent_expert_full": "latent_expert"
}  # the twin trained on all timesteps, for the ablation
_WARM_UP = 100
_EMA = 0.995
_CLIP_NORM = 1.0


class Trainer:
    """State of one stage's training: network, mean of its weights, optimiser, random numbers,
    counters.
    """

    def __init__(
        self,
        stage: str,
        folder: Path,
        seed: int = 0,
        bundled: bool = False,
        vae: Path | None = None,
    ):
        self.stage, self.folder = stage, Path(folder)
        self.kind = KINDS.get(stage, stage)
        self.captions = Captions("clip" if self.kind == "latent_expert" else "t5")
        self.makers = dict(MAKERS)
        if self.kind == "latent_expert":
            codec = load_codec(vae or self.folder.parent / "vae")
            steps = EXPERT_STEPS if stage == "latent_expert" else STEPS
            self.makers["latent_clips"] = partial(
                latent_clips, pool=LatentPool(codec.encode), steps=steps
            )
        torch.manual_seed(seed)
        self.unet = initial_unet(
            self.kind
        ).eval()  # eval: the dropout of the temporal convolutions is for small data
        self.mean = {key: value.clone() for key, value in self.unet.state_dict().items()}
        self.optimiser = torch.optim.AdamW(
            self.unet.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0
        )
        self.generator = torch.Generator().manual_seed(seed)
        self.counters = {
            "step": 0,
            "stills": 0,
            "clips": 0,
            "seconds": 0.0,
            "phase": 0,
            "phase_step": 0,
        }
        if (self.folder / "state.pt").exists():
            self._load()
        elif bundled:
            self._start_from_bundled()
        elif stage == "interpolation":
            self._start_from(self.folder.parent / "keyframes")

    def train(
        self,
        minutes: float,
        anneal: bool = False,
        steps: int | None = None,
        every: float = 900.0,
        show: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Train for some minutes of wall clock, or for `steps` steps if those are done sooner.

        `anneal` lets the learning rate fall to zero over the run. Every `every` seconds the state
        is saved and `report` called; `show` gets a line of progress after each step.
        """
        start = saved = time.monotonic()
        first = self.counters["step"]
        try:
            while (part := self._part_done(start, minutes, first, steps)) < 1:
                began = time.monotonic()
                loss = self._step(1 - part if anneal else 1.0)
                self.counters["seconds"] += time.monotonic() - began
                left = (1 / part - 1) * (time.monotonic() - start) / 60 if part else minutes
                show(
                    f"{self.stage}: {part:4.0%}, step {self.counters['step']}, loss {loss:.4f}, "
                    f"{left:.0f} min left"
                )
                if self.counters["step"] % 50 == 0:
                    self._log(loss=round(loss, 4))
                if time.monotonic() - saved > every:
                    self.report()
                    saved = time.monotonic()
        finally:
            self.save()  # also when interrupted or told to end
        self.report()

    def _part_done(self, start: float, minutes: float, first: int, steps: int | None) -> float:
        """Share of a run that is behind it, by the clock or by its steps."""
        spent = (time.monotonic() - start) / (minutes * 60)
        return spent if steps is None else max(spent, (self.counters["step"] - first) / steps)

    def report(self) -> None:
        """Save the state, then sample a sheet and score it with the recogniser."""
        self.save()
        from .preview import preview

        began = time.monotonic()
        with self.mean_weights():
            scores = preview(
                self.stage,
                self.unet,
                self.captions,
                self.still,
                self.folder / f"sheet-{self.counters['step']:06d}.png",
            )
        self._log(**scores, preview_seconds=round(time.monotonic() - began, 1))

    @property
    def still(self) -> bool:
        """Whether the current phase trains on single frames."""
        return all(
            name.endswith("stills")
            for name, _ in PHASES[self.stage][self.counters["phase"]].batches
        )

    def _step(self, scale: float) -> float:
        phase = self._phase()
        name, count = phase.batches[self.counters["phase_step"] % len(phase.batches)]
        batch = self.makers[name](count, self.generator, self.captions)
        rate = phase.learning_rate * min(1.0, (self.counters["phase_step"] + 1) / _WARM_UP) * scale
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        loss = batch_loss(self.unet, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.unet.parameters(), _CLIP_NORM)
        self.optimiser.step()
        self._update_mean()
        for name, amount in (
            ("step", 1),
            ("phase_step", 1),
            ("stills" if batch.still else "clips", count),
        ):
            self.counters[name] += amount
        return float(loss.detach())

    def _phase(self) -> Phase:
        phases, index = PHASES[self.stage], self.counters["phase"]
        until = phases[index].until
        if until is not None and self.counters["phase_step"] >= until:
            self.counters |= {"phase": index + 1, "phase_step": 0}
        return phases[self.counters["phase"]]

    def _update_mean(self) -> None:
        step = self.counters["step"]
        keep = min(_EMA, (1 + step) / (10 + step))
        names, values = zip(*self.unet.state_dict().items(), strict=True)
        torch._foreach_lerp_([self.mean[name] for name in names], list(values), 1 - keep)

    @contextmanager
    def mean_weights(self) -> Iterator[None]:
        """The network with the mean weights, for as long as the context lasts."""
        current = {key: value.clone() for key, value in self.unet.state_dict().items()}
        self.unet.load_state_dict(self.mean)
        try:
            yield
        finally:
            self.unet.load_state_dict(current)

    def save(self) -> None:
        """Write `state.pt`; a run that starts in this folder continues from it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "unet": self.unet.state_dict(),
            "mean": self.mean,
            "optimiser": self._moments(),
            "generator": self.generator.get_state(),
            "counters": self.counters,
        }
        torch.save(state, self.folder / "state.part")
        (self.folder / "state.part").replace(self.folder / "state.pt")

    def _load(self) -> None:
        state = torch.load(self.folder / "state.pt", weights_only=True)
        self.unet.load_state_dict(state["unet"])
        self.mean = state["mean"]
        self.counters.update(state["counters"])
        names = {name: parameter for name, parameter in self.unet.named_parameters()}
        self.optimiser.state.update(
            {names[name]: dict(moments) for name, moments in state["optimiser"].items()}
        )
        self.generator.set_state(state["generator"])

    def _moments(self) -> dict[str, dict[str, Tensor]]:
        """The optimiser's state by parameter name (its own numbering changes with the order of the
        layers).
        """
        return {
            name: self.optimiser.state[parameter]
            for name, parameter in self.unet.named_parameters()
            if parameter in self.optimiser.state
        }

    def _start_from_bundled(self) -> None:
        """Begin with the bundled weights, in the stage's last phase: for a new run where no state
        was kept.
        """
        folder = WEIGHTS / REPOSITORIES[self.kind] / "unet"
        weights = {
            key: value.float()
            for key, value in read_weights(folder, ("diffusion_pytorch_model",))[0].items()
        }
        self.unet.load_state_dict(weights)
        self.mean = {key: value.clone() for key, value in weights.items()}
        self.counters["phase"] = len(PHASES[self.stage]) - 1

    def _start_from(self, folder: Path) -> None:
        """Begin with the keyframe model's weights; only the condition's four input channels are new
        (section 3.3).
        """
        if not (folder / "state.pt").exists():
            return
        weights = dict(torch.load(folder / "state.pt", weights_only=True)["mean"])
        first = weights["conv_in.weight"]
        weights["conv_in.weight"] = torch.cat(
            [first, self.unet.conv_in.weight.detach()[:, 3:] * 0.3], dim=1
        )
        weights["conv_in.weight"][
            [channel for colour in range(3) for channel in (4 * colour, 4 * colour + 1)], 3:
        ] = 0
        self.unet.load_state_dict(weights)
        self.mean = {key: value.clone() for key, value in weights.items()}

    def _log(self, **values: object) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        entry = {**self.counters, "seconds": round(self.counters["seconds"]), **values}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        log.info("%s %s", self.stage, entry)


def batch_loss(unet: nn.Module, batch: Batch) -> Tensor:
    """Weighted mean squared error of the predicted noise; the variance channels are left alone."""
    # bfloat16 where the layer can: a third less time on CPUs that have it, and noise far below the
    # data's own.
    clock = None if batch.places is None else clock_readings(FRAMES)[batch.places]
    # Plain attention: the fused kernel's backward pass is slow on the temporal layers' eight
    # tokens.
    with (
        spatial_only(unet, batch.still, clock),
        torch.autocast("cpu", dtype=torch.bfloat16),
        sdpa_kernel(SDPBackend.MATH),
    ):
        predicted = unet(batch.sample, batch.timesteps, batch.text, batch.labels)[
            :, : batch.noise.shape[1]
        ]
    errors = (predicted.float() - batch.noise).square().mean((1, 2, 3, 4))
    return (errors * batch.weight).mean()


@contextmanager
def spatial_only(
    unet: nn.Module, active: bool = True, clock: Tensor | None = None
) -> Iterator[None]:
    """Leave the temporal layers out of the forward pass while the context lasts.

    `clock` (B, 2) is what the clocks of the down blocks should read instead, for each single frame.
    """
    layers = [
        module
        for module in unet.modules()
        if isinstance(module, (TemporalConv, TemporalTransformer))
    ]
    clocks = {block.temp_convs[0] for block in unet.down_blocks} if clock is not None else ()
    for layer in layers if active else []:
        layer.forward = partial(_clocked, clock=clock) if layer in clocks else _unchanged
    try:
        yield
    finally:
        for layer in layers if active else []:
            del layer.forward


def _unchanged(x: Tensor, frames: int) -> Tensor:
    return x


def _clocked(x: Tensor, frames: int, clock: Tensor) -> Tensor:
    """Adds a clock's readings (B, 2) to the channels where `wind_clock` writes them."""
    width = x.shape[1] // TEMPORAL_CONV_GROUPS
    reading = F.pad(clock.repeat_interleave(width, dim=1), (x.shape[1] - 2 * width, 0))
    return x + reading[:, :, None, None]
