"""Presets: the same model with fewer steps, with kept features, and with guidance only where it
decides something.
"""

from dataclasses import dataclass

from ..errors import one_of


@dataclass(frozen=True)
class Preset:
    """steps: share of the steps asked for. guided: the stretch of the run, in shares of its steps,
    that is guided (Kynk\u00e4\u00e4nniemi et al. 2024: guidance matters at middle noise levels).
    sampler: in place of "default".
    reuse: every how many-th step computes the whole network (reuse.Kept).
    """

    steps: float
    guided: tuple[float, float]
    sampler: str = "dpmpp_2m"
    reuse: int = 1


PRESETS = {
    "reference": Preset(1.0, (0.0, 1.0), "default"),
    # Of all mixes as fast as these the nearest to the reference (docs/speed.md).
    "balanced": Preset(3 / 4, (0.0, 1.0), reuse=2),
    "fast": Preset(3 / 8, (0.0, 0.6), reuse=2),
}
_FEWEST_STEPS = 5  # a preset goes no lower; every second one computes all, the last one too


def preset(name: str) -> Preset:
    """The preset of that name; InputError if there is none."""
    one_of("preset", name, PRESETS)
    return PRESETS[name]


def steps_of(chosen: Preset, steps: int) -> int:
    """How many steps are run where `steps` were asked for."""
    return max(min(steps, _FEWEST_STEPS), round(steps * chosen.steps))


def guided_part(timesteps: list[int], start: float, end: float) -> frozenset[int]:
    """The timesteps between two shares (0..1) of the run."""
    count = len(timesteps)
    return frozenset(timesteps[round(start * count) : round(end * count)])
