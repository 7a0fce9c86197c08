"""Which item a sample's number stands for."""

import hashlib
from collections.abc import Hashable, Sequence
from functools import lru_cache

import torch
from torch import Generator

from ..noise import generator


def seeded(seed: int, *of: object) -> Generator:
    """Random numbers of a thing of its own: of (seed, number of the sample), for instance."""
    text = ":".join(map(str, (seed, *of)))
    return generator(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1)


class Order:
    """An endless order of items: every epoch has each once, shuffled by (seed, epoch).

    Samples come in groups of `batch`, all of one bucket. A bucket that the batch does not divide is
    padded with its own first ones. Any number of processes may take groups in turn: an epoch need
    not end where a step does.

    Args:
        buckets: of each item, what only equal ones share a batch with.
    """

    def __init__(self, buckets: Sequence[Hashable], batch: int, seed: int):
        self.batch, self.seed = batch, seed
        self._members: dict[Hashable, list[int]] = {}
        for item, bucket in enumerate(buckets):
            self._members.setdefault(bucket, []).append(item)
        self._next = {
            item: members[(place + 1) % len(members)]
            for members in self._members.values()
            for place, item in enumerate(members)
        }
        self.groups = sum(-(-len(members) // batch) for members in self._members.values())
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    def item(self, number: int) -> int:
        """The item of a sample's number, from 0."""
        group, place = divmod(number, self.batch)
        epoch, group = divmod(group, self.groups)
        return self._epoch(epoch)[group][place]

    def after(self, item: int) -> int:
        """The item that stands in for one that cannot be had: of its own bucket."""
        return self._next[item]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        source, groups = seeded(self.seed, "epoch", epoch), []
        for members in self._members.values():
            order = [members[i] for i in torch.randperm(len(members), generator=source).tolist()]
            padded = [
                order[i % len(order)] for i in range(-(-len(order) // self.batch) * self.batch)
            ]
            groups += [padded[i : i + self.batch] for i in range(0, len(padded), self.batch)]
        return [groups[i] for i in torch.randperm(len(groups), generator=source).tolist()]
