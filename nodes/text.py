"""Show1TextEncode."""

from typing import Any

from comfy_api.latest import io

from ..show1_engine.host.text import states_of
from .schema import schema
from .sockets import TextEncoder, conditioning


def text_encoder_input() -> io.Input:
    return io.MultiType.Input(
        "text_encoder",
        types=[TextEncoder, io.Clip],
        tooltip="From Load Show-1 Text Encoder, or a core CLIP that holds t5-v1_1-xxl or "
        "OpenCLIP-H.",
    )


def clean_caption_input() -> io.Input:
    return io.Boolean.Input(
        "clean_caption",
        default=False,
        optional=True,
        tooltip="Strip web debris (links, tags, hashes) from a T5 prompt first.",
    )


class Show1TextEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="Show1TextEncode",
            display_name="Encode Show-1 Text",
            description="Encodes a prompt for the stages: with T5 for keyframes, interpolation and "
            "pixel super-resolution, with OpenCLIP for the latent expert.",
            search_aliases=["show1", "prompt", "text encode"],
            inputs=[
                text_encoder_input(),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip="The prompt; 77 tokens are read. Weights such as (red:1.3) are plain "
                    "text here.",
                ),
                clean_caption_input(),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning")],
            advanced=("clean_caption",),
        )

    @classmethod
    def execute(cls, text_encoder: Any, text: str, clean_caption: bool = False) -> io.NodeOutput:
        # The empty prompt goes along for stages whose negative is not connected.
        states = states_of(text_encoder, [text, ""], clean_caption)
        return io.NodeOutput(conditioning(states[:1], states[1:]))
