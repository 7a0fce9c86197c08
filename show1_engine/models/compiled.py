"""torch.compile for a network: its operations fused into few kernels, the same numbers up to
rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import InputError

_FORMS = 64  # models and sizes compiled side by side; beyond, torch would silently go on without


def compile_network(network: nn.Module, device: torch.device) -> None:
    """Compiles `network` in place when it is first called, once more when a size changes, for all
    sizes from then on.

    Raises:
        InputError: torch.compile does not work on this device, with the reason.
    """
    import torch._dynamo  # takes a second

    try:
        torch.compile(_probe)(torch.ones(8, device=device))
    except Exception as error:  # whatever a compiler, a driver or a missing package can raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InputError(
            f"torch.compile does not work here ({reason}). It needs Triton on a card and a C++ "
            "compiler on a CPU; or turn 'compile' off"
        ) from error
    torch._dynamo.config.cache_size_limit = max(torch._dynamo.config.cache_size_limit, _FORMS)
    network.compile()


def _probe(x: Tensor) -> Tensor:
    return x.sin() + 1


@contextmanager
def uncompiled(network: nn.Module) -> Iterator[None]:
    """The network as it was written, for as long as the context lasts: compiled code does not see
    new hooks.
    """
    compiled, network._compiled_call_impl = network._compiled_call_impl, None
    try:
        yield
    finally:
        network._compiled_call_impl = compiled
