"""The trained super-resolution on a clip twice as wide and nearly three times as long as it was
trained on.
"""

import pytest
import torch
import torch.nn.functional as F

from show1_engine.bundled import SETTINGS, WEIGHTS
from show1_engine.evaluation.measures import psnr
from show1_engine.loading import load_model, load_text_encoder
from show1_engine.runtime import PlainRuntime
from show1_engine.stages.pixel_sr import PixelSRSettings, pixel_sr
from show1_micro.recogniser import read_clip
from show1_micro.world import Scene, frame_times, render

FRAMES, LOW, WIDE = 22, 16, 32
SCENE = Scene("circle", "red", "right", "grey", "striped", travel=0.36)


@pytest.fixture(scope="module")
def upscaled():
    """Truth, bicubic and ours: (22, 64, 128, 3) each. Three windows, three tiles across."""
    truth, low = (
        render([SCENE], frame_times(FRAMES), scale * LOW, scale * WIDE)[0] for scale in (4, 1)
    )
    runtime = PlainRuntime("cpu", torch.float32)
    states = load_text_encoder(WEIGHTS / "show-1-base", runtime).encode([SCENE.caption(), ""])
    settings = PixelSRSettings(**{**SETTINGS["pixel_sr"], "cfg": 1.0}, seed=1)
    ours = pixel_sr(
        load_model(WEIGHTS / "show-1-sr1", runtime), low, states[:1], states[1:], settings
    ).clamp(0, 1)
    bicubic = (
        F.interpolate(low.movedim(-1, 1), scale_factor=4, mode="bicubic").movedim(1, -1).clamp(0, 1)
    )
    return truth, bicubic, ours


@pytest.mark.parametrize(
    "part",
    [
        (slice(None), slice(None)),
        (slice(-4, None), slice(None)),
        (slice(0, 1), slice(None)),
        (slice(None), slice(32, 64)),
        (slice(None), slice(64, 96)),
    ],
    ids=["whole clip", "last frames", "first frame", "left tile border", "right tile border"],
)
def test_better_than_bicubic_everywhere(upscaled, part):
    frames, columns = part
    truth, bicubic, ours = (clip[frames, :, columns] for clip in upscaled)
    assert psnr(ours, truth) > psnr(bicubic, truth)


def test_the_recogniser_still_reads_it(upscaled):
    middle = upscaled[2][:, :, 32:96]
    assert read_clip(middle).matches(SCENE, "shape", "colour", "motion", "background", "texture")
