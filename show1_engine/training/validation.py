"""What a stage can do on clips that it is not trained on: its loss, how near its samples are."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..frames import from_model
from ..models.bundle import Show1Model
from ..models.kinds import INTERPOLATION, KEYFRAMES, LATENT_EXPERT
from ..stages.pixel_sr import SCALE
from ..stages.registry import STAGES
from ..video import write_sheet
from .batch import Batch
from .clips import Clips
from .order import seeded
from .recipes import Noiser
from .settings import StageTrainSettings

_DRAWS = 4  # noises and timesteps for each clip
_SHOWN = 4  # clips, or prompts, of a strip
_BLURRED = 2  # how many times smaller the clips are that the expert is to refine


class Validation:
    """`stage.Validate` on some clips: `loss` with noise that is always the same, `psnr` in dB of
    what the stage makes of the clips against them, and a strip of that as a PNG.

    Args:
        clips: pixels, also of the expert.
        loss_of: the loss of a batch.
        prompts: what keyframes are sampled of; the clips' captions where there are none.
        folder: where the strips go; None: none are written.
    """

    def __init__(
        self,
        model: Show1Model,
        clips: Clips,
        text: Callable[[str], Tensor],
        noiser: Noiser,
        *,
        folder: Path | None,
        size: tuple[int, int],
        frames: int,
        prompts: tuple[str, ...] = (),
        device: torch.device,
    ):
        self.model, self.clips, self.text, self.noiser = model, clips, text, noiser
        self.s: StageTrainSettings = noiser.s
        self.folder, self.size, self.frames, self.device = folder, size, frames, device
        self.prompts = prompts or tuple(dict.fromkeys(clips.captions))
        self.loss_of: Callable[[Batch], Tensor] | None = None

    def __call__(self, step: int) -> dict[str, float]:
        metrics, count = {}, len(self.clips.captions)
        if count and self.loss_of is not None:
            losses = [self._loss(i % count, i) for i in range(_DRAWS * count)]
            metrics["validation_loss"] = sum(losses) / len(losses)
        if self.model.kind == KEYFRAMES:
            made = [self._keyframes(prompt) for prompt in self.prompts[:_SHOWN]]
        else:
            pairs = [self._made(item) for item in range(count)]
            made = [torch.cat(pair) for pair in pairs[:_SHOWN]]
            if pairs:
                nearness = [_psnr(*self._judged(*pair)) for pair in pairs]
                metrics["psnr"] = sum(nearness) / len(nearness)
        if made and self.folder is not None:
            self._strip(step, made)
        return metrics

    def _loss(self, item: int, draw: int) -> float:
        source = seeded(self.s.seed, "validation", draw)
        clip, text = self.clips.clip(item, source), self.text(self.clips.captions[item])
        batch = self.noiser.sample(clip, text, source)
        return float(self.loss_of(batch.to(self.device)))

    def _keyframes(self, prompt: str) -> Tensor:
        height, width = self.size
        size = {"width": width, "height": height, "num_frames": self.frames}
        return self._run(prompt, **size)

    def _made(self, item: int) -> tuple[Tensor, Tensor]:
        """What the stage makes of a clip's poorer self, and the clip, (F, H, W, 3) each."""
        source = seeded(self.s.seed, "validation", item)
        clip, size = self.clips.clip(item, source), {}
        true, given = from_model(clip), clip
        if self.model.kind == INTERPOLATION:
            given = clip[:, :, [0, -1]]
        elif self.model.kind == LATENT_EXPERT:
            size = {"height": true.shape[1], "width": true.shape[2], "strength": 0.4}
            given = F.avg_pool3d(clip, (1, _BLURRED, _BLURRED))
        else:
            given = F.avg_pool3d(clip, (1, SCALE, SCALE))
        return self._run(self.clips.captions[item], from_model(given), **size), true

    def _run(self, prompt: str, *images: Tensor, **changes: float) -> Tensor:
        stage = STAGES[self.model.kind]
        settings = replace(
            stage.settings,
            steps=self.s.sample_steps,
            cfg=self.s.sample_cfg,
            seed=self.s.seed,
            **changes,
        )
        texts = self.text(prompt), self.text("")
        return stage.run(self.model, *images, *texts, settings=settings)[..., :3]

    def _judged(self, made: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        """Interpolation is given the ends."""
        return (made[1:-1], true[1:-1]) if self.model.kind == INTERPOLATION else (made, true)

    def _strip(self, step: int, made: list[Tensor]) -> None:
        """A row for each, below what it should be; of clips of other sizes the first alone."""
        alike = [clip for clip in made if clip.shape == made[0].shape]
        columns = len(made[0]) if self.model.kind == KEYFRAMES else len(made[0]) // 2
        file = self.folder / "samples" / f"{step:07d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_sheet(file, torch.cat(alike), columns=columns)


def _psnr(made: Tensor, true: Tensor) -> float:
    """In dB, of frames in [0, 1]."""
    error = float((made.float().clamp(0, 1) - true).square().mean())
    return float(-10 * torch.log10(torch.tensor(max(error, 1e-10))))
