"""Show1CompareClips."""

from typing import Any

from comfy_api.latest import io

from ..show1_engine.pictures import MODES, compared
from .schema import clip_input, frames_output, schema
from .sockets import clip_frames

STAGE = "Show1CompareClips"


class Show1CompareClips(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id=STAGE,
            display_name="Compare Clips",
            description="Two clips as one: side by side, with a wipe between them, or as their "
            "difference. The smaller is enlarged, the shorter holds its last frame.",
            search_aliases=["show1", "compare", "before after", "side by side", "wipe"],
            inputs=[
                clip_input("a", tooltip="The one on the left: frames or a video."),
                clip_input("b", tooltip="The one on the right: frames or a video."),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=MODES[0],
                    tooltip="Beside each other; a line with A on its left and B on its right; or "
                    "four times B - A around grey.",
                ),
                io.Float.Input(
                    "position",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Where the wipe's line is, as a share of the width: 0 (all B) to 1 "
                    "(all A).",
                ),
                io.String.Input("label_a", default="A", tooltip="Words on A; empty: none."),
                io.String.Input("label_b", default="B", tooltip="Words on B; empty: none."),
            ],
            outputs=[io.Image.Output(display_name="images")],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls, a: Any, b: Any, mode: str, position: float, label_a: str, label_b: str
    ) -> io.NodeOutput:
        labels = label_a, label_b
        left, right = (clip_frames(STAGE, name, clip) for name, clip in (("a", a), ("b", b)))
        return frames_output(compared(left, right, mode, position=position, labels=labels))
