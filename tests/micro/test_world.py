"""The micro world and its recogniser: clean clips are read right, shuffled captions are not."""

import pytest
import torch

from show1_micro import recogniser, world
from show1_micro.world import clip, frame_times, is_held_out, random_scene, render


def scenes(count, seed=0, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    return [random_scene(generator, **kwargs) for _ in range(count)]


def accuracy(many, frames=8, size=16, spoil=lambda x: x, names=recogniser.ATTRIBUTES):
    readings = [recogniser.read_clip(spoil(clip(scene, frames, size))) for scene in many]
    return recogniser.accuracy(readings, many, names)


@pytest.mark.parametrize("frames, size", [(8, 16), (29, 16), (8, 64), (5, 96)])
def test_clean_clips_are_read_right(frames, size):
    names = recogniser.ATTRIBUTES + (("texture",) if size >= 32 else ())
    assert accuracy(scenes(100), frames, size, names=names)["all"] >= 0.99


def test_shuffled_captions_are_at_chance():
    many = scenes(300)
    readings = [recogniser.read_clip(clip(scene, 8, 16)) for scene in many]
    shares = recogniser.accuracy(readings, scenes(300, seed=1))
    for name, words in (("shape", 3), ("colour", 4), ("motion", 4), ("background", 3)):
        assert abs(shares[name] - 1 / words) < 0.1
    assert shares["all"] < 0.04


@pytest.mark.parametrize("sigma, floor", [(0.05, 0.98), (0.1, 0.95)])
def test_noise(sigma, floor):
    torch.manual_seed(0)
    shares = accuracy(scenes(100), spoil=lambda x: (x + sigma * torch.randn_like(x)).clamp(0, 1))
    assert shares["all"] >= floor


def test_blur():
    def blurred(x):
        planes = torch.nn.functional.pad(x.movedim(-1, 1), (1, 1, 1, 1), mode="replicate")
        return torch.nn.functional.avg_pool2d(planes, 3, 1).movedim(1, -1)

    shares = accuracy(scenes(100), spoil=blurred)
    assert shares["colour"] >= 0.95 and shares["motion"] >= 0.98 and shares["shape"] >= 0.8


def test_a_still_clip_has_no_motion():
    frame = clip(scenes(1)[0], 8, 16)[:1]
    assert recogniser.read_clip(frame.expand(8, -1, -1, -1)).motion == "still"


def test_sizes_agree():
    """A small drawing is the average of a large one, and the texture is gone from it."""
    many = scenes(20)
    small = render(many, frame_times(3), 16, 16)
    large = render(many, frame_times(3), 128, 128)
    pooled = (
        torch.nn.functional.avg_pool2d(large.flatten(0, 1).movedim(-1, 1), 8)
        .movedim(1, -1)
        .view_as(small)
    )
    assert (small - pooled).abs().mean() < 0.005
    plain = render(
        [world.with_words(scene, texture="plain") for scene in many], frame_times(3), 16, 16
    )
    assert torch.equal(plain, small)


def test_range_and_captions():
    many = scenes(50)
    frames = render(many, frame_times(4), 64, 64)
    assert frames.shape == (50, 4, 64, 64, 3) and frames.min() >= 0 and frames.max() <= 1
    scene = many[0]
    assert scene.caption().split()[1:4] == [scene.texture, scene.colour, scene.shape]
    assert scene.texture not in scene.caption(texture=False)


def test_held_out_combinations():
    kept = scenes(300, held_out=False)
    assert not any(map(is_held_out, kept)) and all(map(is_held_out, scenes(20, held_out=True)))
    for name in recogniser.ATTRIBUTES:
        assert len({getattr(scene, name) for scene in kept}) == len(
            {getattr(scene, name) for scene in scenes(300)}
        )
    combos = {(s.shape, s.colour, s.motion) for s in scenes(600, held_out=True)}
    assert len(combos) == 6
