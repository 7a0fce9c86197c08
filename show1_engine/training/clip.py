"""The clip that is trained on: its frames, at a size the model takes and the device can hold."""

from dataclasses import replace

import torch
from torch import Tensor

from ..errors import InputError
from ..frames import cover, split_alpha, to_model
from ..models.autoencoder import VaeCodec
from ..models.bundle import Show1Model
from ..models.kinds import LATENT_EXPERT
from ..models.memory import unet_bytes
from ..progress import gigabytes
from ..stages.plan import check_result, largest
from .settings import STAGE, TrainSettings

_CPU = torch.device("cpu")
# Kept for the way back, in units of a forward pass's activations: every layer's input and one layer
# in full with gradient checkpointing, everything without (counted on the published architectures).
_KEPT, _KEPT_ALL = 5, 40


def training_frames(model: Show1Model, images: Tensor, s: TrainSettings) -> Tensor:
    """The clip's frames to train on, (1, 3, F, H, W) in [-1, 1], at the training size."""
    rgb, _ = split_alpha(images)
    video = to_model(rgb[:: s.frame_step], _CPU)
    if video.shape[2] < 2:
        raise InputError(
            f"{STAGE}: 'images' has {len(rgb)} frames, {video.shape[2]} at a 'frame_step' of "
            f"{s.frame_step}; a motion needs at least 2"
        )
    size = _training_size(model, *video.shape[-2:], s.width, s.height)
    check_result(STAGE, video.shape[2], *size, 3)
    _check_memory(model, s, min(s.window, video.shape[2]), size=size)
    return cover(video, *size)


def encoded(model: Show1Model, video: Tensor, source: torch.Generator) -> Tensor:
    """What the model is trained on: the pixels, or the latent expert's latents of them."""
    if model.kind != LATENT_EXPERT:
        return video
    return VaeCodec(model.vae).encode(lambda part: video[:, :, part], video.shape[2], source)


def recoloured(clips: Tensor, source: torch.Generator) -> Tensor:
    """Clips (B, 3, F, H, W) in [-1, 1], each with its colour channels shuffled and, every other
    one, inverted.
    """
    return torch.stack(
        [
            clip[torch.randperm(3, generator=source)]
            * (1 - 2 * int(torch.randint(2, (), generator=source)))
            for clip in clips
        ]
    )


def step_bytes(model: Show1Model, s: TrainSettings, window: int, height: int, width: int) -> int:
    """Estimated memory of a training step beside the weights."""
    once = unet_bytes(
        model.network.config,
        s.batch_size,
        window,
        height=height,
        width=width,
        dtype=model.unet.dtype,
    )
    return once * (_KEPT if s.gradient_checkpointing else _KEPT_ALL)


def _check_memory(model: Show1Model, s: TrainSettings, window: int, size: tuple[int, int]) -> None:
    """InputError, with what fits, if the device cannot hold a training step."""
    factor = VaeCodec(model.vae).factor if model.kind == LATENT_EXPERT else 1
    height, width = (side // factor for side in size)
    has = model.unet.memory()

    def needs(frames: int) -> int:
        return step_bytes(model, replace(s, batch_size=1), frames, height=height, width=width)

    total = step_bytes(model, s, window, height=height, width=width)
    if total > has:
        frames = largest(window, lambda frames: needs(frames) <= has)
        what = (
            f"a window of {frames} at a 'batch_size' of 1 fits"
            if frames >= 2
            else "no window of this size fits: train smaller ('width', 'height')"
        )
        raise InputError(
            f"{STAGE}: windows of {window} frames of {size[1]}x{size[0]}, "
            f"{s.batch_size} at a time, need "
            f"about {gigabytes(total)} beside the weights, and the device has "
            f"{gigabytes(has)}; {what}"
        )


def _training_size(
    model: Show1Model, height: int, width: int, asked_width: int, asked_height: int
) -> tuple[int, int]:
    """(height, width) the model can take: as asked, or the clip's aspect with the model's own
    longer side.
    """
    multiple, factor = model.network.size_multiple, 1
    if model.kind == LATENT_EXPERT:
        factor = VaeCodec(model.vae).factor
    longer = (model.network.config.get("sample_size") or 64) * factor
    scale = longer / max(height, width)
    multiple = max(multiple, 1) * factor
    sides = asked_height or height * scale, asked_width or width * scale
    return tuple(max(multiple, round(side / multiple) * multiple) for side in sides)
