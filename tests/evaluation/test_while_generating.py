"""Features of frames before they are encoded, made while the clips are: `generate --features`."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from show1_engine.__main__ import main
from show1_engine.evaluation.choices import Sampling
from show1_engine.evaluation.clips import seen
from show1_engine.evaluation.features import Store

PROMPTS = ["a red circle moving left", "a blue square moving up", "a green triangle moving down"]
STEPS = [
    *("--until", "interpolate", "--keyframes-num-frames", "4"),
    *("--keyframes-steps", "2", "--interpolate-steps", "2"),
]
SEEN = ["--network", "lite0", "--frames", "4", "--size", "0"]
MEASURED = ["--features", "fvd,fid_frames", *SEEN]


def with_prompts(folder: Path) -> Path:
    table = folder.with_suffix(".txt")
    table.write_text("\n".join(PROMPTS) + "\n")
    assert main(["evaluate", "prompts", str(table), "--out", str(folder)]) == 0
    return folder


def generate(run: Path, *options: str) -> int:
    return main(["evaluate", "generate", str(run), *STEPS, "--save-stages", *options])


@pytest.fixture(scope="module")
def whole(lite0, tmp_path_factory) -> Path:
    """A run in one go."""
    run = with_prompts(tmp_path_factory.mktemp("whole") / "run")
    assert generate(run, *MEASURED) == 0
    return run


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def features_of(run: Path) -> dict[str, bytes]:
    root = run / "features"
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def times_of(run: Path) -> dict[Path, int]:
    files = [*run.glob("clips/*/*.mp4"), *run.glob("features/*/*/*.npy")]
    return {path.relative_to(run): path.stat().st_mtime_ns for path in files}


def test_they_are_of_the_frames_themselves(whole, lite0, tmp_path):
    """Of both stages: what the network says of the frames that 'generate' keeps as float32."""
    assert len(features_of(whole)) == 2 * 2 * (len(PROMPTS) + 1)
    row = json.loads((whole / "jobs.jsonl").read_text().splitlines()[1])
    file = tmp_path / "frames.safetensors"
    words = ["--prompt", row["prompt"], "--seed", str(row["seed"]), "--frames-out", str(file)]
    assert main(["generate", *words, *STEPS]) == 0
    frames, sampling = load_file(file), Sampling(frames=4, size=0)
    for stage, name in (("keyframes", "keyframes"), ("final", "interpolated")):
        wanted = lite0.features(seen(frames[name], sampling, row["id"])).numpy()
        stored = Store(whole / "features" / stage / "fid_frames")
        assert stored.read(row["id"]).tobytes() == wanted.tobytes()
        assert stored.settings["source"] == "frames"


def test_a_run_that_was_killed_and_resumed_is_as_one_run(whole, tmp_path, pack):
    """Byte for byte, in two shards, the second of which is killed."""
    run = with_prompts(tmp_path / "run")
    words = ["evaluate", "generate", str(run), *STEPS, "--save-stages", *MEASURED]
    words += ["--shard", "1/2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "show1_engine", *words], cwd=pack, stderr=subprocess.DEVNULL
    )
    first, end = run / "features/keyframes/fid_frames/00000.npy", time.monotonic() + 60
    while not first.is_file() and time.monotonic() < end:
        time.sleep(0.005)
    process.kill()
    process.wait()
    before = times_of(run)
    assert Path("features/keyframes/fid_frames/00000.npy") in before
    assert Path("features/final/fid_frames/00002.npy") not in before
    assert generate(run, *MEASURED, "--shard", "2/2") == 0
    assert generate(run, *MEASURED) == 0
    assert features_of(run) == features_of(whole)
    assert before.items() <= times_of(run).items()


def test_a_clip_that_lacks_features_is_made_again_and_no_other(copy, whole, capsys):
    before = times_of(copy)
    (copy / "features/final/fvd/00001.npy").unlink()
    assert generate(copy, *MEASURED, "--dry-run") == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ["00001"]
    assert generate(copy, *MEASURED) == 0
    assert "1 made again, as features" in capsys.readouterr().err
    assert features_of(copy) == features_of(whole)
    changed = {path for path, when in times_of(copy).items() if before[path] != when}
    assert changed == {Path("clips/000/00001.mp4"), Path("features/final/fvd/00001.npy")}
    assert generate(copy, *MEASURED) == 0
    assert "3 done, 0 to do" in capsys.readouterr().err


def test_features_of_videos_are_not_put_among_them(copy, capsys):
    """Where all are there nothing is done; where one is missing it is refused."""
    before = times_of(copy)
    features = ["evaluate", "features", str(copy), "--metric", "fvd", *SEEN]
    assert main(features) == 0
    assert times_of(copy) == before
    (copy / "features/final/fvd/00002.npy").unlink()
    capsys.readouterr()
    assert main(features) == 2
    error = capsys.readouterr().err
    assert "lacks 1 clips, '00002'" in error and error.count("\n") == 1
    assert main([*features, "--size", "8"]) == 2
    assert "size 0, not 8" in capsys.readouterr().err


def test_the_report_says_which_they_are_and_mixes_no_stages(copy, capsys):
    real = copy / "real"
    command = ["evaluate", "real", "folder", str(copy / "clips"), "--out", str(real), *SEEN]
    assert main([*command, "--metric", "fvd", "--place", "centre"]) == 0
    report = ["evaluate", "report", str(copy), "--real", str(real), "--metric", "fvd"]
    assert main([*report, "--samples", "1"]) == 0
    rows = json.loads((copy / "report.json").read_text())["rows"]
    assert [(row["stage"], row["choices"]["source"]) for row in rows] == [
        ("keyframes", "frames"),
        ("final", "frames"),
    ]
    assert all(row["choices"]["real source"] == "videos" for row in rows)
    shutil.rmtree(copy / "features/final/fvd")
    assert main(["evaluate", "features", str(copy), "--metric", "fvd", *SEEN]) == 0
    capsys.readouterr()
    assert main([*report, "--samples", "1"]) == 2
    error = capsys.readouterr().err
    assert "all are of frames before encoding, or all of videos" in error and error.count("\n") == 1


def test_all_stages_of_videos_are_each_stage_once(copy, whole):
    """The last one's clips are the final ones; a codec's loss is not there before encoding."""
    shutil.rmtree(copy / "features")
    features = ["evaluate", "features", str(copy), "--stage", "all", "--metric", "fvd", *SEEN]
    assert main(features) == 0
    assert sorted(path.name for path in (copy / "features").iterdir()) == ["final", "keyframes"]
    for stage in ("final", "keyframes"):
        videos, frames = (Store(run / "features" / stage / "fvd") for run in (copy, whole))
        assert (videos.settings["source"], frames.settings["source"]) == ("videos", "frames")
        of_videos, of_frames = (store.read("00001") for store in (videos, frames))
        assert 0 < abs(of_videos - of_frames).max() < 0.5 * abs(of_frames).max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--features", "clipsim", *SEEN], "reads no captions"),
        (["--features", "fid"], "--features"),
        (["--features", "clipsim,"], "clip-vit-base-patch32"),
        (["--features", "is", "--weights", "."], "conv3d_deepnetA_ucf.npz"),
        ([*MEASURED, "--sweep", "keyframes.cfg=2,3"], "not with --sweep"),
        ([*MEASURED, "--size", "8"], "size 0, not 8"),
    ],
)
def test_what_cannot_be_measured_is_said_before_a_clip_is_made(copy, capsys, options, message):
    (copy / "clips/000/00000.json").unlink()
    assert generate(copy, *options) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error and not (copy / "clips/000/00000.json").exists()


def test_a_stage_of_too_few_frames_is_left_out_and_the_last_one_is_not(lite0, tmp_path, capsys):
    run = with_prompts(tmp_path / "run")
    (run / "jobs.jsonl").write_text((run / "jobs.jsonl").read_text().splitlines()[0])
    options = ["--features", "fvd", "--network", "lite0", "--size", "0"]
    assert generate(run, *options, "--frames", "14") == 1
    assert "00000: failed: '00000' has 13 frames; 14 at stride 1" in capsys.readouterr().err
    shutil.rmtree(run / "features")
    assert generate(run, *options, "--frames", "6") == 0
    assert sorted(features_of(run)) == ["final/fvd/00000.npy", "final/fvd/settings.json"]
