"""Kept features: what the network's deeper levels gave at one step serves the next ones, too."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import whole_within

MOST = 3


class Kept:
    """What all levels but the top one gave, sample by sample (DeepCache, Ma et al. 2023: from step
    to step they change little).

    Every `every`-th evaluation of a run computes the whole network; 1: all of them. A run is told
    by its timesteps, which fall; its windows and tiles, by the order in which they come at each.
    """

    def __init__(self, every: int = 1):
        self.every = every
        self._samples: dict[Any, Tensor] = {}
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
            self._samples.clear()

    def forward(self, names: Sequence[Any], network: Callable[[list | None], Tensor]) -> Tensor:
        """`network(kept)` of the samples of these names: whole, on what is kept, or, where nothing
        ever is, with None (UNet.forward).
        """
        if self.every == 1:
            return network(None)
        known = [self._samples.get((self._call, name)) for name in names]
        if self._step % self.every and all(features is not None for features in known):
            return network([torch.cat(known)])
        kept: list[Tensor] = []
        made = network(kept)
        for name, features in zip(names, kept[0].chunk(len(names)), strict=True):
            self._samples[self._call, name] = features
        return made


def check_reuse(stage: str, reuse: int) -> None:
    """InputError unless it is 1 to 3."""
    whole_within(f"{stage}: 'reuse'", reuse, 1, most=MOST)


def whole_steps(steps: int, reuse: int) -> int:
    """How many of a run's steps compute the whole network."""
    return -(-steps // reuse)
