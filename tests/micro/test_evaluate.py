"""The judge of the micro cascade: measures, and a whole small run with the real stages."""

import json
from dataclasses import replace

import pytest
import torch

from show1_engine import bundled
from show1_engine.__main__ import main
from show1_engine.evaluation.measures import psnr, ssim
from show1_micro.configs import REPOSITORIES
from show1_micro.editions import EDITIONS
from show1_micro.evaluate import SPOIL, _refined, drawn, resized
from show1_micro.untrained import write_untrained
from show1_micro.world import frame_times, random_scene


def quicker(monkeypatch, edition, steps):
    """Lets the stages of an edition take only so many steps."""
    own = EDITIONS[edition]
    settings, template = (
        {stage: {**values, "steps": steps} for stage, values in found.items()}
        for found in (own.bundle.settings, own.bundle.template)
    )
    bundle = replace(own.bundle, settings=settings, template=template)
    monkeypatch.setitem(EDITIONS, edition, replace(own, bundle=bundle))


@pytest.fixture
def truth():
    return drawn(random_scene(torch.Generator().manual_seed(0)), frame_times(2), 64)


def test_measures_know_the_truth(truth):
    noisy = (
        truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    ).clamp(0, 1)
    assert ssim(truth, truth) == pytest.approx(1.0)
    assert 18 < psnr(noisy, truth) < 22 and ssim(noisy, truth) < 0.9


@pytest.mark.parametrize("name", SPOIL)
def test_spoiled_clips_are_worse(truth, name):
    bad = SPOIL[name](truth, torch.Generator().manual_seed(0))
    assert bad.shape == truth.shape and bad.min() >= 0 and bad.max() <= 1
    assert psnr(bad, truth) < 30


def test_resized_keeps_the_range(truth):
    assert resized(truth, 16).shape == (2, 16, 16, 3)
    assert resized(truth, 16).max() <= 1


@pytest.mark.parametrize("edition", EDITIONS)
def test_a_whole_evaluation(tmp_path, monkeypatch, edition):
    """Untrained models are evaluated from captions to numbers; they are at chance, so only the
    shape is checked.
    """
    write_untrained(tmp_path / "models")
    quicker(monkeypatch, edition, steps=2)
    arguments = [
        "micro",
        "evaluate",
        "--edition",
        str(edition),
        "--clips",
        "2",
        "--models",
        str(tmp_path / "models"),
        "--json",
        str(tmp_path / "numbers.json"),
        "--picture",
        str(tmp_path / "typical.png"),
    ]
    assert main(arguments) == 0
    assert (tmp_path / "typical.png").stat().st_size > 1000
    results = json.loads((tmp_path / "numbers.json").read_text())
    assert results["keyframes"]["n"] == 2 and results["keyframes"]["unseen"]["n"] == 2
    assert 0 <= results["pixel_sr"]["texture"] <= 1
    assert 0 <= results["latent_expert"]["looks"]["outline"]["worst 5 %"] <= 1
    assert set(results["latent_expert"]["truth"]) == set(SPOIL)
    refined = results["latent_expert"]["refined"]
    assert min(refined["psnr"], refined["input psnr"]) > 0 and 0 <= refined["closer"] <= 1
    assert results["interpolation"]["truth"]["linear psnr"] > 10
    assert set(results["seconds a call"]) == set(REPOSITORIES)


def test_what_an_expert_makes_better_is_closer():
    generator, world = torch.Generator().manual_seed(5), EDITIONS[2]
    scene = world.draw(generator)
    clean = world.render([scene], frame_times(4), *world.large)[0]
    noisy = (clean + 0.1 * torch.randn(clean.shape, generator=generator)).clamp(0, 1)
    better, worse = _refined(noisy, clean, world), _refined(clean, noisy, world)
    assert better[0] > better[1] + 5 and better[2] == 1
    assert worse[0] < worse[1] - 5 and worse[2] == 0


def test_ablations_from_training_to_tables(tmp_path, monkeypatch, capsys):
    """One step of training and one clip: at chance, so only what is written is checked."""
    from show1_micro.codec import VaeTraining

    quicker(monkeypatch, 2, steps=5)
    VaeTraining(tmp_path / "runs" / "vae", world=EDITIONS[2]).train(minutes=1e-4)
    picture = tmp_path / "ways.png"
    assert (
        main(
            [
                "micro",
                "ablate",
                "--runs",
                str(tmp_path / "runs"),
                "--seeds",
                "1",
                "--steps",
                "1",
                "--clips",
                "1",
                "--edition",
                "2",
                "--json",
                str(tmp_path / "numbers.json"),
                "--picture",
                str(picture),
            ]
        )
        == 0
    )
    results = json.loads((tmp_path / "numbers.json").read_text())
    assert set(results["timesteps"]) == {"input", "0-900", "0-1000"} and results["steps"] == 1
    ways = results["ways"]
    assert (
        ways["pixel keyframes, pixel SR"]["MB"] > 2 * ways["pixel keyframes, latent expert"]["MB"]
    )
    assert "| latents alone |" in capsys.readouterr().out and picture.stat().st_size > 1000


@pytest.mark.parametrize("edition", bundled.EDITIONS)
def test_every_stage_is_bundled(edition):
    folder = bundled.EDITIONS[edition].folder
    assert all((folder / name / "unet" / "config.json").is_file() for name in REPOSITORIES.values())


@pytest.mark.parametrize("edition", bundled.EDITIONS)
def test_the_bundle_is_small(edition):
    files = [path for path in bundled.EDITIONS[edition].folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25e6


def test_the_command_line_exports_a_run(tmp_path):
    from show1_micro.train import Trainer

    Trainer("keyframes", tmp_path / "runs" / "keyframes").save()
    arguments = [
        "micro",
        "export",
        "keyframes",
        "--runs",
        str(tmp_path / "runs"),
        "--target",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 0
    assert (tmp_path / "out" / "show-1-base" / "text_encoder" / "model.safetensors").is_file()
