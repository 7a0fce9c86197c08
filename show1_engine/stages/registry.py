"""The stage table: every stage of the cascade with all its names. Everything else reads it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..models.kinds import FIRST_FRAME_SR, INTERPOLATION, KEYFRAMES, LATENT_EXPERT, PIXEL_SR
from .interpolate import FACTOR, InterpolateSettings, interpolate
from .keyframes import FPS, KeyframeSettings, keyframes
from .latent_expert_sr import LatentExpertSettings, latent_expert_sr
from .pixel_sr import FIRST_FRAME_SETTINGS, SCALE, PixelSRSettings, first_frame_sr, pixel_sr
from .settings import StageSettings


@dataclass(frozen=True)
class Stage:
    """A stage of the cascade, in the order it runs.

    kind: of its model, and the stage's name inside the package (models.kinds).
    node: id of its node, which messages begin with.
    option: its name on the command line, and the prefix of its options there.
    field: the same in Python (a field of the cascade, a key of bundled.SETTINGS).
    result: the name of its frames in files.
    settings: its defaults, those of the released inference script.
    run: the engine's function.
    fps: frames per second of its result within the cascade.
    scale: size of its result over that of its input; None where the settings say it.
    """

    kind: str
    node: str
    option: str
    result: str
    settings: StageSettings
    run: Callable[..., Tensor]
    fps: float
    scale: float | None = None

    @property
    def field(self) -> str:
        return self.option.replace("-", "_")


STAGES: dict[str, Stage] = {
    stage.kind: stage
    for stage in (
        Stage(
            kind=KEYFRAMES,
            node="Show1Keyframes",
            option="keyframes",
            result="keyframes",
            settings=KeyframeSettings(),
            run=keyframes,
            fps=FPS,
        ),
        Stage(
            kind=INTERPOLATION,
            node="Show1Interpolate",
            option="interpolate",
            result="interpolated",
            settings=InterpolateSettings(),
            run=interpolate,
            fps=FPS * FACTOR,
            scale=1.0,
        ),
        Stage(
            kind=FIRST_FRAME_SR,
            node="Show1PixelSR",
            option="first-frame",
            result="first_frame",
            settings=FIRST_FRAME_SETTINGS,
            run=first_frame_sr,
            fps=1.0,
            scale=SCALE,
        ),
        Stage(
            kind=PIXEL_SR,
            node="Show1PixelSR",
            option="pixel-sr",
            result="pixel_sr",
            settings=PixelSRSettings(),
            run=pixel_sr,
            fps=FPS * FACTOR,
            scale=SCALE,
        ),
        Stage(
            kind=LATENT_EXPERT,
            node="Show1LatentExpertSR",
            option="expert",
            result="latent_expert_sr",
            settings=LatentExpertSettings(),
            run=latent_expert_sr,
            fps=FPS * FACTOR,
        ),
    )
}
# A run can end after each of these; the first frame is part of its clip's stage.
ENDS = tuple(stage.option for kind, stage in STAGES.items() if kind != FIRST_FRAME_SR)
