"""What flows along a link and holds networks, as a host's memory manager looks for them.

ComfyUI finds what a link's object keeps in memory by names of that object alone: `get_models()`
(networks that the
running prompt uses: their pinned memory stays), `patcher` (the cache lets old models go first when
memory is short), `is_dynamic()` (models that page their weights need no place in the cache's count)
and, in 0.3.75, `get_ram_usage()`.
"""

from typing import Any

from .handle import Handle


class Managed:
    """Answers a host's questions from the handles an object holds. Without a host there is nothing
    to find.
    """

    def handles(self) -> list[Handle]:
        """The object's networks, the main one first."""
        raise NotImplementedError

    @property
    def patcher(self) -> Any | None:
        """The host's own object for the main network; None without a host."""
        return self.handles()[0].patcher

    def get_models(self) -> list[Any]:
        """The host's own objects for all networks."""
        return [handle.patcher for handle in self.handles() if handle.patcher is not None]

    def is_dynamic(self) -> bool:
        """Whether the host pages the weights of all networks."""
        models = self.get_models()
        return bool(models) and all(
            hasattr(model, "is_dynamic") and model.is_dynamic() for model in models
        )

    def get_ram_usage(self) -> int:
        """Bytes of all networks' weights."""
        return sum(model.model_size() for model in self.get_models())
