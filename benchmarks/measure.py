"""What a computation costs, counted exactly: bytes alive at its peak, and floating-point
operations.

Both count what torch dispatches, so they also work on meta tensors: a full-size model at full size,
without computing.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


class Allocations(TorchDispatchMode):
    """Bytes of the tensor storages made inside and still alive: `live` now, `peak` at most.

    What a kernel needs for itself (cuDNN's and BLAS's workspaces) and an allocator's rounding are
    not in it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._before: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        before = {
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, Tensor)
        }
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in before:
                self._born(leaf)
        return out

    def _born(self, tensor: Tensor) -> None:
        self._bury()
        storage = tensor.untyped_storage()
        if storage._cdata not in self._alive:
            self._alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)

    def _bury(self) -> None:
        for key in [key for key, (storage, _) in self._alive.items() if storage.expired()]:
            self.live -= self._alive.pop(key)[1]


class FusedAttention(TorchFunctionMode):
    """Attention as the fused kernels of CPUs and cards allocate it: its output and a float per
    query and head, where meta tensors would go through the whole matrix of weights.
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention and args[0].is_meta:
            batch, heads, tokens, width = args[0].shape
            out = args[0].new_empty(batch, tokens, heads, width).transpose(1, 2)
            sums = torch.empty(batch, heads, tokens, device="meta")
            del sums
            return out
        return func(*args, **(kwargs or {}))


def peak_bytes(function: Callable[[], Any]) -> int:
    """Bytes allocated at the peak of `function`, beyond what was there before."""
    with torch.no_grad(), FusedAttention(), Allocations() as allocations:
        function()
    return allocations.peak


def flops(function: Callable[[], Any]) -> int:
    """Floating-point operations of matrix products, convolutions and attention, two per
    multiplication and addition.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()
