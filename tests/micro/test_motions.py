"""Motions the cascade was never trained on: drawn, and read back by the recogniser."""

import json

import pytest
import torch

from show1_engine.__main__ import main
from show1_micro.motion_trial import EXAMPLE, LOOKS, others, shares
from show1_micro.motions import PATHS, clip, followed, motion_of, places
from show1_micro.recogniser import read_clip
from show1_micro.world import MOTIONS, frame_times, random_scene
from show1_micro.world import clip as straight

SCENES = [random_scene(torch.Generator().manual_seed(seed)) for seed in range(12)]


@pytest.mark.parametrize("path", PATHS)
def test_paths_are_read(path):
    readings = [read_clip(clip(scene, path, 8, 16)) for scene in SCENES]
    assert [motion_of(reading) for reading in readings] == [path] * len(SCENES)
    assert all(
        reading.matches(scene, *LOOKS) for reading, scene in zip(readings, SCENES, strict=True)
    )


def test_trained_motions_are_no_paths():
    """Every straight clip is read as its own direction, and explains little of any path."""
    for scene in SCENES:
        reading = read_clip(straight(scene, 8, 16))
        assert motion_of(reading) == scene.motion == reading.motion


@pytest.mark.parametrize("path", PATHS)
def test_a_path_backwards_is_another(path):
    seen = places(path, frame_times(8))
    assert followed(seen, path) == pytest.approx(1.0) and followed(-seen, path) == 0
    assert max(followed(seen, name) for name in (*MOTIONS, *PATHS) if name != path) < 0.85


def test_still_clips():
    scene = SCENES[0]
    assert motion_of(read_clip(straight(scene, 1, 16).expand(8, -1, -1, -1))) == "still"


def test_shares_of_drawn_clips():
    scenes = others(6)
    assert all(scene.shape != EXAMPLE.shape and scene.colour != EXAMPLE.colour for scene in scenes)
    drawn = shares([clip(scene, "orbit", 8, 16) for scene in scenes], scenes, "orbit")
    assert drawn["moves so"] == drawn["looks"] == 1 and drawn["n"] == 6
    assert shares([straight(scene, 8, 16) for scene in scenes], scenes, "orbit")["moves so"] == 0


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
