"""Presets: the same model with fewer steps, with kept features, and with guidance only where it
decides something.
"""

from dataclasses import dataclass

from ..errors import one_of
from ..models.kinds import FIRST_FRAME_SR, INTERPOLATION, PIXEL_SR


@dataclass(frozen=True)
class Preset:
    """steps: share of the steps asked for. guided: the stretch of the run, in shares of its steps,
    that is guided (Kynk\u00e4\u00e4nniemi et al. 2024: guidance matters at middle noise levels).
    sampler: in place of "default".
    reuse: every how many-th step computes the whole network (reuse.Kept).
    least: steps that there are at the least, if as many were asked for.
    start: logarithm of signal to noise that the way down begins at, to no noise at all; None: the
        sampler's own.
    """

    steps: float
    guided: tuple[float, float]
    sampler: str = "dpmpp_2m"
    reuse: int = 1
    least: int = 5  # with reuse every second computes all, the last one too
    start: float | None = None


# Of all mixes as fast as these the best (docs/speed.md).
PRESETS = {
    "reference": Preset(1.0, (0.0, 1.0), "default"),
    "balanced": Preset(3 / 4, (0.0, 1.0), reuse=2),
    "fast": Preset(3 / 8, (0.0, 0.6), reuse=2),
}
# Where the model is shown what it makes larger or fills in, noise has no more to tell than that:
# the steps that would look for the picture in noise alone are left out.
FROM_CONDITION = -3.0
CONDITIONED = {
    "balanced": Preset(1 / 2, (0.0, 1.0), reuse=2, start=FROM_CONDITION),
    "fast": Preset(1 / 4, (0.0, 0.6), reuse=2, least=3, start=FROM_CONDITION),
}
# To enlarge, two whole steps are worth as much as three of which one keeps features, and cost less.
ENLARGING = {
    "balanced": CONDITIONED["balanced"],
    "fast": Preset(1 / 6, (0.0, 0.6), least=2, start=FROM_CONDITION),
}


def preset(name: str, kind: str) -> Preset:
    """The preset of that name for a kind of model; InputError if there is none."""
    one_of("preset", name, PRESETS)
    own = {INTERPOLATION: CONDITIONED, PIXEL_SR: ENLARGING, FIRST_FRAME_SR: ENLARGING}
    return own.get(kind, PRESETS).get(name, PRESETS[name])


def steps_of(chosen: Preset, steps: int) -> int:
    """How many steps are run where `steps` were asked for."""
    return max(min(steps, chosen.least), round(steps * chosen.steps))


def guided_part(timesteps: list[int], start: float, end: float) -> frozenset[int]:
    """The timesteps between two shares (0..1) of the run."""
    count = len(timesteps)
    return frozenset(timesteps[round(start * count) : round(end * count)])
