"""ComfyUI's memory manager: castable layers, partial loading, its dtypes and devices."""

from typing import Any

import torch
from torch import Tensor, nn

from ..models.handle import TEXT, UNET, VAE
from ..models.patches import LowRank, Patch, Patches
from .text import HostText


class Patchable(nn.Module):
    """What a ModelPatcher manages: weight keys start with `diffusion_model.`, and `.device` can be
    assigned.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.diffusion_model = network
        self.device = None


class ComfyHandle:
    castable = True

    def __init__(self, patcher: Any, dtype: torch.dtype):
        self.patcher, self.dtype = patcher, dtype

    @property
    def module(self) -> nn.Module:
        return self.patcher.model.diffusion_model

    def load(self, memory_required: int = 0) -> torch.device:
        import comfy.model_management as mm

        mm.load_models_gpu([self.patcher], memory_required=memory_required)
        return self.patcher.load_device

    def memory(self) -> int:
        import comfy.model_management as mm

        return mm.get_total_memory(self.patcher.load_device)

    def room(self) -> int:
        import comfy.model_management as mm

        device = self.patcher.load_device
        movable = sum(
            loaded.model_loaded_memory()
            for loaded in mm.current_loaded_models
            if loaded.device == device and loaded.model is not None
        )
        return (
            int(mm.get_free_memory(device) + movable - mm.extra_reserved_memory())
            - self.patcher.model_size()
        )

    @property
    def changes(self) -> dict[str, Any]:
        return self.patcher.patches

    def weight(self, name: str) -> Tensor:
        backup = self.patcher.backup.get(f"diffusion_model.{name}")
        return self.module.get_parameter(name).data if backup is None else backup.weight

    def patched(self, patches: Patches, strength: float) -> "ComfyHandle":
        patcher = self.patcher.clone()
        patcher.add_patches(
            {f"diffusion_model.{name}": _host_patch(patch) for name, patch in patches.items()},
            strength,
        )
        return ComfyHandle(patcher, self.dtype)


def _host_patch(patch: Patch) -> Any:
    """A patch in the host's own terms, so that it merges, stacks and streams it as it does any
    LoRA.
    """
    from comfy.weight_adapter import LoRAAdapter

    if isinstance(patch, LowRank):
        return LoRAAdapter(set(), (patch.up, patch.down, patch.alpha, None, None, None))
    return "diff", (patch.difference,)


class ComfyRuntime:
    """ComfyUI's memory manager: castable layers, partial loading, its dtypes and devices."""

    def ops(self, storage: torch.dtype | None = None, fast: bool = False) -> Any:
        """Castable layers; for fp8 storage the host's choice, which `fast` asks to multiply in fp8
        where the device can (as its own option --fast does).
        """
        import comfy.ops

        if storage is None or storage.itemsize > 1:
            return comfy.ops.manual_cast
        return comfy.ops.pick_operations(
            storage, torch.bfloat16, load_device=self.device, fp8_optimizations=fast
        )

    def dtypes(
        self, role: str, requested: torch.dtype | None, parameters: int
    ) -> tuple[torch.dtype, torch.dtype]:
        """Storage and compute dtype: the host's choice, or the user's storage and what the device
        computes it in.
        """
        import comfy.model_management as mm

        if role == TEXT:  # computed in float32 from any storage, as the host does
            return requested or mm.text_encoder_dtype(mm.text_encoder_device()), torch.float32
        if role == VAE:
            dtype = requested or mm.vae_dtype(mm.vae_device(), [torch.bfloat16, torch.float32])
            return dtype, dtype
        supported = [torch.float16, torch.bfloat16, torch.float32]
        storage = requested or mm.unet_dtype(model_params=parameters, supported_dtypes=supported)
        compute = mm.unet_manual_cast(storage, self.device, supported)
        return storage, compute or storage

    @property
    def device(self) -> torch.device:
        """Where UNets compute."""
        import comfy.model_management as mm

        return mm.get_torch_device()

    def build_text(self, kind: str, config: dict[str, Any]) -> nn.Module:
        return HostText(kind, config)

    def manage(self, role: str, module: nn.Module, dtype: torch.dtype) -> ComfyHandle:
        import comfy.model_management as mm
        import comfy.model_patcher
        from comfy.patcher_extension import CallbacksMP

        places = {
            UNET: (mm.get_torch_device, mm.unet_offload_device),
            VAE: (mm.vae_device, mm.vae_offload_device),
            TEXT: (mm.text_encoder_device, mm.text_encoder_offload_device),
        }[role]
        # Looked up now: newer hosts put their dynamic patcher here at start-up.
        cls = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
        patcher = cls(Patchable(_castable(module)), *(place() for place in places))
        patcher.add_callback(CallbacksMP.ON_LOAD, _move_rest)
        return ComfyHandle(patcher, dtype)


def _castable(module: nn.Module) -> nn.Module:
    """Turns torch's own layers (of diffusers' VAE) into the host's castable ones, in place."""
    import comfy.ops

    for layer in module.modules():
        twin = (
            getattr(comfy.ops.manual_cast, type(layer).__name__, None)
            if type(layer).__module__.startswith("torch.nn")
            else None
        )
        if twin is not None and getattr(layer, "weight", None) is not None:
            layer.__class__ = twin
            if not hasattr(layer, "bias"):
                layer.bias = None
    return module


def _move_rest(patcher: Any, device: torch.device, *_: Any) -> None:
    """Partial loading moves castable layers only: buffers and lone parameters follow here."""
    for module in patcher.model.modules():
        if not hasattr(module, "comfy_cast_weights"):
            module._apply(lambda t: t.to(device), recurse=False)
