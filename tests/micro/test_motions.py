"""Motions the cascade was never trained on: drawn, and read back by the recogniser."""

import json

import pytest
import torch

from show1_engine.__main__ import main
from show1_micro.editions import EDITIONS
from show1_micro.motion_trial import LOOKS, example_of, others, shares
from show1_micro.motions import PATHS, clip, followed, motion_of, places
from show1_micro.world import frame_times


@pytest.fixture(params=EDITIONS)
def edition(request):
    return request.param


@pytest.fixture
def world(edition):
    return EDITIONS[edition]


@pytest.fixture
def scenes(world):
    return [world.draw(torch.Generator().manual_seed(seed)) for seed in range(12)]


def own(world, scene, frames=8):
    """The scene on the path it is described with."""
    return world.render([scene], frame_times(frames), *world.keyframe)[0]


@pytest.mark.parametrize("path", PATHS)
def test_paths_are_read(path, world, scenes):
    readings = [world.read(clip(scene, path, 8, world=world)) for scene in scenes]
    assert [motion_of(reading, world) for reading in readings] == [path] * len(scenes)
    assert all(
        reading.matches(scene, *LOOKS) for reading, scene in zip(readings, scenes, strict=True)
    )


def test_trained_motions_are_no_paths(world, scenes):
    """Every clip of a trained motion is read as its own, and explains little of any path."""
    for scene in scenes:
        reading = world.read(own(world, scene))
        assert motion_of(reading, world) == scene.motion == reading.motion


@pytest.mark.parametrize("path", PATHS)
def test_a_path_backwards_is_another(path, world):
    seen = places(path, frame_times(8))
    assert followed(seen, path, world) == pytest.approx(1.0)
    assert followed(-seen, path, world) == 0
    others = [name for name in (*world.motions, *PATHS) if name != path]
    assert max(followed(seen, name, world) for name in others) < 0.85


def test_still_clips(world, scenes):
    still = own(world, scenes[0], frames=1).expand(8, -1, -1, -1)
    assert motion_of(world.read(still), world) == "still"


def test_shares_of_drawn_clips(edition, world):
    example = example_of(edition)
    scenes = others(example, world, 6)
    assert all(scene.shape != example.shape and scene.colour != example.colour for scene in scenes)
    clips = [clip(scene, "orbit", 8, world=world) for scene in scenes]
    drawn = shares(clips, scenes, "orbit", world)
    assert drawn["moves so"] == drawn["looks"] == 1 and drawn["n"] == 6
    clips = [own(world, scene) for scene in scenes]
    assert shares(clips, scenes, "orbit", world)["moves so"] == 0


def test_captions_leave_the_motion_out(edition):
    caption = example_of(edition).caption(motion=False)
    assert caption == f"a plain blue square {['on a white background', 'in the day'][edition - 1]}"


def test_a_whole_trial(tmp_path):
    arguments = [
        "micro",
        "motion",
        "--steps",
        "2",
        "--clips",
        "2",
        "--strengths",
        "0",
        "1",
        "--batch-size",
        "1",
        "--json",
        str(tmp_path / "numbers.json"),
        "--picture",
        str(tmp_path / "clips.png"),
    ]
    assert main(arguments) == 0
    results = json.loads((tmp_path / "numbers.json").read_text())
    assert results["strength 0.0"]["n"] == 2 and results["strength 0.0"]["moves so"] == 0
    assert results["training CPU seconds"] > 0 and (tmp_path / "clips.png").stat().st_size > 1000


def test_a_whole_style_trial(tmp_path):
    arguments = [
        "micro",
        "style",
        "--edition",
        "2",
        "--steps",
        "1",
        "--clips",
        "2",
        "--strengths",
        "0",
        "1",
        "--json",
        str(tmp_path / "numbers.json"),
        "--picture",
        str(tmp_path / "clips.png"),
    ]
    assert main(arguments) == 0
    results = json.loads((tmp_path / "numbers.json").read_text())
    assert results["strength 0.0"]["n"] == 2 and results["strength 0.0"]["texture"] == 0
    assert results["strength 0.0"]["looks"] == 1 and (tmp_path / "clips.png").stat().st_size > 1000
