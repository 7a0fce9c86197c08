"""Plain torch on one device: the runtime of the command line, and of anyone without ComfyUI."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from .errors import InputError
from .models import bare
from .models.patches import Patch, Patches, patched

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def main_memory() -> int:
    """Bytes of main memory there are, in all."""
    import psutil

    return psutil.virtual_memory().total


def device_and_dtype(device: str, dtype: str) -> tuple[str, torch.dtype]:
    """What "auto" is here: cuda where there is one, else cpu; fp16 on cuda, fp32 elsewhere."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto":
        dtype = "fp16" if device.startswith("cuda") else "fp32"
    return device, _DTYPES[dtype]


def device_name(device: torch.device) -> str:
    """What numbers depend on: the kind of device, with the model of a card."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


class PlainHandle:
    castable = False
    patcher = None

    def __init__(
        self,
        module: nn.Module,
        dtype: torch.dtype,
        runtime: "PlainRuntime",
        patches: tuple[tuple[Patches, float], ...] = (),
    ):
        self.module, self.dtype, self._runtime, self._patches = module, dtype, runtime, patches

    def load(self, memory_required: int = 0) -> torch.device:
        self._runtime.make_resident(self.module)
        self._runtime.patch(self.module, self._patches)
        return self._runtime.device

    @property
    def changes(self) -> tuple[tuple[Patches, float], ...]:
        return self._patches

    def weight(self, name: str) -> Tensor:
        return self._runtime.original(self.module, name)

    def patched(self, patches: Patches, strength: float) -> "PlainHandle":
        return PlainHandle(
            self.module, self.dtype, self._runtime, patches=(*self._patches, (patches, strength))
        )

    def memory(self) -> int:
        return self._runtime.planned or self._runtime.memory()

    def room(self) -> int:
        weights = sum(parameter.nbytes for parameter in self.module.parameters())
        if self._runtime.device.type == "cuda":  # what torch holds there is ours to move out
            free = torch.cuda.mem_get_info(self._runtime.device)[0]
            return free + torch.cuda.memory_reserved(self._runtime.device) - weights
        return self._runtime.memory() // 2 - weights


class PlainRuntime:
    """Plain torch: one model at a time on the device, the others in main memory.

    planned: bytes of device memory that tiles are planned for in place of all there are, so that
        devices of other sizes make the same frames; 0: those there are.
    """

    def __init__(
        self, device: str = "cpu", dtype: torch.dtype = torch.float32, *, planned: int = 0
    ):
        self.device, self.dtype, self.planned = torch.device(device), dtype, planned
        # Not held: a model that nobody uses any more is gone before the next one comes.
        self._resident: Callable[[], nn.Module | None] = lambda: None
        self._patches: WeakKeyDictionary[nn.Module, tuple] = (
            WeakKeyDictionary()
        )  # what is in the weights now
        self._originals: WeakKeyDictionary[nn.Module, dict[str, Tensor]] = WeakKeyDictionary()

    def memory(self) -> int:
        """Bytes the device has, in all."""
        if self.device.type == "cuda":
            return torch.cuda.mem_get_info(self.device)[1]
        return main_memory()

    def ops(self, storage: torch.dtype | None = None, fast: bool = False) -> Any:
        """What layers are taken from."""
        return bare

    def dtypes(
        self, role: str, requested: torch.dtype | None, parameters: int
    ) -> tuple[torch.dtype, torch.dtype]:
        """Storage and compute dtype: the same one, since nothing casts layers here."""
        dtype = requested or self.dtype
        if dtype.itemsize == 1:
            raise InputError(
                "fp8 storage needs ComfyUI's castable layers; use fp32, fp16 or bf16 here"
            )
        return dtype, dtype

    def build_text(self, kind: str, config: dict[str, Any]) -> nn.Module:
        from .models.text import TransformersText

        return TransformersText(kind, config)

    def manage(self, role: str, module: nn.Module, dtype: torch.dtype) -> PlainHandle:
        return PlainHandle(module, dtype, self)

    def make_resident(self, module: nn.Module) -> None:
        resident = self._resident()
        if resident is not None and resident is not module:
            resident.to("cpu")
        self._resident = ref(module.to(self.device))

    def patch(self, module: nn.Module, patches: tuple[tuple[Patches, float], ...]) -> None:
        """Makes these, and no others, the patches in the module's weights."""
        if self._patches.get(module, ()) is patches or not (patches or module in self._patches):
            return
        originals = self._originals.setdefault(module, {})
        for name in list(originals):
            weight = module.get_parameter(name)
            weight.data = originals.pop(name).to(weight.device)
        for name, changes in _by_name(patches).items():
            weight = module.get_parameter(name)
            originals[name], weight.data = weight.data, patched(weight.data, changes)
        self._patches[module] = patches

    def original(self, module: nn.Module, name: str) -> Tensor:
        held = self._originals.get(module, {})
        return held[name] if name in held else module.get_parameter(name).data


def _by_name(patches: tuple[tuple[Patches, float], ...]) -> dict[str, list[tuple[Patch, float]]]:
    out: dict[str, list[tuple[Patch, float]]] = {}
    for group, strength in patches:
        for name, patch in group.items():
            out.setdefault(name, []).append((patch, strength))
    return out
