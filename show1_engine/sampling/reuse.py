"""Kept features: what the network's deeper levels gave at one step serves the next ones, too."""

from typing import Any

from torch import Tensor

from ..errors import whole_within

MOST = 3


class Kept:
    """What all levels but the top one gave, for each part of the sample (DeepCache, Ma et al. 2023:
    from step to step they change little).

    Every `every`-th evaluation of a run computes the whole network; 1: all of them. A run is told
    by its timesteps, which fall; its windows and tiles, by the order in which they come at each.
    """

    def __init__(self, every: int = 1):
        self.every = every
        self._parts: dict[Any, list[Tensor]] = {}
        self._timestep: int | None = None
        self._step = self._call = 0

    def begin(self, timestep: int) -> None:
        """The next window or tile is evaluated at a timestep."""
        if timestep == self._timestep:
            self._call += 1
            return
        falls = self._timestep is not None and timestep < self._timestep
        self._step = self._step + 1 if falls else 0
        self._timestep, self._call = timestep, 0
        if not falls:
            self._parts.clear()

    def of(self, *part: Any) -> list[Tensor] | None:
        """For the network: what it may use of a part, or an empty list to fill. None: all is
        computed anyway, and nothing kept.
        """
        if self.every == 1:
            return None
        key = (self._call, *part)
        if self._step % self.every == 0 or key not in self._parts:
            self._parts[key] = []
        return self._parts[key]


def check_reuse(stage: str, reuse: int) -> None:
    """InputError unless it is 1 to 3."""
    whole_within(f"{stage}: 'reuse'", reuse, 1, most=MOST)


def whole_steps(steps: int, reuse: int) -> int:
    """How many of a run's steps compute the whole network."""
    return -(-steps // reuse)
