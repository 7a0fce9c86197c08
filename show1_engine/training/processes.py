"""One process, or several that train together (accelerate, under torchrun or accelerate launch)."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
import torch.distributed
from torch import Tensor, nn

from ..errors import InputError


class Processes(Protocol):
    """Who trains: `rank` of `count`, on a device. `shard`: what learns is divided over them."""

    rank: int
    count: int
    device: torch.device
    shard: bool

    def wrapped(self, network: nn.Module) -> nn.Module:
        """The network, whose gradients become the means over all processes. What is divided does
        that itself.
        """

    def apart(self, network: nn.Module) -> Any:
        """A context in which a wrapped network's gradients are only gathered. Those of shards are
        reduced all the same: whole ones would be as large as the model.
        """

    def mean(self, values: Tensor) -> Tensor:
        """Of what every process has."""

    def wait(self) -> None:
        """Until all have come here."""


class Alone:
    """One process."""

    rank, count, shard = 0, 1, False

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
    """One of several, by accelerate: distributed data parallel, or shards where they are asked for
    here or of `accelerate launch` (--use_fsdp).
    """

    def __init__(self, cpu: bool, shard: bool = False):
        try:
            from accelerate import Accelerator, DistributedType
        except ImportError as error:
            raise InputError(
                f"several processes train together by accelerate, which is not here ({error}): "
                "pip install -r requirements-train.txt"
            ) from None
        self._accelerator = Accelerator(cpu=cpu)
        self.rank, self.count = self._accelerator.process_index, self._accelerator.num_processes
        self.device = self._accelerator.device
        self.shard = shard or self._accelerator.distributed_type == DistributedType.FSDP

    def wrapped(self, network: nn.Module) -> nn.Module:
        return network if self.shard else self._accelerator.prepare_model(network)

    def apart(self, network: nn.Module) -> Any:
        return nullcontext() if self.shard else self._accelerator.no_sync(network)

    def mean(self, values: Tensor) -> Tensor:
        return self._accelerator.reduce(values, "mean")

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()


def processes(device: str, shard: bool = False) -> Processes:
    """Those of this run: several under torchrun, which accelerate launch calls for several too.
    InputError where shards are asked for and there is nothing to divide them over.
    """
    distributed, found = torch.distributed, Alone(torch.device(device))
    if distributed.is_available() and distributed.is_torchelastic_launched():
        found = Together(cpu=device == "cpu", shard=shard)
    if shard and found.count == 1:
        raise InputError(
            "'shard' divides what is trained over several processes, and this is one; start them "
            "by torchrun --nproc-per-node N -m show1_engine, or leave --shard out"
        )
    return found
