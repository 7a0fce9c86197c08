"""V3 schemas that every ComfyUI from 0.3.75 on accepts, and the inputs several nodes share."""

import dataclasses
import inspect
from collections.abc import Collection
from pathlib import Path
from typing import Any

from comfy_api.latest import InputImpl, io, ui
from torch import Tensor

from ..show1_engine.color import METHODS
from ..show1_engine.films import STRETCH
from ..show1_engine.frames import small_sheet
from ..show1_engine.host.ui import to_output
from ..show1_engine.pictures import draft_sheet
from ..show1_engine.sampling.presets import PRESETS
from ..show1_engine.sampling.reuse import MOST
from ..show1_engine.sampling.samplers import SAMPLERS
from .sockets import Model

CATEGORY = "video/Show-1"


def schema(inputs: list[io.Input], advanced: Collection[str] = (), **fields: Any) -> io.Schema:
    """io.Schema without the fields this host does not know yet (such as search_aliases).

    Inputs named in `advanced` are those that few change: newer editors fold them away until they
    are asked for.
    """
    if "advanced" in inspect.signature(io.Input.__init__).parameters:
        for item in inputs:
            item.advanced = True if item.id in advanced else None
    fields = {name: value for name, value in fields.items() if knows(name)}
    return io.Schema(category=CATEGORY, inputs=inputs, **fields)


def knows(field: str) -> bool:
    """Whether this host's io.Schema has the field."""
    return any(known.name == field for known in dataclasses.fields(io.Schema))


def frames_output(images: Tensor, *more: Any, clips: int = 1) -> io.NodeOutput:
    """A stage's frames (F, H, W, C) as a node's first output, and what else it gives.

    Several clips are shown one below the other with their numbers, on any host.

    Where the host keeps the pictures of nodes within a graph (has_intermediate_output), all frames
    in one picture go along: it comes back when the page was loaded anew. Elsewhere the node keeps
    its last live preview, and nothing is written.
    """
    picture = None
    if clips > 1:
        picture = ui.PreviewImage(draft_sheet(images, clips)[None])
    elif knows("has_intermediate_output"):
        picture = ui.PreviewImage(small_sheet(images)[None] / 255)
    return io.NodeOutput(to_output(images), *more, ui=picture)


def video_output(path: Path) -> io.NodeOutput:
    """A node's only output: the VIDEO of a file."""
    return io.NodeOutput(InputImpl.VideoFromFile(str(path)))


def model_input(what: str) -> io.Input:
    return Model.Input("model", tooltip=f"{what}, from Load Show-1 Model.")


def images_input() -> io.Input:
    return io.Image.Input(
        "images", tooltip="Frames from any node, in order: any count, any size, alpha is kept."
    )


def video_input() -> io.Input:
    return io.Video.Input(
        "video",
        tooltip="A video of any length, from Load Video: it is read and written shot by shot and "
        "never held in memory. Its sound goes along.",
    )


def stretch_input() -> io.Input:
    return io.Int.Input(
        "stretch",
        default=STRETCH,
        min=8,
        max=4096,
        optional=True,
        tooltip="Frames of the result that are made together where a shot is longer, 8 to 4096. "
        "More need more memory.",
    )


def positive_input(reads: str) -> io.Input:
    return io.Conditioning.Input(
        "positive", tooltip=f"What to see, encoded by {reads} (Encode Show-1 Text)."
    )


def negative_input(advice: str) -> io.Input:
    return io.Conditioning.Input(
        "negative",
        optional=True,
        tooltip=f"What to avoid. Not connected: the empty prompt. {advice}",
    )


def clip_input(name: str, tooltip: str, optional: bool = False) -> io.Input:
    """Frames that are only looked at: from any node, or straight from a video file."""
    return io.MultiType.Input(name, types=[io.Image, io.Video], optional=optional, tooltip=tooltip)


def steps_input(default: int, name: str = "steps", optional: bool = False) -> io.Input:
    return io.Int.Input(
        name,
        default=default,
        min=1,
        max=1000,
        optional=optional,
        tooltip=f"Sampling steps, 1 to 1000. The released script takes {default}; time grows with "
        "it.",
    )


def cfg_input(default: float, name: str = "cfg", optional: bool = False) -> io.Input:
    return io.Float.Input(
        name,
        default=default,
        min=0.0,
        max=50.0,
        step=0.1,
        optional=optional,
        tooltip=f"Classifier-free guidance scale, 0 to 50. Released: {default}. Up to 1 switches "
        "guidance off and halves the time.",
    )


def noise_level_input(default: int, name: str = "noise_level", optional: bool = False) -> io.Input:
    return io.Int.Input(
        name,
        default=default,
        min=0,
        max=999,
        optional=optional,
        tooltip="Noise put on the enlarged frames before they guide the model, 0 to 999. Released: "
        f"{default}. More lets the model invent, less keeps it to its input.",
    )


def seed_input(changes: bool = True) -> io.Input:
    """`changes`: the editor offers to change it after every run."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=2**63 - 1,
        control_after_generate=changes,
        tooltip="The same seed, inputs and device give the same frames.",
    )


def sampler_input() -> io.Input:
    return io.Combo.Input(
        "sampler",
        options=list(SAMPLERS),
        default="default",
        optional=True,
        tooltip='"default" samples as the checkpoint\'s own scheduler config says. Others: '
        "dpmpp_2m (few steps), ddim (no noise added on the way), ddpm (many steps), "
        "heun (two evaluations a step, no noise added).",
    )


def preset_input() -> io.Input:
    return io.Combo.Input(
        "preset",
        options=list(PRESETS),
        default="reference",
        optional=True,
        tooltip='"reference" runs the steps above as they are. "balanced" is about twice, "fast" '
        "four times as fast: fewer steps, by DPM-Solver++, most with reuse 2, guided only in the "
        'first part with "fast"; stages that are given frames begin where those show the picture '
        "already. The node shows what it runs; a student's own steps come before any preset.",
    )


def reuse_input() -> io.Input:
    return io.Int.Input(
        "reuse",
        default=1,
        min=1,
        max=MOST,
        optional=True,
        tooltip="Every how many-th step computes the whole network, 1 to 3; between them its top "
        "level alone, on what the rest gave before. 1: exact; 2 is about 1.5 times as fast, 3 "
        "nearly 2 times.",
    )


def tiling_input() -> io.Input:
    return io.Int.Input(
        "tiling",
        default=0,
        min=0,
        max=8192,
        step=8,
        optional=True,
        tooltip="Side of the overlapping tiles that large frames are sampled in, up to 8192 output "
        "pixels. 0: chosen from the model's training size and the device's memory.",
    )


def color_match_input(default: str) -> io.Input:
    return io.Combo.Input(
        "color_match",
        options=list(METHODS),
        default=default,
        optional=True,
        tooltip="Anchor colours to the input: not at all, by each frame's mean and spread "
        "(mean_std; lab in CIELAB), or all but the fine detail (wavelet).",
    )


def mask_input() -> io.Input:
    return io.Mask.Input(
        "mask",
        optional=True,
        tooltip="Where to work: one mask for all frames or one for each, soft edges if wanted. "
        "Outside stays the input, enlarged.",
    )


def loop_input(effect: str) -> io.Input:
    return io.Boolean.Input(
        "loop", default=False, optional=True, tooltip=f"For clips played in a circle: {effect}."
    )


def cut_aware_input(effect: str) -> io.Input:
    return io.Boolean.Input(
        "cut_aware", default=True, optional=True, tooltip=f"Look for scene cuts: {effect}."
    )
