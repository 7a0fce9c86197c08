"""The protocol between models and whoever manages where they live: handles, and runtimes that give
them out.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .patches import Patches

UNET, TEXT, VAE = (
    "unet",
    "text",
    "vae",
)  # a network's role: the host has a dtype and a device for each


class Handle(Protocol):
    """A network whose place in memory is somebody else's business."""

    module: nn.Module
    dtype: torch.dtype  # what it computes in
    castable: bool  # whether its layers follow the dtype they are fed
    patcher: Any | None  # what a host's memory manager knows the network by

    def load(self, memory_required: int) -> torch.device:
        """Makes the network ready, with `memory_required` bytes left for activations; returns where
        it computes.
        """

    def memory(self) -> int:
        """Bytes the device has, in all."""

    def room(self) -> int:
        """Bytes for activations if the device held all of this network's weights, and none of other
        models.
        """

    @property
    def changes(self) -> Any:
        """What is patched over the weights, to be told from other patches."""

    def weight(self, name: str) -> Tensor:
        """A weight as the checkpoint has it, whatever is patched now."""

    def patched(self, patches: Patches, strength: float) -> "Handle":
        """Another handle on the same network, with these patches over the ones this handle has."""


class Runtime(Protocol):
    """What layers models are built from, in which dtypes, and who keeps them: plain torch, or a
    host.
    """

    device: torch.device  # where UNets compute

    def ops(self, storage: torch.dtype | None = None, fast: bool = False) -> Any:
        """The namespace that layers are taken from. `fast`: multiply in fp8 where the
        device can.
        """

    def dtypes(
        self, role: str, requested: torch.dtype | None, parameters: int
    ) -> tuple[torch.dtype, torch.dtype]:
        """Storage and compute dtype of a network of that role; `requested` is the
        user's storage.
        """

    def build_text(self, kind: str, config: dict[str, Any]) -> nn.Module:
        """A text encoder without weights as `network(ids, mask)`; its part `model` has the file's
        keys.
        """

    def manage(self, role: str, module: nn.Module, dtype: torch.dtype) -> Handle:
        """A handle on a network that computes in `dtype`."""
