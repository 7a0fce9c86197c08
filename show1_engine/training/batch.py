"""One protocol of data for every training: samples by number, and batches of what a step needs."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

AnyBatch = TypeVar("AnyBatch", bound="Batch")


@dataclass(frozen=True)
class Batch:
    """What one part of a training step needs.

    sample: the network's input (B, C, F, H, W): a noised clip, and what conditions it.
    timesteps: (B,).
    text: states (B, tokens, width).
    labels: noise levels of the condition (B,), of super-resolution.
    noise: what is to be predicted, (B, 3 or 4, F, H, W).
    weight: what each sample's loss counts, (B,).
    clean: the clips without noise, as `noise`, where the variance is trained.
    names: where each sample comes from, for errors.
    """

    sample: Tensor
    timesteps: Tensor
    text: Tensor
    labels: Tensor | None
    noise: Tensor
    weight: Tensor
    clean: Tensor | None = None
    names: tuple[str, ...] = ()

    def to(self: AnyBatch, device: torch.device) -> AnyBatch:
        """All of it on a device."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.to(device) for k, v in found.items() if isinstance(v, Tensor)})


class Data(Protocol):
    """Samples by number. A data set whose samples depend on their numbers alone gives N processes
    what it gives one, and a run that goes on what it would have had.
    """

    def batch(self, numbers: range) -> Batch:
        """The samples of these numbers, from 0; every number is asked for once, in order."""


def joined(batches: Iterable[Batch]) -> Batch:
    """One batch of several of like clips."""
    many = list(batches)

    def all_of(name: str) -> Tensor | None:
        found = [getattr(batch, name) for batch in many]
        return None if found[0] is None else torch.cat(found)

    tensors = {f.name: all_of(f.name) for f in fields(Batch) if f.name != "names"}
    return Batch(**tensors, names=tuple(name for batch in many for name in batch.names))


def denoising_loss(predicted: Tensor, batch: Batch) -> Tensor:
    """Weighted mean squared error of the predicted noise; channels of the variance are left
    alone.
    """
    errors = predicted[:, : batch.noise.shape[1]].float() - batch.noise
    return (errors.square().mean((1, 2, 3, 4)) * batch.weight).mean()
