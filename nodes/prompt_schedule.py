"""Show1PromptSchedule."""

from typing import Any

from comfy_api.latest import io

from ..show1_engine.host.text import states_of
from ..show1_engine.stages.keyframes import FPS
from ..show1_engine.stages.prompts import scheduled_prompts
from .schema import schema
from .sockets import conditioning
from .text import clean_caption_input, text_encoder_input

STAGE = "Show1PromptSchedule"


class Show1PromptSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id=STAGE,
            display_name="Schedule Show-1 Prompts",
            description="Prompts that change over a clip, one line each. Every stage reads the one "
            "in the middle of each of its windows.",
            search_aliases=["show1", "prompt travel", "prompt scheduling", "prompts over time"],
            inputs=[
                text_encoder_input(),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default="0: a red circle moving left\n16: a blue square moving left",
                    tooltip="A line for each prompt with the frame it begins at, such as "
                    "'16: a blue square', or the second, '8s: a blue square'.",
                ),
                io.Int.Input(
                    "num_frames",
                    default=32,
                    min=1,
                    max=4096,
                    tooltip="Frames of the clip as the lines count them, 1 to 4096: the keyframes' "
                    "num_frames. Later stages read the same moments.",
                ),
                io.Int.Input(
                    "transition",
                    default=2,
                    min=0,
                    max=256,
                    tooltip="Frames over which a prompt turns into the next, 0 (at once) to 256, "
                    "around the later one's beginning.",
                ),
                io.Float.Input(
                    "fps",
                    default=FPS,
                    min=0.01,
                    max=240.0,
                    step=0.01,
                    optional=True,
                    tooltip="Frames per second, 0.01 to 240, for lines in seconds.",
                ),
                clean_caption_input(),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning")],
            advanced=("fps", "clean_caption"),
        )

    @classmethod
    def execute(
        cls,
        text_encoder: Any,
        prompts: str,
        num_frames: int,
        transition: int,
        fps: float = FPS,
        clean_caption: bool = False,
    ) -> io.NodeOutput:
        schedule = scheduled_prompts(
            STAGE,
            prompts,
            num_frames,
            fps=fps,
            transition=transition,
            encode=lambda texts: states_of(text_encoder, texts, clean_caption),
        )
        return io.NodeOutput(conditioning(schedule, states_of(text_encoder, [""], clean_caption)))
