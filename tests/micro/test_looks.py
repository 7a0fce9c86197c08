"""The measures of how a clip is drawn: best on drawings, and each worse for its own fault."""

import pytest
import torch
import torch.nn.functional as F

from show1_engine.bundled import WEIGHTS
from show1_engine.evaluation.measures import psnr
from show1_engine.loading import load_text_encoder
from show1_engine.runtime import PlainRuntime
from show1_micro.looks import as_drawn, look_at, summary
from show1_micro.recogniser import read_clip
from show1_micro.world import clip, random_scene, with_words


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def scenes(count, seed=0):
    generator = seeded(seed)
    return [random_scene(generator) for _ in range(count)]


@pytest.fixture(scope="module")
def drawings():
    return [(scene, clip(scene, 8, 64)) for scene in scenes(20)]


def test_drawings_are_as_good_as_can_be(drawings):
    found = summary([look_at(images) for _, images in drawings])
    assert found["outline"]["worst 5 %"] > 0.97
    assert found["flatness"]["worst 5 %"] < 0.01
    assert found["colour"]["worst 5 %"] < 0.5
    assert found["path"]["worst 5 %"] < 0.2
    assert found["texture"]["worst 5 %"] > 0.98


def test_what_is_shown_is_drawn_again(drawings):
    assert min(psnr(as_drawn(images), images) for _, images in drawings) > 32


def test_noise_is_not_flat(drawings):
    for _, images in drawings[:5]:
        noisy = images + 0.02 * torch.randn(images.shape, generator=seeded())
        looks = look_at(noisy.clamp(0, 1))
        assert 3.5 < looks.flatness < 6 and looks.outline > 0.95  # 5.1 but for what is clamped


def bent(images):
    """Every frame's outlines led astray, by about half a pixel, smoothly."""
    frames = images.movedim(-1, 1)
    coarse = torch.randn(len(frames), 2, 5, 5, generator=seeded())
    astray = F.interpolate(coarse, frames.shape[-2:], mode="bicubic").movedim(1, -1)
    still = F.affine_grid(torch.eye(2, 3).expand(len(frames), -1, -1), list(frames.shape), False)
    moved = still + astray / frames.shape[-1]
    return F.grid_sample(frames, moved, padding_mode="border", align_corners=False).movedim(1, -1)


def test_straying_outlines_are_seen():
    for scene in scenes(5, seed=1):
        low = clip(scene, 8, 16)
        assert look_at(bent(low)).outline < look_at(low).outline - 0.01


def test_a_tint_is_a_distance_of_colours(drawings):
    _, images = drawings[0]
    tinted = (images + torch.tensor([0.0, 0.0, 0.06])).clamp(0, 1)
    assert look_at(tinted).colour > look_at(images).colour + 2


def test_a_place_astray_is_no_straight_path():
    (scene,) = scenes(1, seed=3)
    images = clip(scene, 8, 64)
    images[4] = images[7]
    assert look_at(images).path > 2


def test_half_a_texture():
    striped = with_words(scenes(1, seed=4)[0], texture="striped")
    faded = (clip(striped, 8, 64) + clip(with_words(striped, texture="plain"), 8, 64)) / 2
    looks = look_at(faded)
    assert read_clip(faded).texture == "striped" and looks.texture == pytest.approx(0.5, abs=0.05)


def test_a_texture_that_is_not_named_is_plain():
    """The bundled text encoder says of a caption without one what it says of "plain", and nothing
    of an empty one.
    """
    encoder = load_text_encoder(WEIGHTS / "show-1-base", PlainRuntime("cpu", torch.float32))

    def mean(caption):
        return encoder.encode([caption])[0].mean(0)

    named, unnamed, striped = (
        mean(f"a {texture}red circle moving right on a grey background")
        for texture in ("plain ", "", "striped ")
    )
    like = F.cosine_similarity
    assert like(named, unnamed, dim=0) > 0.99 > 0.9 > like(striped, unnamed, dim=0)
    assert like(named, mean(""), dim=0) < 0.5
