"""Show1GivenFrames."""

from typing import Any

from comfy_api.latest import io

from ..show1_engine.stages.given import GivenFrames, parsed_indices
from .schema import clip_input, schema
from .sockets import Given, clip_frames

STAGE = "Show1GivenFrames"


class Show1GivenFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id=STAGE,
            display_name="Give Show-1 Keyframes",
            description="Frames that a clip is to contain: the first (image to video), first and "
            "last (in-between), the last few of another clip (to go on from it), or all but one "
            "(to mend that one).",
            search_aliases=[
                "show1",
                "image to video",
                "i2v",
                "first frame",
                "last frame",
                "extend",
            ],
            inputs=[
                clip_input("images", tooltip="The frames, in any size; a video's if it is one."),
                io.String.Input(
                    "indices",
                    default="",
                    tooltip="Which frame of the clip each of them is: numbers from 0, such as "
                    "0, 7, -1 (the last) or 0-3. Empty: the first ones.",
                ),
                io.Int.Input(
                    "take_last",
                    default=0,
                    min=0,
                    max=256,
                    tooltip="Take only so many from the end of images, 0 (all) to 256: with 4, and "
                    "indices empty, the new clip goes on from the old one's last 4.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Share of the steps during which they are held, 0 to 1. At 1 they come "
                    "back exactly; less lets the model redraw them.",
                ),
                io.Int.Input(
                    "harmonise",
                    default=0,
                    min=0,
                    max=10,
                    tooltip="How often each step is repeated so that the other frames agree with "
                    "them, 0 to 10; each time costs as much as the run.",
                ),
            ],
            outputs=[Given.Output(display_name="given")],
        )

    @classmethod
    def execute(
        cls, images: Any, indices: str, take_last: int, strength: float, harmonise: int
    ) -> io.NodeOutput:
        frames = clip_frames(STAGE, "images", images)
        frames = frames[-take_last:] if take_last else frames
        places = parsed_indices(STAGE, indices, len(frames))
        return io.NodeOutput(GivenFrames(frames, places, strength, harmonise=harmonise))
