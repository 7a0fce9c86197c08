"""Frames between stages: (F, H, W, C) float32 in [0, 1], and (1, 3, F, H, W) in [-1, 1] as models
see them.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .errors import InputError, ResultError

_BRIGHTEST = 1e4  # of a frame's values, which go from 0 to 1; beyond, half precision overflows
_OVERHANG = 4  # how many times the wanted pixels may be computed to be cut off


def checked(stage: str, name: str, images: Tensor) -> Tensor:
    """`images` as float32 RGB or RGBA frames (F, H, W, 3 or 4).

    Grey becomes RGB. Raises InputError for no frames, a wrong shape, or NaN, infinite and huge
    values.
    """
    if not isinstance(images, Tensor) or images.is_complex():
        raise InputError(
            f"{stage}: '{name}' is no stack of frames but {type(images).__name__}; connect frames "
            "(IMAGE)"
        )
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4) or 0 in images.shape:
        raise InputError(
            f"{stage}: '{name}' has shape {tuple(images.shape)}; give frames of shape "
            "(frames, height, width, channels) with 1, 3 or 4 channels"
        )
    images = images.float()
    ends = torch.stack([end for image in images for end in image.aminmax()]).abs().view(-1, 2)
    bad = next((i for i, end in enumerate(ends.amax(1).tolist()) if not end <= _BRIGHTEST), None)
    if bad is not None and bool(ends[bad].isfinite().all()):
        raise InputError(
            f"{stage}: '{name}' has values up to {float(ends[bad].max()):.3g} in frame {bad} of "
            f"{len(images)}; frames go from 0 (black) to 1 (white)"
        )
    if bad is not None:
        raise InputError(
            f"{stage}: '{name}' has NaN or infinite values in frame {bad} of "
            f"{len(images)}; what made it failed (half precision overflow?): run that in fp32 or "
            "bf16"
        )
    return images.expand(*images.shape[:-1], 3) if images.shape[-1] == 1 else images


def finite(stage: str, values: Tensor, made_by: str = "model") -> Tensor:
    """`values` as they are; ResultError if one is NaN or infinite."""
    if not bool(values.isfinite().all()):
        raise ResultError(
            f"{stage}: what the {made_by} made is NaN or infinite. Try weight_dtype fp32 or bf16, "
            f"a lower cfg or LoRA strength, or another {made_by}; its files may be damaged"
        )
    return values


def split_alpha(images: Tensor) -> tuple[Tensor, Tensor | None]:
    """RGB frames, and the alpha channel (F, H, W, 1) if there is one."""
    return images[..., :3], images[..., 3:] if images.shape[-1] == 4 else None


def with_alpha(images: Tensor, alpha: Tensor | None) -> Tensor:
    """RGB frames with an alpha channel of any frame count and size, resized (linearly) to fit."""
    if alpha is None:
        return images
    volume = rearrange(alpha, "f h w c -> 1 c f h w")
    volume = F.interpolate(volume, size=images.shape[:3], mode="trilinear", align_corners=True)
    return torch.cat([images, rearrange(volume, "1 c f h w -> f h w c")], dim=-1)


def to_model(images: Tensor, device: torch.device) -> Tensor:
    """(F, H, W, 3) in [0, 1] -> (1, 3, F, H, W) float32 in [-1, 1]."""
    return rearrange(images.to(device), "f h w c -> 1 c f h w") * 2 - 1


def from_model(video: Tensor) -> Tensor:
    """(1, 3, F, H, W) in [-1, 1] -> (F, H, W, 3) in [0, 1] on the CPU, not clamped (models
    overshoot by a hair).
    """
    return rearrange(video / 2 + 0.5, "1 c f h w -> f h w c").float().cpu()


def pixel_frames(video: Tensor) -> Tensor:
    """(B, 3, F, H, W) in [-1, 1] -> all frames in a row (B*F, H, W, 3) in [0, 1], for a preview."""
    return rearrange(video[:, :3] / 2 + 0.5, "b c f h w -> (b f) h w c").clamp(0, 1)


def to_uint8(images: Tensor) -> Tensor:
    """8-bit frames as the original makes them: clamped and truncated, not rounded."""
    return (images.clamp(0, 1) * 255).to(torch.uint8)


def pad_to_multiple(video: Tensor, multiple: int) -> Tensor:
    """(B, C, F, H, W) extended at the bottom and right by its edge pixels so that a model's levels
    divide it.
    """
    height, width = video.shape[-2:]
    padding = (0, -width % multiple, 0, -height % multiple)
    return F.pad(video, (*padding, 0, 0), mode="replicate") if any(padding) else video


def resize(video: Tensor, height: int, width: int) -> Tensor:
    """(B, C, F, H, W) resized bicubically with antialiasing, each frame for itself."""
    if video.shape[-2:] == (height, width):
        return video
    flat = rearrange(video, "b c f h w -> (b f) c h w")
    flat = F.interpolate(
        flat, size=(height, width), mode="bicubic", antialias=True, align_corners=False
    )
    return rearrange(flat, "(b f) c h w -> b c f h w", b=video.shape[0])


def resize_bilinear(video: Tensor, height: int, width: int) -> Tensor:
    """(B, C, F, H, W) resized bilinearly with aligned corners, as super-resolution models were
    trained to see it.
    """
    flat = rearrange(video, "b c f h w -> (b f) c h w")
    flat = F.interpolate(flat, size=(height, width), mode="bilinear", align_corners=True)
    return rearrange(flat, "(b f) c h w -> b c f h w", b=video.shape[0])


def cover(
    video: Tensor, height: int, width: int, place: tuple[float, float] = (0.5, 0.5)
) -> Tensor:
    """Resized to cover height x width without changing the aspect, the overhang cut off: evenly, or
    with shares `place` of it, 0 to 1, above and to the left.
    """
    old_height, old_width = video.shape[-2:]
    scale = max(height / old_height, width / old_width)
    if (
        old_height * old_width * scale**2 > _OVERHANG * height * width
    ):  # a strip: most of it would be computed in vain
        rows, columns = (
            min(old, math.ceil(new / scale) + 2)
            for old, new in ((old_height, height), (old_width, width))
        )
        top, left = int((old_height - rows) * place[0]), int((old_width - columns) * place[1])
        video = video[..., top : top + rows, left : left + columns]
        old_height, old_width = rows, columns
    tall, wide = max(height, round(old_height * scale)), max(width, round(old_width * scale))
    video = resize(video, tall, wide)
    top, left = int((tall - height) * place[0]), int((wide - width) * place[1])
    return video[..., top : top + height, left : left + width]


def contact_sheet(images: Tensor, columns: int | None = None, gap: int = 1) -> Tensor:
    """All frames in one picture (H', W', 3), uint8, row by row."""
    images = images[..., :3].float().cpu()
    count, height, width, _ = images.shape
    columns = columns or math.ceil(math.sqrt(count * height / width))
    rows = math.ceil(count / columns)
    sheet = torch.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 0.1)
    for i, image in enumerate(images):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return (sheet.clamp(0, 1) * 255).round().to(torch.uint8)


def small_sheet(images: Tensor) -> Tensor:
    """The contact sheet, its longer side about 512 pixels: as large as a node shows it.

    Smaller sheets stay small. (F, H, W, C) in [0, 1] -> (H', W', 3), uint8.
    """
    frames = images[..., :3].movedim(-1, 1)
    shrink = max(1, round(max(frames.shape[2:]) * len(frames) ** 0.5 / 512))
    shrinks = [min(shrink, side) for side in frames.shape[2:]]  # a strip may be lower than that
    frames = F.avg_pool2d(frames, shrinks) if shrink > 1 else frames
    return contact_sheet(frames.movedim(1, -1))
