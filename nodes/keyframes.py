"""Show1Keyframes."""

from typing import Any

from comfy_api.latest import io

from ..show1_engine.host.ui import ComfyReport
from ..show1_engine.models.bundle import Show1Model
from ..show1_engine.stages.given import GivenFrames
from ..show1_engine.stages.keyframes import FPS, STAGE, KeyframeSettings, keyframes
from .schema import (
    cfg_input,
    clip_input,
    frames_output,
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
)
from .sockets import Conditioning, Given, clip_frames, linked, loaded, texts

_DEFAULTS = KeyframeSettings()


def _size_inputs() -> list[io.Input]:
    """How large and how long the clip is."""
    return [
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
    ]


def _motion_inputs() -> list[io.Input]:
    """A clip whose motion is taken over."""
    return [
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
    ]


def _start_inputs() -> list[io.Input]:
    """What else the clip begins from, and how often."""
    return [
        Given.Input(
            "given",
            optional=True,
            tooltip="Frames the clip is to contain, from Give Show-1 Keyframes.",
        ),
        clip_input(
            "images",
            optional=True,
            tooltip="A clip to start from instead of noise (video to video): frames or a "
            "video, drawn evenly to num_frames.",
        ),
        io.Float.Input(
            "strength",
            default=_DEFAULTS.strength,
            min=0.0,
            max=1.0,
            step=0.01,
            optional=True,
            tooltip="How far up the noise images start, 0 (keeps them) to 1 (noise alone). "
            "Without images it is not used.",
        ),
        io.Int.Input(
            "drafts",
            default=1,
            min=1,
            max=64,
            optional=True,
            tooltip="Clips to make, 1 to 64, of seed, seed + 1 and so on, shown with their "
            "numbers; Pick a Show-1 Draft hands one on.",
        ),
    ]


def _length_inputs() -> list[io.Input]:
    """How clips longer than the model's own are sampled."""
    return [
        io.Int.Input(
            "window",
            default=_DEFAULTS.window,
            min=-1,
            max=256,
            optional=True,
            tooltip="Frames sampled together, in overlapping windows: 8 is what the model was "
            "trained on. 0: all at once; -1: 8 where there are more than 12.",
        ),
        io.Int.Input(
            "overlap",
            default=_DEFAULTS.overlap,
            min=0,
            max=128,
            optional=True,
            tooltip="Frames that neighbouring windows share, 0 to 128, averaged at every step; "
            "less than the window.",
        ),
        loop_input("the last frame leads to the first"),
    ]


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
                *_size_inputs(),
                steps_input(_DEFAULTS.steps),
                cfg_input(_DEFAULTS.cfg),
                seed_input(),
                sampler_input(),
                *_motion_inputs(),
                preset_input(),
                *_length_inputs(),
                *_start_inputs(),
                reuse_input(),
            ],
            outputs=[io.Image.Output(display_name="images"), io.Float.Output(display_name="fps")],
            advanced=("sampler", "motion_mix", "overlap", "loop", "strength", "reuse"),
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
        given: GivenFrames | None = None,
        images: Any = None,
        **sampling: Any,
    ) -> io.NodeOutput:
        settings = KeyframeSettings(**sampling)
        text = texts(STAGE, positive, negative)
        if given is not None:
            linked(STAGE, "given", given, kind=GivenFrames, source="Give Show-1 Keyframes")
        clips = {"motion_from": motion_from, "images": images}
        frames = {
            name: None if clip is None else clip_frames(STAGE, name, clip)
            for name, clip in clips.items()
        }
        made = keyframes(
            loaded(STAGE, model),
            *text,
            settings=settings,
            report=ComfyReport(),
            motion_mix=motion_mix,
            given=given,
            **frames,
        )
        return frames_output(made, FPS, clips=settings.drafts)
