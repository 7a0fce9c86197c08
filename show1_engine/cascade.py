"""The whole cascade without ComfyUI: a folder of models and a prompt in, every stage's frames
out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from .checkpoints.find import cascade_in, missing_model, text_encoder_in
from .errors import InputError
from .frames import to_uint8
from .loading import load_model, load_text_encoder
from .lora.formats import read_lora
from .lora.merging import with_motion
from .models.bundle import Show1Model
from .models.kinds import FIRST_FRAME_SR, INTERPOLATION, KEYFRAMES, LATENT_EXPERT, PIXEL_SR
from .models.text import CLIP, T5, TextEncoder
from .progress import Report
from .runtime import PlainRuntime
from .sampling.windows import original_windows
from .stages.interpolate import FACTOR, InterpolateSettings, interpolate
from .stages.keyframes import FPS, KeyframeSettings, keyframes
from .stages.latent_expert_sr import LatentExpertSettings, latent_expert_sr
from .stages.pixel_sr import FIRST_FRAME_SETTINGS, PixelSRSettings, first_frame_sr, pixel_sr

STAGES = ("keyframes", "interpolate", "pixel-sr", "expert")  # as the command line names them
FRAMES_PER_SECOND = {
    "keyframes": FPS,
    "interpolated": FPS * FACTOR,
    "first_frame": 1.0,
    "pixel_sr": FPS * FACTOR,
    "latent_expert_sr": FPS * FACTOR,
}


@dataclass(frozen=True)
class Cascade:
    """What to run. `reference` keeps the original's windows and its 8-bit, aspect-squashing
    hand-over.

    `text_encoder`: a T5 file or folder for the pixel stages, in place of the one that lies with the
    models.
    """

    models: Path
    prompt: str
    negative_prompt: str = "low resolution, blur"
    pixel_negative_prompt: str = ""
    keyframes: KeyframeSettings = field(default_factory=KeyframeSettings)
    interpolate: InterpolateSettings = field(default_factory=InterpolateSettings)
    first_frame: PixelSRSettings = FIRST_FRAME_SETTINGS
    pixel_sr: PixelSRSettings = field(default_factory=PixelSRSettings)
    expert: LatentExpertSettings = field(default_factory=LatentExpertSettings)
    until: str = "expert"
    reference: bool = False
    loras: dict[str, list[tuple[Path, float]]] = field(
        default_factory=dict
    )  # by kind of model; files and strengths
    text_encoder: Path | None = None


def run(
    cascade: Cascade, runtime: PlainRuntime, reporter: Callable[[str], Report]
) -> Iterator[tuple[str, Tensor]]:
    """Yields (name, frames (F, H, W, 3)) after every stage; `reporter(name)` gives the stage's
    report().

    Models are loaded when their stage comes and let go after it.
    """
    paths = cascade_in(cascade.models)
    last = STAGES.index(cascade.until)

    def model(kind: str) -> Show1Model:
        if kind not in paths:
            raise missing_model(cascade.models, kind)
        loaded = load_model(paths[kind], runtime)
        for path, strength in cascade.loras.get(kind, []):
            loaded = with_motion(loaded, read_lora(path, loaded), strength)
        return loaded

    prompts = [cascade.prompt, cascade.pixel_negative_prompt]
    text = _halves(
        t5_of(cascade.models, runtime, paths, chosen=cascade.text_encoder).encode(prompts)
    )
    images = keyframes(model(KEYFRAMES), *text, cascade.keyframes, reporter("keyframes"))
    yield "keyframes", images
    if last >= 1:
        images = interpolate(
            model(INTERPOLATION), images, *text, cascade.interpolate, reporter("interpolated")
        )
        yield "interpolated", images
    if last >= 2:
        first = None
        if FIRST_FRAME_SR in paths:
            first = first_frame_sr(
                model(FIRST_FRAME_SR), images, *text, cascade.first_frame, reporter("first_frame")
            )
            yield "first_frame", first
        windows = original_windows(len(images)) if cascade.reference else None
        images = pixel_sr(
            model(PIXEL_SR), images, *text, cascade.pixel_sr, first, reporter("pixel_sr"), windows
        )
        yield "pixel_sr", images
    if last >= 3:
        encoder = text_encoder_in(cascade.models, CLIP, paths.get(LATENT_EXPERT))
        prompts = [cascade.prompt, cascade.negative_prompt]
        text = _halves(load_text_encoder(encoder, runtime).encode(prompts))
        if cascade.reference:
            images = original_handover(images, cascade.expert.height, cascade.expert.width)
        yield (
            "latent_expert_sr",
            latent_expert_sr(
                model(LATENT_EXPERT),
                images,
                *text,
                cascade.expert,
                report=reporter("latent_expert_sr"),
            ),
        )


def t5_of(
    models: Path, runtime: PlainRuntime, paths: dict[str, Path], chosen: Path | None = None
) -> TextEncoder:
    """The T5 of the pixel stages: `chosen` (a file or folder), else the one that lies in the folder
    of models.
    """
    encoder = load_text_encoder(
        chosen or text_encoder_in(models, T5, paths.get(KEYFRAMES)), runtime, models=models
    )
    if encoder.kind != T5:
        raise InputError(
            f"'{chosen}' is no T5, which the pixel stages read text with; give a t5xxl file"
        )
    return encoder


def _halves(states: Tensor) -> tuple[Tensor, Tensor]:
    return states[:1], states[1:]


def original_handover(images: Tensor, height: int, width: int) -> Tensor:
    """Frames as the original hands them to the expert: truncated to 8 bits, resized by Pillow to
    any aspect.
    """
    import numpy as np
    from PIL import Image

    resized = [
        Image.fromarray(frame.numpy()).resize((width, height), Image.Resampling.BICUBIC)
        for frame in to_uint8(images[..., :3])
    ]
    return torch.from_numpy(np.stack([np.asarray(frame) for frame in resized])).float() / 255
