"""Frames that a keyframe run is given: of a picture, of a clip to go on from, of one to mend."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, number_within, whole_within
from ..frames import checked, cover, from_model, pad_to_multiple, split_alpha, to_model
from ..sampling.known import Known

_MOST_PLACES = 2**16


@dataclass(frozen=True, eq=False)
class GivenFrames:
    """Frames that are known, and where they stand in the clip.

    Args:
        images: (n, H, W, C) in [0, 1], any size.
        indices: the frame of the clip that each of them is, from 0; -1 is the last.
        strength: share of the steps, 0 to 1, during which they are held; at 1 they come back as
            they were given.
        harmonise: how often the clip is cleaned and noised again before each step, so that the
            other frames agree, 0 to 10.
    """

    images: Tensor
    indices: tuple[int, ...]
    strength: float = 1.0
    harmonise: int = 0


def places(stage: str, name: str, given: GivenFrames, *, frames: int) -> list[int]:
    """Where the given frames stand, 0 to frames - 1; InputError where one is none or does not
    fit.
    """
    checked(stage, name, given.images)
    if len(given.indices) != len(given.images):
        raise InputError(
            f"{stage}: {len(given.images)} frames are given and {len(given.indices)} indices; "
            "give each frame its place"
        )
    number_within(f"{stage}: 'strength'", given.strength, 0, most=1)
    whole_within(f"{stage}: 'harmonise'", given.harmonise, 0, most=10)
    found = [index + frames if index < 0 else index for index in given.indices]
    for index, place in zip(given.indices, found):
        if not 0 <= place < frames:
            raise InputError(
                f"{stage}: a frame is given for place {index}, and the clip has {frames} frames; "
                f"use {-frames} to {frames - 1}"
            )
    if len(set(found)) < len(found):
        raise InputError(f"{stage}: two frames are given for the same place, of {found}")
    return found


def parsed_indices(stage: str, text: str, count: int) -> tuple[int, ...]:
    """Places such as "0, 7, -1", "0-3" or "" (the first frames); InputError where it is none."""
    if not text.strip():
        return tuple(range(count))
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().rpartition("-")
        try:
            begin, end = (int(first), int(last)) if dash and first else (int(part), int(part))
        except ValueError:
            raise InputError(
                f"{stage}: '{part.strip()[:40]}' in 'indices' is no frame; write numbers such as "
                "0, 7, -1 (the last) or a stretch such as 0-3"
            ) from None
        if not 0 <= end - begin < _MOST_PLACES - len(found):
            raise InputError(
                f"{stage}: '{part.strip()[:40]}' in 'indices' is no stretch of frames; write the "
                f"lower one first, and at most {_MOST_PLACES} in all"
            )
        found += range(begin, end + 1)
    return tuple(found)


def known_frames(
    stage: str,
    given: GivenFrames,
    frames: int,
    size: tuple[int, int],
    *,
    multiple: int,
    device: torch.device,
) -> Known:
    """The given frames as the known part of a sample of so many frames of (rows, columns), padded
    to a multiple.
    """
    found = places(stage, "given", given, frames=frames)
    rgb, _ = split_alpha(checked(stage, "given", given.images))
    video = pad_to_multiple(cover(to_model(rgb, device), *size), multiple)
    clean = torch.zeros(1, 3, frames, *video.shape[-2:], device=device)
    clean[:, :, found] = video
    mask = torch.zeros(1, 1, frames, 1, 1, device=device)
    mask[:, :, found] = 1
    return Known(clean, mask, given.strength, harmonise=given.harmonise)


def put_back(made: Tensor, given: GivenFrames) -> Tensor:
    """The clip (F, H, W, 3) with the given frames exactly as they were, if they were held to the
    end.
    """
    if given.strength < 1:
        return made
    rgb, _ = split_alpha(given.images)
    size = made.shape[1:3]
    if rgb.shape[1:3] != size:
        rgb = from_model(cover(to_model(rgb.float(), torch.device("cpu")), *size))
    made = made.clone()
    made[[index % len(made) for index in given.indices]] = rgb.to(made)
    return made


def drawn_from(
    images: Tensor, frames: int, size: tuple[int, int], *, device: torch.device
) -> Tensor:
    """So many frames drawn evenly from a clip (F, H, W, C), as a sample (1, 3, frames, rows,
    columns) in [-1, 1] that they cover.
    """
    rgb, _ = split_alpha(images)
    chosen = torch.linspace(0, len(rgb) - 1, frames).round().long()
    return cover(to_model(rgb[chosen], device), *size)
