"""One process, or several that train together (accelerate, under torchrun or accelerate launch)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.distributed
from torch import Tensor, nn

from ..errors import InputError


class Processes(Protocol):
    """Who trains: `rank` of `count`, on a device."""

    rank: int
    count: int
    device: torch.device

    def wrapped(self, network: nn.Module) -> nn.Module:
        """The network, whose gradients become the means over all processes."""

    def apart(self, network: nn.Module) -> Any:
        """A context in which a wrapped network's gradients are only gathered."""

    def mean(self, values: Tensor) -> Tensor:
        """Of what every process has."""

    def wait(self) -> None:
        """Until all have come here."""


class Alone:
    """One process."""

    rank, count = 0, 1

    def __init__(self, device: torch.device):
        self.device = device

    def wrapped(self, network: nn.Module) -> nn.Module:
        return network

    @contextmanager
    def apart(self, network: nn.Module) -> Iterator[None]:
        yield

    def mean(self, values: Tensor) -> Tensor:
        return values

    def wait(self) -> None:
        return


class Together:
    """One of several, by accelerate: distributed data parallel."""

    def __init__(self, cpu: bool):
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise InputError(
                f"several processes train together by accelerate, which is not here ({error}): "
                "pip install -r requirements-train.txt"
            ) from None
        self._accelerator = Accelerator(cpu=cpu)
        self.rank, self.count = self._accelerator.process_index, self._accelerator.num_processes
        self.device = self._accelerator.device

    def wrapped(self, network: nn.Module) -> nn.Module:
        return self._accelerator.prepare_model(network)

    def apart(self, network: nn.Module) -> Any:
        return self._accelerator.no_sync(network)

    def mean(self, values: Tensor) -> Tensor:
        return self._accelerator.reduce(values, "mean")

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()


def processes(device: str) -> Processes:
    """Those of this run: several under torchrun, which accelerate launch calls for several too."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_torchelastic_launched():
        return Together(cpu=device == "cpu")
    return Alone(torch.device(device))
