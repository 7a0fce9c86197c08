"""Show1InterpolateVideo."""

from typing import Any

from comfy_api.latest import io

from ..show1_engine.films import STRETCH
from ..show1_engine.films.steps import Interpolate
from ..show1_engine.host.films import made
from ..show1_engine.stages.interpolate import InterpolateSettings
from .interpolate import asked, rate_inputs
from .schema import (
    cfg_input,
    cut_aware_input,
    model_input,
    negative_input,
    positive_input,
    preset_input,
    reuse_input,
    sampler_input,
    schema,
    seed_input,
    steps_input,
    stretch_input,
    tiling_input,
    video_input,
    video_output,
)
from .sockets import linked_video

STAGE = "Show1InterpolateVideo"
_DEFAULTS = InterpolateSettings()


class Show1InterpolateVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id=STAGE,
            display_name="Interpolate a Film (Show-1)",
            description="New frames between every two of a video of any length, from file to file, "
            "shot by shot. What was cancelled goes on where it was.",
            search_aliases=["show1", "show-1", "long video", "film", "frame interpolation"],
            inputs=[
                model_input("An interpolation model (show-1-interpolation)"),
                video_input(),
                positive_input("T5"),
                negative_input("The released script leaves it empty here."),
                steps_input(_DEFAULTS.steps),
                cfg_input(_DEFAULTS.cfg),
                seed_input(changes=False),
                sampler_input(),
                tiling_input(),
                cut_aware_input(
                    "over a cut the last frame is held, nothing is invented between two scenes"
                ),
                preset_input(),
                *rate_inputs(),
                reuse_input(),
                stretch_input(),
            ],
            outputs=[io.Video.Output(display_name="video")],
            advanced=("sampler", "tiling", "cut_aware", "target_fps", "reuse", "stretch"),
        )

    @classmethod
    def execute(
        cls, video: Any, stretch: int = STRETCH, target_fps: float = 0.0, **inputs: Any
    ) -> io.NodeOutput:
        work = asked(**inputs)
        linked_video(STAGE, video)
        path = made(
            STAGE,
            video,
            [Interpolate(**work)],
            cuts=work["settings"].cuts,
            stretch=stretch,
            fps=target_fps,
        )
        return video_output(path)
