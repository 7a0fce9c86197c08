"""Training of the micro cascade's stages: what each is trained on, in which order.

A stage is trained in phases (still frames first where that is quicker); a run works for some
minutes, saves its whole state and can be continued. Everything it writes lies in one folder:
`state.pt`, `log.jsonl`, `sheet-*.png`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from show1_engine.checkpoints.read import read_weights
from show1_engine.training.batch import denoising_loss
from show1_engine.training.loop import annealed, load_state, warm_up

from .batches import EXPERT_STEPS, MAKERS, Batch, LatentPool, latent_clips
from .codec import load_codec
from .configs import FRAMES, REPOSITORIES
from .diffusion import STEPS
from .editions import EDITIONS
from .initial import clock_readings, initial_unet
from .preview import preview
from .runs import WARM_UP, Run, half_precision
from .stills import spatial_only
from .text import Captions


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
# From the first edition's weights; parts of pictures, four times as large now, in most batches.
SECOND_PHASES: dict[str, tuple[Phase, ...]] = {
    "keyframes": (
        Phase((("keyframe_stills", 24),), 250, 1e-3),
        Phase((("keyframe_clips", 8),), 320, 1e-3),
        Phase((("keyframe_stills", 24), *(("keyframe_fine_clips", 8),) * 2), None, 1e-3),
    ),
    "interpolation": (Phase((("interpolation_clips", 6),), None, 6e-4),),
    "pixel_sr": (
        Phase((("pixel_sr_stills", 12),), 300, 8e-4),
        Phase((*(("pixel_sr_stills", 12),) * 6, ("pixel_sr_parts", 1)), 5000, 8e-4),
        Phase(
            tuple(
                batch
                for windows in ("pixel_sr_parts", "pixel_sr_clips")
                for batch in (*(("pixel_sr_stills", 12),) * 6, (windows, 1))
            ),
            None,
            6e-4,
        ),
    ),
    "latent_expert": (Phase((*(("latent_parts", 4),) * 2, ("latent_clips", 1)), None, 1e-3),),
}
SECOND_PHASES["latent_expert_full"] = SECOND_PHASES["latent_expert"]
ALL_PHASES = {1: PHASES, 2: SECOND_PHASES}
KINDS = {
    "latent_expert_full": "latent_expert"
}  # the twin trained on all timesteps, for the ablation


class PhasedScenes:
    """The synthetic world as `Data`, phase by phase. Its samples come out of one stream of random
    numbers, as the bundled models were trained: their numbers only count them.

    Args:
        makers: kinds of batches by name.
        counters: how far it is; they travel with the training's state.
    """

    def __init__(
        self,
        stage: str,
        makers: dict[str, Callable[..., Batch]],
        captions: Captions,
        *,
        source: Generator,
        counters: dict[str, float],
        edition: int = 1,
    ):
        self.phases = ALL_PHASES[edition][stage]
        self.stage, self.makers, self.captions = stage, makers, captions
        self.source, self.counters = source, counters

    @property
    def still(self) -> bool:
        """Whether the current phase trains on single frames."""
        return all(name.endswith("stills") for name, _ in self.phase.batches)

    def next(self) -> range:
        """The numbers of the next batch."""
        self._go_on()
        seen = int(self.counters["stills"] + self.counters["clips"])
        return range(seen, seen + self._turn()[1])

    def batch(self, numbers: range) -> Batch:
        """Of the kind whose turn it is; what is drawn counts as seen."""
        batch = self.makers[self._turn()[0]](len(numbers), self.source, self.captions)
        self.counters["phase_step"] += 1
        self.counters["stills" if batch.still else "clips"] += len(numbers)
        return batch

    @property
    def phase(self) -> Phase:
        """The current one."""
        return self.phases[self.counters["phase"]]

    def _turn(self) -> tuple[str, int]:
        batches = self.phase.batches
        return batches[self.counters["phase_step"] % len(batches)]

    def _go_on(self) -> None:
        """To the next phase where one has ended."""
        until = self.phase.until
        if until is not None and self.counters["phase_step"] >= until:
            self.counters.update(phase=self.counters["phase"] + 1, phase_step=0)


class Trainer(Run):
    """Training of one stage's network, from random numbers, the bundled weights, or where its
    folder's last run ended.
    """

    def __init__(
        self,
        stage: str,
        folder: Path,
        seed: int = 0,
        bundled: bool = False,
        vae: Path | None = None,
        edition: int = 1,
    ):
        self.stage, self.world = stage, EDITIONS[edition]
        self.kind = KINDS.get(stage, stage)
        self.captions = Captions("clip" if self.kind == "latent_expert" else "t5")
        makers = {name: partial(make, world=self.world) for name, make in MAKERS.items()}
        if self.kind == "latent_expert":
            codec = load_codec(vae or Path(folder).parent / "vae")
            steps = EXPERT_STEPS if stage == "latent_expert" else STEPS
            pool = LatentPool(codec.encode, fresh=2 if edition == 1 else 1, world=self.world)
            latents = partial(latent_clips, pool=pool, steps=steps, late=self.world.late)
            makers |= {"latent_clips": latents, "latent_parts": partial(latents, part=16)}
        torch.manual_seed(seed)
        # eval: the dropout of the temporal convolutions is for small data
        self.unet = initial_unet(self.kind).eval()
        super().__init__(
            stage,
            folder,
            self.unet,
            generator=torch.Generator().manual_seed(seed),
            counters={"stills": 0, "clips": 0, "phase": 0, "phase_step": 0},
        )
        self.data = PhasedScenes(
            stage,
            makers,
            self.captions,
            source=self.generator,
            counters=self.counters,
            edition=edition,
        )
        if self.resume():
            return
        if bundled:
            self._start_from_bundled()
        elif stage == "interpolation":
            self._start_from(self.folder.parent / "keyframes")

    def report(self) -> None:
        """Sample a sheet and score it with the recogniser."""
        began = time.monotonic()
        with self.mean_weights():
            scores = preview(
                self.stage,
                self.unet,
                self.captions,
                still=self.data.still,
                world=self.world,
                sheet=self.folder / f"sheet-{self.counters['step']:06d}.png",
            )
        self.log(**scores, preview_seconds=round(time.monotonic() - began, 1))

    def loss(self, step: int) -> Tensor:
        """The loss of a batch of the kind whose turn it is; what is drawn counts as seen."""
        return batch_loss(self.unet, self.data.batch(self.data.next()))

    def rate(self, step: int, part: float) -> float:
        """Each phase has its own, and warms up anew."""
        warmed = warm_up(self.counters["phase_step"], WARM_UP)
        return self.data.phase.learning_rate * warmed * annealed(part)

    def _start_from_bundled(self) -> None:
        """Begin with the edition's weights, in the stage's last phase: for a new run where no state
        was kept.
        """
        folder = self.world.started(f"{REPOSITORIES[self.kind]}/unet")
        weights, _ = read_weights(folder, ("diffusion_pytorch_model",))
        self._begin_with({key: value.float() for key, value in weights.items()})
        if folder.is_relative_to(self.world.bundle.folder):
            self.counters["phase"] = len(self.data.phases) - 1

    def _start_from(self, folder: Path) -> None:
        """Begin with the keyframe model's weights; only the condition's four input channels are new
        (section 3.3).
        """
        if not (folder / "state.pt").exists():
            return
        weights = dict(load_state(folder / "state.pt")["mean"])
        first = weights["conv_in.weight"]
        weights["conv_in.weight"] = torch.cat(
            [first, self.unet.conv_in.weight.detach()[:, 3:] * 0.3], dim=1
        )
        weights["conv_in.weight"][
            [channel for colour in range(3) for channel in (4 * colour, 4 * colour + 1)], 3:
        ] = 0
        self._begin_with(weights)

    def _begin_with(self, weights: dict[str, Tensor]) -> None:
        self.unet.load_state_dict(weights)
        self.loop.average.restart()


def batch_loss(unet: nn.Module, batch: Batch) -> Tensor:
    """Weighted mean squared error of the predicted noise; the variance channels are left alone."""
    clock = None if batch.places is None else clock_readings(FRAMES)[batch.places]
    # Plain attention: the fused kernel's backward pass is slow on the temporal layers' eight
    # tokens.
    with (
        spatial_only(unet, batch.still, clock),
        half_precision(),
        sdpa_kernel(SDPBackend.MATH),
    ):
        predicted = unet(batch.sample, batch.timesteps, batch.text, batch.labels)
    return denoising_loss(predicted, batch)
