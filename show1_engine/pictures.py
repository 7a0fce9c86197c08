"""Clips beside each other: drafts to choose from, two results to compare."""

import math

import torch
from torch import Tensor

from .errors import InputError
from .frames import checked, contact_sheet, resize

MODES = ("side by side", "wipe", "difference")
_STAGE = "Show1CompareClips"
_GREY = 0.1
_LEAST_TEXT = 9  # pixels


def draft_sheet(images: Tensor, clips: int, width: int = 768) -> Tensor:
    """Drafts (clips * F, H, W, C) one below the other, numbered from 1, at most 8 frames of each:
    (H', W', 3) in [0, 1].
    """
    frames = len(images) // clips
    shown = torch.linspace(0, frames - 1, min(8, frames)).round().long()
    scale = max(1, width // (len(shown) * images.shape[2]))
    rows = []
    for i in range(clips):
        row = images[i * frames + shown, ..., :3]
        row = row.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)
        sheet = contact_sheet(row, columns=len(shown)).float() / 255
        rows += [labelled(sheet[None], str(i + 1))[0], torch.full((2, sheet.shape[1], 3), _GREY)]
    return torch.cat(rows[:-1])


def curve(values: list[float], width: int = 512, height: int = 96) -> Tensor:
    """Numbers from left to right as a line on grey, smoothed, the largest on top: (height, width,
    3) in [0, 1]. Numbers that are not finite leave a gap.
    """
    picture = torch.full((height, width, 3), _GREY)
    groups = torch.linspace(0, len(values), min(width, len(values)) + 1).long().tolist()
    means = [sum(values[a:b]) / (b - a) for a, b in zip(groups, groups[1:])]
    finite = [value for value in means if math.isfinite(value)]
    if not finite:
        return picture
    low, span = min(finite), max(max(finite) - min(finite), 1e-12)
    before = None
    for column in range(width):
        value = means[column * len(means) // width]
        if not math.isfinite(value):
            before = None
            continue
        row = 2 + round((height - 5) * (1 - (value - low) / span))
        top, bottom = sorted((row, row if before is None else before))
        picture[top : bottom + 2, column] = torch.tensor([0.4, 0.8, 1.0])
        before = row
    return picture


def picked_clip(images: Tensor, clips: int, number: int) -> Tensor:
    """One of several clips of equal length (clips * F, H, W, C), counted from 1; InputError if it
    is not there.
    """
    if clips < 1 or len(images) % clips:
        raise InputError(
            f"Show1PickClip: {len(images)} frames are not {clips} clips of equal length; give "
            "'clips' as many as there were drafts"
        )
    if not 1 <= number <= clips:
        raise InputError(f"Show1PickClip: 'number' is {number}, and there are clips 1 to {clips}")
    return images.view(clips, -1, *images.shape[1:])[number - 1]


def compared(
    a: Tensor,
    b: Tensor,
    mode: str = "side by side",
    position: float = 0.5,
    *,
    labels: tuple[str, str] = ("A", "B"),
) -> Tensor:
    """Two clips (F, H, W, C) as one: beside each other, B to the right of a line (at a share of the
    width), or four times their difference around grey.

    The larger size and the longer clip count: the smaller is enlarged, the shorter one holds its
    last frame.
    """
    if mode not in MODES:
        raise InputError(f"{_STAGE}: 'mode' is '{mode}'; use one of {', '.join(MODES)}")
    if not 0 <= position <= 1:
        raise InputError(f"{_STAGE}: 'position' is {position}; use 0 (only B) to 1 (only A)")
    a, b = (checked(_STAGE, name, clip)[..., :3] for name, clip in (("a", a), ("b", b)))
    height, width = max(a.shape[1], b.shape[1]), max(a.shape[2], b.shape[2])
    a, b = (_fitted(clip, max(len(a), len(b)), height, width=width) for clip in (a, b))
    if mode == "difference":
        return labelled((0.5 + 4 * (b - a)).clamp(0, 1), f"{labels[1]} - {labels[0]}")
    if mode == "side by side":
        line = torch.full((len(a), height, 2, 3), _GREY)
        return torch.cat([labelled(a, labels[0]), line, labelled(b, labels[1])], dim=2)
    edge = round(position * width)
    out = b.clone()
    out[:, :, :edge] = a[:, :, :edge]
    if 0 < edge < width:
        out[:, :, edge - 1 : edge] = 1.0
    return labelled(labelled(out, labels[0]), labels[1], right=True)


def _fitted(clip: Tensor, frames: int, height: int, *, width: int) -> Tensor:
    clip = clip[torch.arange(frames).clamp(max=len(clip) - 1)]
    sized = resize(clip.movedim(-1, 0)[None], height, width)[0].movedim(0, -1)
    return sized.clamp(0, 1)


def labelled(images: Tensor, text: str, right: bool = False) -> Tensor:
    """Frames (F, H, W, 3) with a few words in a lower corner; too small ones stay as they are."""
    size = max(_LEAST_TEXT, images.shape[1] // 16)
    if not text or images.shape[1] < 2 * size:
        return images
    mark = _written(text, size)[:, : images.shape[2]]
    images = images.clone()
    columns = slice(-mark.shape[1], None) if right else slice(0, mark.shape[1])
    images[:, -mark.shape[0] :, columns] = mark
    return images


def _written(text: str, size: int) -> Tensor:
    """White words on black (H, W, 3)."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size)
    left, _, right, _ = font.getbbox(text)
    picture = Image.new("L", (math.ceil(right - left) + 6, math.ceil(1.4 * size)))
    ImageDraw.Draw(picture).text((3, 0), text, fill=255, font=font)
    grey = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return (grey.view(picture.height, picture.width, 1).float() / 255).expand(-1, -1, 3)
