"""Show1MotionLoRA."""

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..show1_engine.errors import InputError
from ..show1_engine.host.folders import lora_names, lora_path, modified
from ..show1_engine.lora.formats import lora_from, read_lora
from ..show1_engine.lora.merging import with_motion
from ..show1_engine.models.bundle import Show1Model
from .schema import model_input, schema
from .sockets import Model, linked, loaded

_NONE = "none"


class Show1MotionLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="Show1MotionLoRA",
            display_name="Apply Show-1 Motion LoRA",
            description="Adds a learned motion to a model: changes of its temporal layers. Several "
            "can follow one another, in any order.",
            search_aliases=["show1", "show-1", "motion lora", "motion director", "customize"],
            inputs=[
                model_input(
                    "The model the LoRA was trained on: usually the keyframe model; interpolation "
                    "and the latent expert work too"
                ),
                io.Combo.Input(
                    "lora_name",
                    options=[_NONE, *lora_names()],
                    tooltip="A file in models/loras or output/loras (where Save LoRA Weights puts "
                    "it). Not used when lora is connected.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How much of the motion, -10 to 10. 0 is exactly off, 1 as trained; "
                    "negative values lead away from it.",
                ),
                io.LoraModel.Input(
                    "lora", optional=True, tooltip="A LoRA straight from Train Show-1 Motion LoRA."
                ),
            ],
            outputs=[Model.Output(display_name="model")],
        )

    @classmethod
    def execute(
        cls,
        model: Show1Model,
        lora_name: str,
        strength: float,
        lora: dict[str, Tensor] | None = None,
    ) -> io.NodeOutput:
        loaded("Show1MotionLoRA", model)
        if lora is not None:
            linked("Show1MotionLoRA", "lora", lora, kind=dict, source="Train Show-1 Motion LoRA")
            return io.NodeOutput(
                with_motion(model, lora_from(lora, model, "the connected LoRA"), strength)
            )
        if lora_name in (_NONE, None):
            raise InputError(
                "Show1MotionLoRA: 'lora_name' is 'none' and no 'lora' is connected; choose a file, "
                "or connect Train Show-1 Motion LoRA"
            )
        return io.NodeOutput(with_motion(model, read_lora(lora_path(lora_name), model), strength))

    @classmethod
    def fingerprint_inputs(cls, lora_name: str, **_: Any) -> float:
        """A file that was written anew is read anew."""
        return 0.0 if lora_name == _NONE else modified(lora_name)
