"""Show1PixelSR."""

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..show1_engine.host.ui import ComfyReport
from ..show1_engine.models.bundle import Show1Model
from ..show1_engine.stages.given import GivenFrames, parsed_indices
from ..show1_engine.stages.pixel_sr import (
    FIRST_FRAME_SETTINGS,
    STAGE,
    FirstFrame,
    PixelSRSettings,
    pixel_sr,
)
from .schema import (
    cfg_input,
    color_match_input,
    cut_aware_input,
    frames_output,
    images_input,
    mask_input,
    model_input,
    negative_input,
    noise_level_input,
    positive_input,
    preset_input,
    reuse_input,
    sampler_input,
    schema,
    seed_input,
    steps_input,
    tiling_input,
)
from .sockets import Conditioning, Model, linked, loaded, texts

_DEFAULTS, _FIRST = PixelSRSettings(), FIRST_FRAME_SETTINGS


def _first_frame_inputs() -> list[io.Input]:
    """The first frame, or who makes it."""
    return [
        io.Image.Input(
            "first_frame",
            optional=True,
            tooltip="The first frame at the target's aspect, from any upscaler; the clip "
            "follows it. Without it (and a model for it) the model starts alone.",
        ),
        Model.Input(
            "first_frame_model",
            optional=True,
            tooltip="A 2-D super-resolution model (DeepFloyd IF-II-L) that makes the first "
            "frame. Not used when first_frame is connected.",
        ),
        steps_input(_FIRST.steps, "first_frame_steps", optional=True),
        cfg_input(_FIRST.cfg, "first_frame_cfg", optional=True),
        noise_level_input(_FIRST.noise_level, "first_frame_noise_level", optional=True),
    ]


def _reference_inputs() -> list[io.Input]:
    """Clean frames anywhere in the clip."""
    return [
        io.Image.Input(
            "reference_frames",
            optional=True,
            tooltip="Clean frames at the target's aspect, from any upscaler, anywhere in "
            "the clip; from each on the clip follows it.",
        ),
        io.String.Input(
            "reference_indices",
            default="",
            optional=True,
            tooltip="Which frame of images each reference is: numbers from 0, such as "
            "0, 24, -1 (the last). Empty: the first ones.",
        ),
    ]


ADVANCED = (
    "first_frame_steps",
    "first_frame_cfg",
    "first_frame_noise_level",
    "sampler",
    "tiling",
    "color_match",
    "cut_aware",
    "reference_indices",
    "reuse",
)


def inputs(clip: io.Input, seed: io.Input) -> list[io.Input]:
    """What upscaling is asked for, of frames or of a video."""
    return [
        model_input("A pixel super-resolution model (show-1-sr1)"),
        clip,
        positive_input("T5"),
        negative_input("The released script leaves it empty here."),
        steps_input(_DEFAULTS.steps),
        cfg_input(_DEFAULTS.cfg),
        noise_level_input(_DEFAULTS.noise_level),
        seed,
        *_first_frame_inputs(),
        sampler_input(),
        tiling_input(),
        color_match_input(_DEFAULTS.color_match),
        io.Float.Input(
            "scale",
            default=_DEFAULTS.scale,
            min=0.25,
            max=16.0,
            step=0.05,
            optional=True,
            tooltip="Output size over input size, 0.25 to 16. The model's own is 4; others "
            "are resampled from it.",
        ),
        cut_aware_input("a cut starts a new chain of windows"),
        preset_input(),
        *_reference_inputs(),
        mask_input(),
        reuse_input(),
    ]


def asked(
    model: Show1Model,
    positive: Conditioning,
    negative: Conditioning | None = None,
    first_frame: Tensor | None = None,
    first_frame_model: Show1Model | None = None,
    first_frame_steps: int = _FIRST.steps,
    first_frame_cfg: float = _FIRST.cfg,
    first_frame_noise_level: int = _FIRST.noise_level,
    cut_aware: bool = True,
    reference_frames: Tensor | None = None,
    reference_indices: str = "",
    mask: Tensor | None = None,
    **sampling: Any,
) -> dict[str, Any]:
    """The inputs' values, checked, as the engine's functions take them."""
    settings = PixelSRSettings(cuts=cut_aware, **sampling)
    states, avoided = texts(STAGE, positive, negative)
    if first_frame is not None:
        linked(STAGE, "first_frame", first_frame, kind=Tensor, source="a frame (IMAGE)")
    elif first_frame_model is not None:
        first = PixelSRSettings(
            steps=first_frame_steps,
            cfg=first_frame_cfg,
            noise_level=first_frame_noise_level,
            seed=settings.seed,
            sampler=settings.sampler,
            preset=settings.preset,
            reuse=settings.reuse,
        )
        maker = loaded(STAGE, first_frame_model, "first_frame_model")
        first_frame = FirstFrame(maker, first)
    references = None
    if reference_frames is not None:
        linked(STAGE, "reference_frames", reference_frames, kind=Tensor, source="frames (IMAGE)")
        places = parsed_indices(STAGE, reference_indices, len(reference_frames))
        references = GivenFrames(reference_frames, places)
    return {
        "model": loaded(STAGE, model),
        "positive": states,
        "negative": avoided,
        "settings": settings,
        "first_frame": first_frame,
        "references": references,
        "mask": mask,
    }


class Show1PixelSR(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="Show1PixelSR",
            display_name="Upscale Video Pixels (Show-1)",
            description="Super-resolution x4 in pixel space, in windows of eight frames chained by "
            "their first frame. Any number of frames.",
            search_aliases=["show1", "show-1", "video upscale", "super resolution"],
            inputs=inputs(images_input(), seed_input()),
            outputs=[io.Image.Output(display_name="images")],
            advanced=ADVANCED,
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, images: Tensor, **inputs: Any) -> io.NodeOutput:
        return frames_output(pixel_sr(images=images, report=ComfyReport(), **asked(**inputs)))
