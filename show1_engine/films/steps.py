"""What is made of a film: a stage with all it is given, run stretch by stretch."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from ..models.autoencoder import Codec
from ..models.bundle import Show1Model
from ..progress import Report
from ..stages.given import GivenFrames, places
from ..stages.interpolate import InterpolateSettings, interpolate, rate
from ..stages.latent_expert_sr import Before, LatentExpertSettings, latent_expert_sr
from ..stages.pixel_sr import STAGE as PIXEL_SR
from ..stages.pixel_sr import Chain, FirstFrame, PixelSRSettings, pixel_sr
from ..stages.prompts import Prompt, part_of
from .identity import digest, of_model
from .parts import State
from .plan import Stretch
from .source import Source


class Step(Protocol):
    """A stage of the work on a film.

    name: its command's.
    factor: frames of the result for one that is given.
    carries: whether a stretch goes on from the one before it in its shot.
    """

    name: ClassVar[str]
    factor: int
    carries: bool

    def fitted(self, source: Source, fps: float) -> "Step":
        """This step for a film that is to come to a rate, 0: whatever it makes of it."""

    def settings_by_name(self) -> dict[str, Any]:
        """Everything its frames hang on, but the source."""

    def starts(self, frames: int) -> list[int]:
        """Which of so many frames a shot is to begin at, besides those after cuts."""

    def make(self, images: Tensor, stretch: Stretch, state: State, report: Report) -> Tensor:
        """The result's frames of a stretch.

        images: (n, H, W, 3), the stretch's, and the one after them where the shot goes on and the
            step before, if there is one, hands it out.
        state: what the stretch before has left, empty at a shot's start; left for the next one.
        """


def cut_at(steps: list[Step], cuts: list[int], frames: int) -> list[int]:
    """Where shots begin, the film's start included."""
    return sorted({0, *cuts, *(start for step in steps for start in step.starts(frames))})


@dataclass(frozen=True, kw_only=True, eq=False)
class Upscale:
    """Pixel super-resolution: a chain of windows for each shot.

    first_frame: the film's first frame, or who makes the first of every shot.
    references: clean frames of the film by their numbers; a chain begins at each.
    mask: (1 or F, H, W), what to upscale.
    """

    model: Show1Model
    positive: Prompt
    negative: Prompt
    settings: PixelSRSettings
    first_frame: Tensor | FirstFrame | None = None
    references: GivenFrames | None = None
    mask: Tensor | None = None
    name: ClassVar[str] = "upscale"
    factor: ClassVar[int] = 1
    carries: ClassVar[bool] = True

    def fitted(self, source: Source, fps: float) -> "Upscale":
        return self

    def settings_by_name(self) -> dict[str, Any]:
        first = self.first_frame
        if isinstance(first, FirstFrame):
            first = of_model(first.model), first.settings
        more = {"first_frame": first, "references": self.references, "mask": self.mask}
        return _by_name(self, more)

    def starts(self, frames: int) -> list[int]:
        return (
            []
            if self.references is None
            else places(PIXEL_SR, "reference_frames", self.references, frames=frames)
        )

    def make(self, images: Tensor, stretch: Stretch, state: State, report: Report) -> Tensor:
        chain, length = Chain(state.pop("clean", None)), stretch.stop - stretch.start
        made = pixel_sr(
            self.model,
            images,
            *_texts(self, stretch, stretch.read),
            settings=replace(self.settings, cuts=False),
            first_frame=None if chain.clean is not None else self._first(stretch),
            report=report,
            mask=_part(self.mask, stretch, stretch.read),
            chain=chain,
        )
        if stretch.stop < stretch.end:
            state["clean"] = chain.clean
        return made[:length]

    def _first(self, stretch: Stretch) -> Tensor | FirstFrame | None:
        """The clean frame that a shot begins on, or who makes it."""
        given = self.starts(stretch.film)
        if stretch.start in given:
            found = given.index(stretch.start)
            return self.references.images[found : found + 1]
        if stretch.start and isinstance(self.first_frame, Tensor):
            return None
        return self.first_frame


@dataclass(frozen=True, kw_only=True, eq=False)
class Interpolate:
    """New frames between every two of a shot. Over a cut the last one is held."""

    model: Show1Model
    positive: Prompt
    negative: Prompt
    settings: InterpolateSettings
    name: ClassVar[str] = "interpolate"
    carries: ClassVar[bool] = False

    @property
    def factor(self) -> int:
        return self.settings.factor

    def fitted(self, source: Source, fps: float) -> "Interpolate":
        if not fps:
            return self
        factor = rate(source.frames, float(source.fps), fps).factor
        return replace(self, settings=replace(self.settings, factor=factor))

    def settings_by_name(self) -> dict[str, Any]:
        return _by_name(self, {})

    def starts(self, frames: int) -> list[int]:
        return []

    def make(self, images: Tensor, stretch: Stretch, state: State, report: Report) -> Tensor:
        made = interpolate(
            self.model,
            images,
            *_texts(self, stretch, stretch.read),
            settings=replace(self.settings, cuts=False, loop=False),
            report=report,
        )
        if stretch.stop < stretch.end:  # the last one is the next stretch's first
            return made[:-1]
        if stretch.end == stretch.film:
            return made
        return torch.cat([made, images[-1:].expand(self.factor - 1, -1, -1, -1)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Refine:
    """The latent expert: stretches of a shot, each sampled beside the end of the one before.

    mask: (1 or F, H, W), what to refine.
    codec: another VAE than the model's own, and `vae` what tells it from others.
    """

    model: Show1Model
    positive: Prompt
    negative: Prompt
    settings: LatentExpertSettings
    mask: Tensor | None = None
    codec: Codec | None = None
    vae: Any = None
    name: ClassVar[str] = "refine"
    factor: ClassVar[int] = 1
    carries: ClassVar[bool] = True

    def fitted(self, source: Source, fps: float) -> "Refine":
        return self

    def settings_by_name(self) -> dict[str, Any]:
        return _by_name(self, {"mask": self.mask, "vae": self.vae})

    def starts(self, frames: int) -> list[int]:
        return []

    def make(self, images: Tensor, stretch: Stretch, state: State, report: Report) -> Tensor:
        count = state.pop("stretches", torch.zeros((), dtype=torch.int64))
        before = Before(state.pop("latents", None), int(count))
        made = latent_expert_sr(
            self.model,
            images[: stretch.stop - stretch.start],
            *_texts(self, stretch, stretch.stop),
            settings=replace(self.settings, cuts=False, loop=False),
            codec=self.codec,
            report=report,
            mask=_part(self.mask, stretch, stretch.stop),
            before=before,
        )
        if stretch.stop < stretch.end:
            state["latents"] = before.latents.cpu()
            state["stretches"] = torch.tensor(before.stretches)
        return made


def _texts(step: Any, stretch: Stretch, stop: int) -> tuple[Prompt, Prompt]:
    """Both prompts as they are over a stretch's frames, up to `stop`."""
    texts = step.positive, step.negative
    return tuple(part_of(text, stretch.start, stop, frames=stretch.film) for text in texts)


def _part(mask: Tensor | None, stretch: Stretch, stop: int) -> Tensor | None:
    """A mask over a stretch's frames, up to `stop`, or the one for all frames."""
    if mask is None or mask.ndim == 2 or len(mask) == 1:
        return mask
    return mask[stretch.start : stop]


def _by_name(step: Any, more: dict[str, Any]) -> dict[str, Any]:
    """A step's settings, and digests of what is no number or word."""
    found = asdict(step.settings)
    found["model"] = of_model(step.model)
    found |= {name: digest(getattr(step, name)) for name in ("positive", "negative")}
    found |= {name: digest(value) for name, value in more.items() if value is not None}
    return {f"{step.name} {name}": value for name, value in found.items()}


Prepare = Callable[[], list[Step]]  # loads what the steps need
