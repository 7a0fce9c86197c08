"""Show1Keyframes."""

from typing import Any

from comfy_api.latest import io

from ..show1_engine.host.ui import ComfyReport
from ..show1_engine.models.bundle import Show1Model
from ..show1_engine.stages.keyframes import FPS, STAGE, KeyframeSettings, keyframes
from .schema import (
    cfg_input,
    clip_frames,
    clip_input,
    frames_output,
    model_input,
    negative_input,
    positive_input,
    preset_input,
    sampler_input,
    schema,
    seed_input,
    steps_input,
)
from .sockets import Conditioning, texts

_DEFAULTS = KeyframeSettings()


class Show1Keyframes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="Show1Keyframes",
            display_name="Generate Show-1 Keyframes",
            description="Text to a few small keyframes in pixel space, where Show-1 keeps text and "
            "picture together.",
            search_aliases=["show1", "show-1", "text to video", "t2v"],
            inputs=[
                model_input("A keyframe model (show-1-base)"),
                positive_input("T5"),
                negative_input("The released script leaves it empty here."),
                io.Int.Input(
                    "width",
                    default=_DEFAULTS.width,
                    min=8,
                    max=1024,
                    tooltip="Pixels, 8 to 1024; the model was trained on 64.",
                ),
                io.Int.Input(
                    "height",
                    default=_DEFAULTS.height,
                    min=8,
                    max=1024,
                    tooltip="Pixels, 8 to 1024; the model was trained on 40.",
                ),
                io.Int.Input(
                    "num_frames",
                    default=_DEFAULTS.num_frames,
                    min=1,
                    max=256,
                    tooltip="Keyframes, 1 to 256, two per second; the model was trained on 8.",
                ),
                steps_input(_DEFAULTS.steps),
                cfg_input(_DEFAULTS.cfg),
                seed_input(),
                sampler_input(),
                clip_input(
                    "motion_from",
                    optional=True,
                    tooltip="A clip to start from, frames or a video: sampling begins at the "
                    "noise it inverts to, which carries its motion along. Doubles "
                    "the time.",
                ),
                io.Float.Input(
                    "motion_mix",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="Share of motion_from in the starting noise, 0 (none) to 1 (no random "
                    "noise at all). 0.1 to 0.5 beside a motion LoRA; more takes over looks too.",
                ),
                preset_input(),
            ],
            outputs=[io.Image.Output(display_name="images"), io.Float.Output(display_name="fps")],
            advanced=("sampler", "motion_mix"),
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        model: Show1Model,
        positive: Conditioning,
        negative: Conditioning | None = None,
        motion_from: Any = None,
        motion_mix: float = 0.5,
        **sampling: Any,
    ) -> io.NodeOutput:
        settings = KeyframeSettings(**sampling)
        text = texts(STAGE, positive, negative)
        clip = None if motion_from is None else clip_frames(motion_from)
        images = keyframes(
            model,
            *text,
            settings=settings,
            report=ComfyReport(),
            motion_from=clip,
            motion_mix=motion_mix,
        )
        return frames_output(images, FPS)
