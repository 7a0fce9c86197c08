"""Show1RefineVideo."""

from typing import Any

from comfy_api.latest import io

from ..show1_engine.films import STRETCH
from ..show1_engine.films.steps import Refine
from ..show1_engine.host.films import made
from .latent_expert_sr import ADVANCED, asked, inputs
from .schema import (
    reuse_input,
    schema,
    seed_input,
    stretch_input,
    video_input,
    video_output,
)
from .sockets import linked_video

STAGE = "Show1RefineVideo"


class Show1RefineVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id=STAGE,
            display_name="Refine a Film (Show-1 Latent Expert)",
            description="Redraws the detail of a video of any length in latent space, from file to "
            "file, shot by shot. What was cancelled goes on where it was.",
            search_aliases=["show1", "show-1", "long video", "film", "refine"],
            inputs=[
                *inputs(video_input(), seed_input(changes=False)),
                reuse_input(),
                stretch_input(),
            ],
            outputs=[io.Video.Output(display_name="video")],
            advanced=(*ADVANCED, "stretch"),
        )

    @classmethod
    def execute(cls, video: Any, stretch: int = STRETCH, **inputs: Any) -> io.NodeOutput:
        work = asked(**inputs)
        linked_video(STAGE, video)
        path = made(STAGE, video, [Refine(**work)], cuts=work["settings"].cuts, stretch=stretch)
        return video_output(path)
