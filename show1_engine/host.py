"""The one module that knows ComfyUI: devices, memory manager, folders, progress, cancel.

A runtime says which layers models are built from, in which dtypes, and manages where they live. `PlainRuntime` is
plain torch on one device; `ComfyRuntime` hands everything to ComfyUI's memory manager. Both give out handles.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from einops import rearrange
from torch import Generator, Tensor, nn

from .errors import InputError, printable
from .models.patches import LowRank, Patch, Patches, patched

log = logging.getLogger(__name__)

UNET, TEXT, VAE = "unet", "text", "vae"  # a network's role: the host has a dtype and a device for each
# Running out of the device's memory is a RuntimeError; a cancel, in the host, derives from Exception alone.
_PREVIEW_FAULTS = (RuntimeError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, OSError,
                   MemoryError, AssertionError)
_FRAMES_AT_ONCE = 16  # handed to a host VAE, which batches by free memory itself


class Handle(Protocol):
    """A network whose place in memory is somebody else's business."""

    module: nn.Module
    dtype: torch.dtype  # what it computes in
    castable: bool  # whether its layers follow the dtype they are fed

    def load(self, memory_required: int) -> torch.device:
        """Makes the network ready, with `memory_required` bytes left for activations; returns where it computes."""

    def memory(self) -> int:
        """Bytes the device has, in all."""

    def room(self) -> int:
        """Bytes for activations if the device held all of this network's weights, and none of other models."""

    def weight(self, name: str) -> Tensor:
        """A weight as the checkpoint has it, whatever is patched now."""

    def patched(self, patches: Patches, strength: float) -> "Handle":
        """Another handle on the same network, with these patches over the ones this handle has."""


def main_memory() -> int:
    """Bytes of main memory there are, in all."""
    import psutil

    return psutil.virtual_memory().total


class PlainHandle:
    castable = False

    def __init__(self, module: nn.Module, dtype: torch.dtype, runtime: "PlainRuntime",
                 patches: tuple[tuple[Patches, float], ...] = ()):
        self.module, self.dtype, self._runtime, self._patches = module, dtype, runtime, patches

    def load(self, memory_required: int = 0) -> torch.device:
        self._runtime.make_resident(self.module)
        self._runtime.patch(self.module, self._patches)
        return self._runtime.device

    def weight(self, name: str) -> Tensor:
        return self._runtime.original(self.module, name)

    def patched(self, patches: Patches, strength: float) -> "PlainHandle":
        return PlainHandle(self.module, self.dtype, self._runtime, (*self._patches, (patches, strength)))

    def memory(self) -> int:
        if self._runtime.device.type == "cuda":
            return torch.cuda.mem_get_info(self._runtime.device)[1]
        return main_memory()

    def room(self) -> int:
        weights = sum(parameter.nbytes for parameter in self.module.parameters())
        if self._runtime.device.type == "cuda":  # what torch holds there is ours to move out
            free = torch.cuda.mem_get_info(self._runtime.device)[0]
            return free + torch.cuda.memory_reserved(self._runtime.device) - weights
        return self.memory() // 2 - weights


class PlainRuntime:
    """Plain torch: one model at a time on the device, the others in main memory."""

    def __init__(self, device: str = "cpu", dtype: torch.dtype = torch.float32):
        self.device, self.dtype = torch.device(device), dtype
        self._resident: nn.Module | None = None
        self._patches: WeakKeyDictionary[nn.Module, tuple] = WeakKeyDictionary()  # what is in the weights now
        self._originals: WeakKeyDictionary[nn.Module, dict[str, Tensor]] = WeakKeyDictionary()

    def ops(self, storage: torch.dtype | None = None, fast: bool = False) -> Any:
        """What layers are taken from."""
        return nn

    def dtypes(self, role: str, requested: torch.dtype | None, parameters: int) -> tuple[torch.dtype, torch.dtype]:
        """Storage and compute dtype: the same one, since nothing casts layers here."""
        dtype = requested or self.dtype
        if dtype.itemsize == 1:
            raise InputError("fp8 storage needs ComfyUI's castable layers; use fp32, fp16 or bf16 here")
        return dtype, dtype

    def build_text(self, kind: str, config: dict[str, Any]) -> nn.Module:
        from .models.text import TransformersText

        return TransformersText(kind, config)

    def manage(self, role: str, module: nn.Module, dtype: torch.dtype) -> PlainHandle:
        return PlainHandle(module, dtype, self)

    def make_resident(self, module: nn.Module) -> None:
        if self._resident is not None and self._resident is not module:
            self._resident.to("cpu")
        self._resident = module.to(self.device)

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


class Patchable(nn.Module):
    """What a ModelPatcher manages: weight keys start with `diffusion_model.`, and `.device` can be assigned."""

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
        movable = sum(loaded.model_loaded_memory() for loaded in mm.current_loaded_models
                      if loaded.device == device and loaded.model is not None)
        return int(mm.get_free_memory(device) + movable - mm.extra_reserved_memory()) - self.patcher.model_size()

    def weight(self, name: str) -> Tensor:
        backup = self.patcher.backup.get(f"diffusion_model.{name}")
        return self.module.get_parameter(name).data if backup is None else backup.weight

    def patched(self, patches: Patches, strength: float) -> "ComfyHandle":
        patcher = self.patcher.clone()
        patcher.add_patches({f"diffusion_model.{name}": _host_patch(patch) for name, patch in patches.items()},
                            strength)
        return ComfyHandle(patcher, self.dtype)


def _host_patch(patch: Patch) -> Any:
    """A patch in the host's own terms, so that it merges, stacks and streams it as it does any LoRA."""
    from comfy.weight_adapter import LoRAAdapter

    if isinstance(patch, LowRank):
        return LoRAAdapter(set(), (patch.up, patch.down, patch.alpha, None, None, None))
    return "diff", (patch.difference,)


class ComfyRuntime:
    """ComfyUI's memory manager: castable layers, partial loading, its dtypes and devices."""

    def ops(self, storage: torch.dtype | None = None, fast: bool = False) -> Any:
        """Castable layers; for fp8 storage the host's choice, which `fast` asks to multiply in fp8 where the device
        can (as its own option --fast does)."""
        import comfy.ops

        if storage is None or storage.itemsize > 1:
            return comfy.ops.manual_cast
        return comfy.ops.pick_operations(storage, torch.bfloat16, load_device=self.device, fp8_optimizations=fast)

    def dtypes(self, role: str, requested: torch.dtype | None, parameters: int) -> tuple[torch.dtype, torch.dtype]:
        """Storage and compute dtype: the host's choice, or the user's storage and what the device computes it in."""
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
        return _ComfyText(kind, config)

    def manage(self, role: str, module: nn.Module, dtype: torch.dtype) -> ComfyHandle:
        import comfy.model_management as mm
        import comfy.model_patcher
        from comfy.patcher_extension import CallbacksMP

        places = {UNET: (mm.get_torch_device, mm.unet_offload_device), VAE: (mm.vae_device, mm.vae_offload_device),
                  TEXT: (mm.text_encoder_device, mm.text_encoder_offload_device)}[role]
        # Looked up now: newer hosts put their dynamic patcher here at start-up.
        cls = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
        patcher = cls(Patchable(_castable(module)), *(place() for place in places))
        patcher.add_callback(CallbacksMP.ON_LOAD, _move_rest)
        return ComfyHandle(patcher, dtype)


def _castable(module: nn.Module) -> nn.Module:
    """Turns torch's own layers (of diffusers' VAE) into the host's castable ones, in place."""
    import comfy.ops

    for layer in module.modules():
        twin = getattr(comfy.ops.manual_cast, type(layer).__name__, None) if type(layer).__module__.startswith(
            "torch.nn") else None
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


class _ComfyText(nn.Module):
    """The host's own T5 and CLIP text model as `network(ids, mask)`: castable, fp8 included."""

    def __init__(self, kind: str, config: dict[str, Any]):
        super().__init__()
        import comfy.clip_model
        import comfy.ops
        import comfy.text_encoders.t5

        self.kind = kind
        cls = {"t5": comfy.text_encoders.t5.T5, "clip": comfy.clip_model.CLIPTextModel}[kind]
        config = {"dense_act_fn": "gelu_pytorch_tanh", "is_gated_act": True, **config}
        if config["dense_act_fn"] == "gelu_new":  # the same tanh approximation by its other name
            config["dense_act_fn"] = "gelu_pytorch_tanh"
        self.model = cls(config, torch.float32, "meta", comfy.ops.manual_cast)
        if kind == "clip":
            self.model.text_projection = nn.Identity()  # the pooled output is not used
            vocabulary, width = config["vocab_size"], config["hidden_size"]  # the class assumes OpenAI's vocabulary
            self.model.set_input_embeddings(comfy.ops.manual_cast.Embedding(vocabulary, width, device="meta"))

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        if self.kind == "t5":
            return self.model(ids, attention_mask=mask, dtype=torch.float32)[0]
        return self.model(ids)[0]


class ComfyVae:
    """A VAE from the host's own loader as the latent stage's codec (Stable Diffusion 1.5's latent space)."""

    scaling = 0.18215

    def __init__(self, vae: Any):
        self._vae, self.factor = vae, 8

    def encode(self, pixels: Any, frames: int, source: Generator) -> Tensor:
        from .models.autoencoder import chunks

        seed = int(torch.randint(2**31, (), generator=source))
        with torch.random.fork_rng(devices=[]):  # the host's VAE draws its posterior noise from the global generator
            torch.manual_seed(seed)
            latents = torch.cat([self._vae.encode(rearrange(pixels(part) / 2 + 0.5, "1 c f h w -> f h w c"))
                                 for part in chunks(frames, _FRAMES_AT_ONCE)])
        if latents.ndim != 4 or latents.shape[1] != 4:
            raise InputError(f"Show1LatentExpertSR: 'vae' makes latents of shape {tuple(latents.shape)}; the expert "
                             "needs Stable Diffusion 1.5's type (4 channels, one eighth of the size)")
        return rearrange(latents.float() * self.scaling, "f c h w -> 1 c f h w")

    def decode(self, latents: Tensor) -> Iterator[tuple[slice, Tensor]]:
        from .models.autoencoder import chunks

        for part in chunks(latents.shape[2], _FRAMES_AT_ONCE):
            images = self._vae.decode(rearrange(latents[:, :, part] / self.scaling, "1 c f h w -> f c h w"))
            yield part, rearrange(images.float().cpu() * 2 - 1, "f h w c -> 1 c f h w")


def encode_with_clip(clip: Any, texts: list[str], clean_caption: bool = False) -> Tensor:
    """Text states (len(texts), 77, width) from a core CLIP that holds T5 v1.1 XXL or OpenCLIP-H.

    Equal to our own text encoders on the same weights: 77 tokens, no prompt weights, pads kept, masked inside T5 only.
    """
    from .models.text import caption, fixed

    clip.cond_stage_model.reset_clip_options()  # a "CLIP set last layer" is for other models
    held = {"t5xxl": "t5xxl", "h": "clip_h"}  # token key -> attribute
    key = next((key for key, name in held.items() if hasattr(clip.cond_stage_model, name)), None)
    if key is None:
        raise InputError("Show1TextEncode: this CLIP holds neither T5 v1.1 XXL (pixel stages) nor OpenCLIP-H (latent "
                         "expert); load a t5xxl file with CLIPLoader, or use Show1LoadTextEncoder")
    encoder = getattr(clip.cond_stage_model, held[key])
    clip.load_model()
    states = []
    for text in texts:
        text = caption(text, clean_caption) if key == "t5xxl" else fixed(text)
        tokens = clip.tokenize(text, disable_weights=True)[key]
        special = encoder.special_tokens
        states.append(_encode_tokens(encoder, _cut_to_77(tokens, special.get("start"), special["end"])))
    return torch.cat(states).float().cpu()


def _cut_to_77(chunks: list[list[tuple]], start: int | None, end: int) -> list[list[tuple]]:
    """The host's token chunks of any length as one of 77: the text cut short, its end token, pads of id 0."""
    text = []
    for chunk in chunks:
        ids = [pair[0] for pair in chunk]
        text += ids[start is not None:ids.index(end) if end in ids else len(ids)]
    ids = ([] if start is None else [start]) + text
    ids = ids[:76] + [end]
    return [[(token, 1.0) for token in ids + [0] * (77 - len(ids))]]


def _encode_tokens(encoder: Any, tokens: list[list[tuple]]) -> Tensor:
    before = encoder.enable_attention_masks, encoder.zero_out_masked
    encoder.enable_attention_masks, encoder.zero_out_masked = hasattr(encoder.transformer, "shared"), False
    try:
        return encoder.encode_token_weights(tokens)[0]
    finally:
        encoder.enable_attention_masks, encoder.zero_out_masked = before


class ComfyReport:
    """A report() that moves the node's progress bar, shows the clip so far and the time left, and stops where the user
    cancels. `plan` says beforehand what is going to be done."""

    def __init__(self) -> None:
        import comfy.utils

        self._bar = comfy.utils.ProgressBar(1)  # every update says its total
        self._plan, self._clock, self._shown, self._told = "", Clock(), 0.0, False

    def plan(self, text: str) -> None:
        self._plan = text
        show_text(text)

    def __call__(self, step: int, total: int, preview: Any = None) -> None:
        import comfy.model_management as mm

        mm.throw_exception_if_processing_interrupted()
        self._bar.update_absolute(step, total, self._shown_picture(preview) if preview else None)
        left = self._clock.left(step, total)
        if left is not None and (time.monotonic() - self._shown > 1 or step == total):
            self._shown = time.monotonic()
            show_text(f"step {step} of {total}, {duration(left)} left\n{self._plan}")  # the node shows two lines


    def _shown_picture(self, preview: Any) -> tuple[str, Any, int] | None:
        """The preview, or none where it cannot be made: a picture is no reason to lose a run. A cancel while it is
        made is none of these errors."""
        try:
            return _picture(preview())
        except _PREVIEW_FAULTS as error:
            if not self._told:
                log.warning("A preview cannot be shown (%s: %s); the run goes on.", type(error).__name__,
                            printable(error, 300))
            self._told = True
            return None


class Clock:
    """Time left, from the pace of the steps so far; the first step, which also warms up, does not count."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def left(self, step: int, total: int) -> float | None:
        """Seconds until `total`; None until there is a pace."""
        now = time.monotonic()
        if self._first is None or step <= self._first[0]:
            self._first = step, now
            return None
        return (now - self._first[1]) / (step - self._first[0]) * (total - step)


def duration(seconds: float) -> str:
    """"40 s", "12 min" or "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def show_text(text: str) -> None:
    """Text on the node that is running."""
    from comfy_execution.utils import get_executing_context
    from server import PromptServer

    context = get_executing_context()
    if context is not None and getattr(PromptServer, "instance", None) is not None:
        text = "\n".join(printable(line) for line in text.splitlines())
        PromptServer.instance.send_progress_text(text, context.node_id)


def cancelled() -> type[Exception]:
    """What a report() raises where the user cancels."""
    from comfy.model_management import InterruptProcessingException

    return InterruptProcessingException


def download_report() -> Callable[[int, int, str], None]:
    """A report(done, total, text) that moves the node's bar, shows the text on it, and stops where the user cancels."""
    import comfy.model_management as mm
    import comfy.utils

    bar = comfy.utils.ProgressBar(1)

    def report(done: int, total: int, text: str) -> None:
        mm.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)
        show_text(text)

    return report


def _picture(frames: Tensor) -> tuple[str, Any, int]:
    """Frames (F, H, W, 3) as the host's preview: one contact sheet, its longer side 512 pixels."""
    import torch.nn.functional as F
    from PIL import Image

    from .frames import contact_sheet

    frames = frames.movedim(-1, 1)
    shrink = max(1, round(max(frames.shape[2:]) * len(frames)**0.5 / 512))  # no picture larger than it is shown
    shrinks = [min(shrink, side) for side in frames.shape[2:]]
    frames = (F.avg_pool2d(frames, shrinks) if shrink > 1 else frames).movedim(1, -1)
    return "JPEG", Image.fromarray(contact_sheet(frames).numpy()), 512


def to_output(images: Tensor) -> Tensor:
    """Frames where the host keeps what flows along links."""
    import comfy.model_management as mm

    return images.to(mm.intermediate_device())


def register_folders() -> None:
    """models/show1, beside the folders extra_model_paths.yaml names for "show1"."""
    import folder_paths

    folder_paths.add_model_folder_path("show1", str(Path(folder_paths.models_dir) / "show1"))


def model_folders() -> list[Path]:
    """Where users put models: models/show1 and models/diffusers."""
    import folder_paths

    return [Path(folder) for key in ("show1", "diffusers") for folder in folder_paths.get_folder_paths(key)]


def lora_names() -> list[str]:
    """LoRA files by the names the host lists them under."""
    import folder_paths

    return folder_paths.get_filename_list("loras")


def lora_path(name: str) -> Path:
    """Where a listed LoRA lies. InputError if it is gone."""
    import folder_paths

    path = folder_paths.get_full_path("loras", name) if isinstance(name, str) else None
    if path is None:
        raise InputError(f"Show1MotionLoRA: there is no {name!r} in models/loras or output/loras; "
                         "put it there and "
                         "press R")
    return Path(path)


def modified(name: str) -> float:
    """When a listed LoRA was last written; 0 if it is gone."""
    import folder_paths

    path = folder_paths.get_full_path("loras", name) if isinstance(name, str) else None
    return 0.0 if path is None else os.path.getmtime(path)
