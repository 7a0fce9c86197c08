"""What to do when a device runs out of memory: less at a time, on whatever device."""

from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")

# CUDA, ROCm and XPU raise torch.OutOfMemoryError, the others a RuntimeError in these words.
_WORDS = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device has no memory left, on any kind of device."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def free_cached() -> None:
    """Gives back what torch keeps for later on the device that is used."""
    for device in (torch.cuda, getattr(torch, "xpu", None), getattr(torch, "mps", None)):
        if device is not None and device.is_available():
            device.empty_cache()


def retried_smaller(work: Callable[[], Result], shrink: Callable[[], bool]) -> Result:
    """`work()`; each time it runs out of memory, `shrink()` makes it smaller and it is tried again.

    `shrink` returns False where there is nothing smaller: the error then goes on to whoever called.
    """
    while True:
        try:
            return work()
        except RuntimeError as error:
            if not is_out_of_memory(error) or not shrink():
                raise
        free_cached()  # out here: the error no longer holds the tensors of the forward that failed
