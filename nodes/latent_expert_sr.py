"""Show1LatentExpertSR."""

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..show1_engine.host.ui import ComfyReport
from ..show1_engine.host.vae import ComfyVae
from ..show1_engine.models.bundle import Show1Model
from ..show1_engine.stages.latent_expert_sr import STAGE, LatentExpertSettings, latent_expert_sr
from .schema import (
    cfg_input,
    color_match_input,
    cut_aware_input,
    frames_output,
    images_input,
    loop_input,
    mask_input,
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

_DEFAULTS = LatentExpertSettings()


def _size_inputs() -> list[io.Input]:
    """The size to refine at."""
    follow = (
        "0 follows the input's aspect (both 0: its size). Another aspect is cropped to, "
        "never squashed."
    )
    return [
        io.Int.Input(
            "width",
            default=_DEFAULTS.width,
            min=0,
            max=8192,
            tooltip=f"Pixels, up to 8192; show-1-sr2 was trained on 576. {follow}",
        ),
        io.Int.Input(
            "height",
            default=_DEFAULTS.height,
            min=0,
            max=8192,
            tooltip=f"Pixels, up to 8192; show-1-sr2 was trained on 320. {follow}",
        ),
    ]


def _window_inputs() -> list[io.Input]:
    """How much of a clip is sampled together."""
    return [
        io.Int.Input(
            "window",
            default=_DEFAULTS.window,
            min=1,
            max=1024,
            optional=True,
            tooltip="Frames sampled together, 1 to 1024; more cost memory.",
        ),
        io.Int.Input(
            "overlap",
            default=_DEFAULTS.overlap,
            min=0,
            max=512,
            optional=True,
            tooltip="Frames that neighbouring windows share, 0 to 512, averaged at every "
            "step; less than the window.",
        ),
    ]


ADVANCED = ("sampler", "window", "overlap", "tiling", "color_match", "cut_aware", "reuse")


def inputs(clip: io.Input, seed: io.Input) -> list[io.Input]:
    """What refining is asked for, of frames or of a video."""
    return [
        model_input("A latent expert: show-1-sr2, zeroscope_v2_XL or another of that type"),
        clip,
        positive_input("OpenCLIP"),
        negative_input('The released script says "low resolution, blur" here.'),
        *_size_inputs(),
        steps_input(_DEFAULTS.steps),
        cfg_input(_DEFAULTS.cfg),
        io.Float.Input(
            "strength",
            default=_DEFAULTS.strength,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="How far up the noise the clip starts, 0 (keeps it) to 1 (noise "
            "alone). steps x strength steps are run; the expert was trained up to 0.9.",
        ),
        seed,
        io.Vae.Input(
            "vae",
            optional=True,
            tooltip="Another VAE of Stable Diffusion 1.5's type instead of the model's own.",
        ),
        sampler_input(),
        *_window_inputs(),
        tiling_input(),
        color_match_input(_DEFAULTS.color_match),
        cut_aware_input("no window reaches across a cut"),
        preset_input(),
        mask_input(),
    ]


def asked(
    model: Show1Model,
    positive: Conditioning,
    negative: Conditioning | None = None,
    vae: Any = None,
    cut_aware: bool = True,
    mask: Tensor | None = None,
    **sampling: Any,
) -> dict[str, Any]:
    """The inputs' values, checked, as the engine's functions take them."""
    settings = LatentExpertSettings(cuts=cut_aware, **sampling)
    states, avoided = texts(STAGE, positive, negative)
    if vae is not None and not hasattr(vae, "decode"):
        linked(STAGE, "vae", vae, kind=ComfyVae, source="Load VAE")
    return {
        "model": loaded(STAGE, model),
        "positive": states,
        "negative": avoided,
        "settings": settings,
        "codec": None if vae is None else ComfyVae(vae),
        "mask": mask,
    }


class Show1LatentExpertSR(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="Show1LatentExpertSR",
            display_name="Refine Video (Show-1 Latent Expert)",
            description="Enlarges a clip, noises it part of the way and denoises it in latent "
            "space: cheap high resolution with new detail.",
            search_aliases=["show1", "show-1", "video upscale", "video to video", "refine"],
            inputs=[
                *inputs(images_input(), seed_input()),
                loop_input("windows wrap round, the last frame leads to the first"),
                reuse_input(),
            ],
            outputs=[io.Image.Output(display_name="images")],
            advanced=(*ADVANCED, "loop"),
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, images: Tensor, **inputs: Any) -> io.NodeOutput:
        made = latent_expert_sr(images=images, report=ComfyReport(), **asked(**inputs))
        return frames_output(made)
