"""Show1PickClip."""

from comfy_api.latest import io
from torch import Tensor

from ..show1_engine.pictures import picked_clip
from .schema import frames_output, images_input, schema
from .sockets import linked


class Show1PickClip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="Show1PickClip",
            display_name="Pick a Show-1 Draft",
            description="One of several drafts, by its number on the keyframe node's picture.",
            search_aliases=["show1", "draft", "pick", "choose", "seed"],
            inputs=[
                images_input(),
                io.Int.Input(
                    "clips",
                    default=4,
                    min=1,
                    max=64,
                    tooltip="How many clips there are, 1 to 64: the keyframe node's drafts.",
                ),
                io.Int.Input(
                    "number",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Which of them goes on, counted from 1. Its seed is the keyframe "
                    "node's seed + number - 1.",
                ),
            ],
            outputs=[io.Image.Output(display_name="images")],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, images: Tensor, clips: int, number: int) -> io.NodeOutput:
        return frames_output(
            picked_clip(
                linked("Show1PickClip", "images", images, kind=Tensor, source="frames (IMAGE)"),
                clips,
                number,
            )
        )
