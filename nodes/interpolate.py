"""Show1Interpolate."""

from dataclasses import replace
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..show1_engine.errors import one_of
from ..show1_engine.host.ui import ComfyReport, show_text
from ..show1_engine.models.bundle import Show1Model
from ..show1_engine.stages.interpolate import FACTORS, STAGE, InterpolateSettings, interpolate, rate
from ..show1_engine.stages.keyframes import FPS
from .schema import (
    cfg_input,
    cut_aware_input,
    frames_output,
    images_input,
    loop_input,
    model_input,
    negative_input,
    positive_input,
    preset_input,
    reuse_input,
    sampler_input,
    schema,
    seed_input,
    steps_input,
    tiling_input,
)
from .sockets import Conditioning, linked, loaded, texts

_DEFAULTS = InterpolateSettings()


def rate_inputs() -> list[io.Input]:
    """How many frames there are to be, and which of them are the given ones."""
    return [
        io.Combo.Input(
            "factor",
            options=[str(factor) for factor in FACTORS],
            default=str(_DEFAULTS.factor),
            optional=True,
            tooltip="New rate over the old one. The model's own is 4; 2 is every second frame of "
            "that, 8 and 16 are made in two passes.",
        ),
        io.Float.Input(
            "target_fps",
            default=0.0,
            min=0.0,
            max=3840.0,
            step=0.01,
            optional=True,
            tooltip="Frames per second of the result, up to 16 times fps; 0: by factor. The frames "
            "nearest in time are taken, and the node says how near they are.",
        ),
        io.Boolean.Input(
            "keep_given",
            default=_DEFAULTS.keep_given,
            optional=True,
            tooltip="The given frames come back exactly as they are; else the model redraws them.",
        ),
    ]


def asked(
    model: Show1Model,
    positive: Conditioning,
    negative: Conditioning | None = None,
    cut_aware: bool = True,
    factor: str = str(_DEFAULTS.factor),
    **sampling: Any,
) -> dict[str, Any]:
    """The inputs' values, checked, as the engine's functions take them."""
    states, avoided = texts(STAGE, positive, negative)
    model = loaded(STAGE, model)
    one_of(f"{STAGE}: factor", factor, [str(known) for known in FACTORS])
    settings = InterpolateSettings(cuts=cut_aware, factor=int(factor), **sampling)
    return {"model": model, "positive": states, "negative": avoided, "settings": settings}


class Show1Interpolate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="Show1Interpolate",
            display_name="Interpolate Frames (Show-1)",
            description="New frames between every two, three of them as the model was trained: F "
            "frames become 4(F-1)+1, at four times the rate.",
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
                    "that made or loaded the frames. The output has factor times as many.",
                ),
                sampler_input(),
                tiling_input(),
                cut_aware_input(
                    "over a cut the last frame is held, nothing is invented between two scenes"
                ),
                preset_input(),
                *rate_inputs(),
                loop_input("frames between the last and the first too, so factor x F in all"),
                reuse_input(),
            ],
            outputs=[io.Image.Output(display_name="images"), io.Float.Output(display_name="fps")],
            advanced=("sampler", "tiling", "cut_aware", "target_fps", "loop", "reuse"),
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls, images: Tensor, fps: float = FPS, target_fps: float = 0.0, **inputs: Any
    ) -> io.NodeOutput:
        work = asked(**inputs)
        settings = work.pop("settings")
        frames = len(linked(STAGE, "images", images, kind=Tensor, source="frames (IMAGE)"))
        work |= {"images": images, "report": ComfyReport()}
        if not target_fps:
            return frames_output(interpolate(settings=settings, **work), fps * settings.factor)
        to = rate(frames, fps, target_fps, loop=settings.loop)
        made = interpolate(settings=replace(settings, factor=to.factor), **work)
        show_text(f"{len(to.frames)} frames at {target_fps:g} fps, {to.told}")
        return frames_output(made[to.frames], target_fps)
