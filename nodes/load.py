"""Show1LoadModel and Show1LoadTextEncoder."""

from collections.abc import Callable
from pathlib import Path

import torch
from comfy_api.latest import io

from ..show1_engine.bundled import EDITIONS
from ..show1_engine.checkpoints.find import Found, find_text_encoders, list_models
from ..show1_engine.checkpoints.registry import ABSENT, absent, advice
from ..show1_engine.errors import CheckpointError, printable
from ..show1_engine.host.folders import model_folders
from ..show1_engine.host.memory import ComfyRuntime
from ..show1_engine.loading import DTYPES, UNET_DTYPES, load_model, load_text_encoder
from .schema import schema
from .sockets import Model, TextEncoder

UNUSABLE = " (cannot be used: Run says why)"  # behind the names of models that are there


def _options(found: dict[str, Found], text_encoders: bool = False) -> list[str]:
    """What is there, then what is there but cannot be used and the published ones that are not
    there, marked.
    """
    return [
        *(name + UNUSABLE * bool(item.reason) for name, item in found.items()),
        *absent(found, text_encoders),
    ]


def _bare(name: str) -> str:
    return name.removesuffix(ABSENT).removesuffix(UNUSABLE)


def _models() -> dict[str, Found]:
    """Those that cannot be used come last."""
    return {**_bundled(list_models), **list_models(model_folders())}


def _text_encoders() -> dict[str, Found]:
    return {**_bundled(find_text_encoders), **find_text_encoders(model_folders())}


def _bundled(find: Callable[[list[Path]], dict[str, Found]]) -> dict[str, Found]:
    return {
        f"{edition}/{name}": item
        for edition, bundled in EDITIONS.items()
        for name, item in find([bundled.folder]).items()
    }


def _missing(found: dict[str, Found], name: str) -> str | None:
    """Why there is no model of that name, or none that can be used, and the way out; None if there
    is one.
    """
    if not isinstance(name, str):
        shown = printable(name, 100)
        return f"the model's name is {shown}, which is no text. Choose one from the list"
    if item := found.get(_bare(name)):
        return f"'{_bare(name)}' cannot be used: {item.reason}" if item.reason else None
    if known := advice(name):
        return known
    there = printable(
        ", ".join(name for name, item in found.items() if not item.reason) or "none", 400
    )
    return (
        f"there is no '{printable(name, 200)}'. Put it into models/show1 as a diffusers-layout "
        f"folder (or a .safetensors from 'convert') and press R. Found: {there}"
    )


def _chosen(node: str, found: dict[str, Found], name: str) -> Found:
    if missing := _missing(found, name):
        raise CheckpointError(f"{node}: {missing}")
    return found[_bare(name)]


def _valid(found: dict[str, Found], name: str | None) -> bool | str:
    """For the host, which asks when Run is pressed: before any stage has worked. A linked name is
    not known yet.
    """
    return name is None or _missing(found, name) or True


def _dtype_input(dtypes: dict[str, torch.dtype | None], more: str = "") -> io.Input:
    return io.Combo.Input(
        "weight_dtype",
        options=list(dtypes),
        default="default",
        optional=True,
        tooltip='How the weights are kept in memory. "default" is ComfyUI\'s choice for the '
        f"device; fp8 halves fp16 at some loss of quality.{more}",
    )


class Show1LoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="Show1LoadModel",
            display_name="Load Show-1 Model",
            description="Loads one model of the Show-1 cascade: keyframes, interpolation, "
            "super-resolution or the latent expert.",
            search_aliases=["show1", "show-1", "text to video", "load model"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=_options(_models()),
                    tooltip="Models in models/show1 and models/diffusers, and the bundled micro "
                    "ones.",
                ),
                _dtype_input(
                    UNET_DTYPES,
                    " fp8_e4m3fn_fast also multiplies in fp8 on cards that can (from RTX 40 on).",
                ),
                io.Boolean.Input(
                    "compile",
                    default=False,
                    optional=True,
                    tooltip="Fuse the model's operations with torch.compile. The first run, and "
                    "the first of another size, takes minutes longer, the later ones less time. "
                    "Needs Triton.",
                ),
            ],
            outputs=[Model.Output(display_name="model")],
            advanced=("weight_dtype", "compile"),
        )

    @classmethod
    def validate_inputs(cls, model_name: str | None = None) -> bool | str:
        return _valid(_models(), model_name)

    @classmethod
    def execute(
        cls, model_name: str, weight_dtype: str = "default", compile: bool = False
    ) -> io.NodeOutput:
        found = _chosen("Show1LoadModel", _models(), model_name)
        return io.NodeOutput(
            load_model(
                found.path, ComfyRuntime(), weight_dtype, name=_bare(model_name), compiled=compile
            )
        )


class Show1LoadTextEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="Show1LoadTextEncoder",
            display_name="Load Show-1 Text Encoder",
            description="Loads the text encoder that lies with a model: T5 for the pixel stages, "
            "OpenCLIP for the latent expert. Core CLIPLoader with a t5xxl file serves as well as "
            "T5.",
            search_aliases=["show1", "t5", "openclip"],
            inputs=[
                io.Combo.Input(
                    "name",
                    options=_options(_text_encoders(), True),
                    tooltip="Folders with text_encoder and tokenizer in models/show1 and "
                    "models/diffusers, and the bundled micro ones.",
                ),
                _dtype_input(DTYPES),
            ],
            outputs=[TextEncoder.Output(display_name="text_encoder")],
            advanced=("weight_dtype",),
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return _valid(_text_encoders(), name)

    @classmethod
    def execute(cls, name: str, weight_dtype: str = "default") -> io.NodeOutput:
        found = _chosen("Show1LoadTextEncoder", _text_encoders(), name)
        return io.NodeOutput(load_text_encoder(found.path, ComfyRuntime(), weight_dtype, name=name))
