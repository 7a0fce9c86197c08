"""Show1Interpolate."""

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..show1_engine.host.ui import ComfyReport
from ..show1_engine.models.bundle import Show1Model
from ..show1_engine.stages.interpolate import FACTOR, STAGE, InterpolateSettings, interpolate
from ..show1_engine.stages.keyframes import FPS
from .schema import (
    cfg_input,
    cut_aware_input,
    frames_output,
    images_input,
    model_input,
    negative_input,
    positive_input,
    preset_input,
    sampler_input,
    schema,
    seed_input,
    steps_input,
    tiling_input,
)
from .sockets import Conditioning, texts

_DEFAULTS = InterpolateSettings()


class Show1Interpolate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="Show1Interpolate",
            display_name="Interpolate Frames (Show-1)",
            description="Three new frames between every two: F frames become 4(F-1)+1, at four "
            "times the rate.",
            search_aliases=["show1", "show-1", "frame interpolation", "slow motion", "fps"],
            inputs=[
                model_input("An interpolation model (show-1-interpolation)"),
                images_input(),
                positive_input("T5"),
                negative_input("The released script leaves it empty here."),
                steps_input(_DEFAULTS.steps),
                cfg_input(_DEFAULTS.cfg),
                seed_input(),
                io.Float.Input(
                    "fps",
                    default=FPS,
                    min=0.01,
                    max=240.0,
                    step=0.01,
                    optional=True,
                    tooltip="Frames per second of the input, 0.01 to 240; connect it from the node "
                    "that made or loaded the frames. The output has four times as many.",
                ),
                sampler_input(),
                tiling_input(),
                cut_aware_input(
                    "over a cut the last frame is held, nothing is invented between two scenes"
                ),
                preset_input(),
            ],
            outputs=[io.Image.Output(display_name="images"), io.Float.Output(display_name="fps")],
            advanced=("sampler", "tiling", "cut_aware"),
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        model: Show1Model,
        images: Tensor,
        positive: Conditioning,
        negative: Conditioning | None = None,
        fps: float = FPS,
        cut_aware: bool = True,
        **sampling: Any,
    ) -> io.NodeOutput:
        settings = InterpolateSettings(cuts=cut_aware, **sampling)
        text = texts(STAGE, positive, negative)
        images = interpolate(model, images, *text, settings=settings, report=ComfyReport())
        return frames_output(images, fps * FACTOR)
