"""Many clips without Ray: the table of jobs, the plan, what is committed, shards, going on."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from show1_engine import cascade
from show1_engine.__main__ import main
from show1_engine.batch import jobs, plan
from show1_engine.batch.commit import Clips
from show1_engine.batch.worker import Worker
from show1_engine.commands import declared
from show1_engine.errors import InputError
from show1_engine.video import VideoReader, write_sheet

KINDS = declared.stages()
PROMPTS = ["a red circle", "a blue square", "a green triangle", "a red square"]
KEYFRAMES = ["--until", "keyframes", "--keyframes-steps", "2", "--keyframes-num-frames", "2"]
WHOLE = [
    *("--keyframes-steps", "2", "--keyframes-num-frames", "2", "--interpolate-steps", "2"),
    *("--first-frame-steps", "1", "--pixel-sr-steps", "1", "--expert-steps", "5"),
]


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "jobs.txt"
    path.write_text("\n".join(PROMPTS) + "\n")
    return path


def batch(table: Path, folder: Path, *options: str, stages: list[str] = KEYFRAMES) -> int:
    return main(["batch", str(table), str(folder), *stages, *options])


def rows_of(folder: Path, name: str = "manifest.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def hashes(folder: Path) -> dict[str, str]:
    return {row["id"]: row["frames_sha256"] for row in rows_of(folder)}


def odd_files(folder: Path) -> list[str]:
    """What interrupted attempts have left."""
    return [path.name for path in folder.rglob(".*")]


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


# The table of jobs


def test_a_csv_and_its_jsonl_are_the_same_jobs(tmp_path):
    one = written(
        tmp_path,
        "a.csv",
        "\ufeffid,prompt,seed,keyframes.cfg,settings\n"
        'cat,"a cat, asleep",7,9,\n'
        'dog,a dog,,,"{""pixel-sr"": {""noise_level"": 20}}"\n',
    )
    lines = [
        {"id": "cat", "prompt": "a cat, asleep", "seed": 7, "keyframes.cfg": 9},
        {"id": "dog", "prompt": "a dog", "settings": {"pixel_sr": {"noise-level": 20}}},
    ]
    other = written(tmp_path, "b.jsonl", "\n\n".join(map(json.dumps, lines)))
    read = jobs.read_jobs(one, KINDS)
    assert read == jobs.read_jobs(other, KINDS)
    assert read == [
        {
            "id": "cat",
            "prompt": "a cat, asleep",
            "seed": 7,
            "settings": {"keyframes": {"cfg": 9.0}},
        },
        {"id": "dog", "prompt": "a dog", "settings": {"pixel-sr": {"noise_level": 20}}},
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "\n \n", "holds no jobs"),
        ("a.doc", "a cat", "no table of jobs"),
        ("a.csv", "prompt\na cat,7\n", "line 2 does not have 1 fields"),
        ("a.csv", 'prompt\n"a cat\n', "is no CSV"),
        ("a.csv", "prompt,color\na cat,red\n", "'color' is no field"),
        ("a.csv", "prompt,seed\na cat,many\n", "the seed is 'many'"),
        ("a.csv", "prompt,seed\na cat,-1\n", "the seed is '-1'"),
        ("a.csv", "id,prompt\ncat,\n", "line 2: the 'prompt' is missing"),
        ("a.jsonl", '{"prompt": "a cat"}\n{"prompt"\n', "line 2 is no JSON"),
        ("a.jsonl", "[" * 100_000, "line 1 is no JSON"),
        ("a.jsonl", '["a cat"]\n', "no JSON object"),
        ("a.jsonl", '{"prompt": ["a cat"]}', "must be text"),
        ("a.jsonl", '{"prompt": "a", "keyframes.steps": 2.5}', "must be a whole number"),
        ("a.jsonl", '{"prompt": "a", "keyframes.step": 2}', "has no setting 'step'"),
        ("a.jsonl", '{"prompt": "a", "keyframes.seed": 2}', "the seed is the row's"),
        ("a.jsonl", '{"prompt": "a", "settings": {"sr": {"steps": 2}}}', "there is no stage"),
        ("a.jsonl", '{"prompt": "a", "settings": []}', "'settings' must be"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path, name, text, message):
    with pytest.raises(InputError) as error:
        jobs.read_jobs(written(tmp_path, name, text), KINDS)
    assert message in str(error.value) and name in str(error.value)


def multiplied(rows, seeds="0", sweep=(), names="id"):
    rows = [{"settings": {}, **row} for row in rows]
    points = jobs.parsed_sweep(sweep, KINDS)
    return jobs.multiplied(rows, jobs.parsed_seeds(seeds), points, names=names)


def test_prompts_times_seeds_times_sweep():
    sweep = ["keyframes.cfg=7,9", "pixel-sr.steps=20"]
    rows = multiplied([{"prompt": "a"}, {"prompt": "b", "seed": 4}], "0-1,7", sweep)
    names = [row["id"] for row in rows]
    assert names[:2] == [
        "00000-s0-keyframes.cfg=7-pixel-sr.steps=20",
        "00000-s0-keyframes.cfg=9-pixel-sr.steps=20",
    ]
    assert len(set(names)) == len(names) == 3 * 2 + 2
    assert [row["seed"] for row in rows] == [0, 0, 1, 1, 7, 7, 4, 4]
    assert rows[1]["settings"] == {"keyframes": {"cfg": 9.0}, "pixel-sr": {"steps": 20}}


def test_an_id_is_kept():
    assert [row["id"] for row in multiplied([{"id": "cat", "prompt": "a"}])] == ["cat"]
    assert [row["id"] for row in multiplied([{"id": "cat", "prompt": "a"}], "0-1")] == [
        "cat-s0",
        "cat-s1",
    ]


@pytest.mark.parametrize(
    "name", ["../x", "a/b", ".a", "-a", "a b", "a.failed", "con", "NUL.x", "", "x" * 121, "a~b"]
)
def test_an_id_that_is_no_file_name_is_refused(name):
    with pytest.raises(InputError, match="not safe"):
        multiplied([{"id": name, "prompt": "a"}])


@pytest.mark.parametrize("names", [("a", "a"), ("a", "A")])
def test_an_id_that_is_there_twice_is_refused(names):
    with pytest.raises(InputError, match="there twice"):
        multiplied([{"id": name, "prompt": "a"} for name in names])


def test_names_as_vbench_looks_for_them():
    rows = multiplied([{"prompt": "a cat"}, {"prompt": "a dog"}], "0-4", names="vbench")
    assert rows[4]["file"] == "videos/a cat-4.mp4" and rows[5]["file"] == "videos/a dog-0.mp4"
    with pytest.raises(InputError, match="cannot be a file name"):
        multiplied([{"prompt": "a/b"}], names="vbench")


@pytest.mark.parametrize("text", ["", "a", "1-", "5-2", "0-99999999", "1,,2"])
def test_wrong_seeds_are_refused(text):
    with pytest.raises(InputError, match="--seeds"):
        jobs.parsed_seeds(text)


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/"])
def test_a_wrong_shard_is_refused(text):
    with pytest.raises(InputError, match="--shard"):
        jobs.parsed_shard(text)


@pytest.mark.parametrize("parts", [1, 3, 7, 200])
def test_shards_hold_every_row_once(parts):
    rows = multiplied([{"prompt": "a"}] * 10, "0-9")
    shards = [jobs.sharded(rows, (part, parts)) for part in range(1, parts + 1)]
    ids = [row["id"] for shard in shards for row in shard]
    assert Counter(ids) == Counter(row["id"] for row in rows)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


# A run


def test_two_shards_are_one_run_and_generate(table, tmp_path):
    table.write_text("\n".join(PROMPTS[:2]))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert batch(table, whole, "--save-stages", stages=WHOLE) == 0
    assert batch(table, parts, "--save-stages", "--shard", "2/2", stages=WHOLE) == 0
    assert list(hashes(parts)) == ["00001-s0"]
    assert batch(table, parts, "--save-stages", "--shard", "1/2", stages=WHOLE) == 0
    assert hashes(parts) == hashes(whole)
    frames = tmp_path / "frames.safetensors"
    made = main(["generate", "--prompt", PROMPTS[1], *WHOLE, "--frames-out", str(frames)])
    images = load_file(frames)["latent_expert_sr"]
    row = rows_of(whole)[1]
    assert made == 0 and hashlib.sha256(images.numpy()).hexdigest() == row["frames_sha256"]
    with VideoReader(whole / row["file"]) as video:
        shape = tuple(torch.stack(list(video)).shape)
        assert shape == (row["frames"], row["height"], row["width"], 3) == tuple(images.shape)
        assert video.fps == row["fps"] == 8.0
    saved = {str(path.relative_to(whole / "stages")) for path in whole.rglob("stages/*/*/*")}
    assert "keyframes/000/00001-s0.mp4" in saved and "pixel_sr/000/00000-s0.png" in saved
    assert len(saved) == 2 * 2 * 4  # no model for the first frame alone
    assert odd_files(whole) == odd_files(parts) == [] and rows_of(whole, "failed.jsonl") == []


def test_a_second_run_does_nothing_and_imports_no_torch(table, tmp_path, pack):
    folder = tmp_path / "out"
    assert batch(table, folder) == 0
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}
    code = (
        "import sys\n"
        "from show1_engine.__main__ import main\n"
        "code = main(sys.argv[1:])\n"
        "print(code, sorted({'torch', 'numpy', 'av', 'ray'} & sys.modules.keys()))\n"
    )
    words = ["batch", str(table), str(folder), *KEYFRAMES]
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=pack, capture_output=True, text=True
    )
    assert time.monotonic() - start < 3
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    assert "4 done, 0 to do" in done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}


def test_models_are_loaded_once(table, tmp_path, monkeypatch):
    loaded, load = [], cascade.load_model

    def counting(path, runtime):
        loaded.append(path.name)
        return load(path, runtime)

    monkeypatch.setattr(cascade, "load_model", counting)
    assert batch(table, tmp_path / "out") == 0
    assert loaded == ["show-1-base"]


def test_settings_and_seeds_reach_the_frames(tmp_path):
    row = {"prompt": "a cat", "id": "one", "keyframes.steps": 3, "negative_prompt": "a dog"}
    table = written(tmp_path, "jobs.jsonl", json.dumps(row))
    folder = tmp_path / "out"
    options = ["--seeds", "0,3", "--sweep", "keyframes.cfg=1,2"]
    assert batch(table, folder, *options) == 0
    assert len(set(hashes(folder).values())) == 4
    frames = tmp_path / "frames.safetensors"
    words = [*KEYFRAMES, "--keyframes-steps", "3", "--keyframes-cfg", "2", "--seed", "3"]
    assert main(["generate", "--prompt", "a cat", *words, "--frames-out", str(frames)]) == 0
    expected = hashlib.sha256(load_file(frames)["keyframes"].numpy()).hexdigest()
    assert hashes(folder)["one-s3-keyframes.cfg=2"] == expected


def test_what_failed_is_listed_and_tried_again(tmp_path):
    rows = [{"prompt": "a"}, {"prompt": "b", "keyframes.steps": 0}, {"prompt": "c"}]
    table = written(tmp_path, "jobs.jsonl", "\n".join(map(json.dumps, rows)))
    folder = tmp_path / "out"
    assert batch(table, folder) == 1
    (failed,) = rows_of(folder, "failed.jsonl")
    assert failed["id"] == "00001-s0" and failed["status"] == "failed"
    assert "steps" in failed["error"] and failed["error"].isprintable()
    assert list(hashes(folder)) == ["00000-s0", "00002-s0"]
    assert batch(table, folder) == 1
    rows[1]["keyframes.steps"] = 2
    table.write_text("\n".join(map(json.dumps, rows)))
    assert batch(table, folder) == 0
    assert len(hashes(folder)) == 3 and rows_of(folder, "failed.jsonl") == []
    assert odd_files(folder) == []


def test_a_row_whose_process_always_ends_is_given_up(table, tmp_path):
    folder = tmp_path / "out"
    assert batch(table, folder, "--shard", "1/4") == 0
    row = {"id": "00001-s0", "file": "clips/000/00001-s0.mp4"}
    for _ in range(2):
        Clips(folder).begin(row)
    assert batch(table, folder, "--attempts", "2") == 1
    (failed,) = rows_of(folder, "failed.jsonl")
    assert failed["id"] == "00001-s0" and "ended 2 times" in failed["error"]
    assert batch(table, folder, "--attempts", "2") == 0


@pytest.mark.parametrize("way", ["commit", "fail"])
def test_a_process_that_ends_with_its_row_leaves_nothing(tmp_path, monkeypatch, way):
    """Killed the moment that a row's last file is there: no later run looks at that row again."""
    clips, row = Clips(tmp_path), {"id": "a", "file": "clips/000/a.mp4"}
    assert clips.begin(row) == 1
    partial = clips.partial(row)
    partial.write_bytes(b"video")
    write = Clips._write

    def killed(self, path, text):
        write(self, path, text)
        raise KeyboardInterrupt

    monkeypatch.setattr(Clips, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        clips.commit(row, partial, row) if way == "commit" else clips.fail(row, "why")
    assert odd_files(tmp_path) == []
    assert len(clips.sidecars()) + len(clips.failures()) == 1


def test_a_dry_run_makes_nothing(table, tmp_path, capsys):
    assert batch(table, tmp_path / "out", "--dry-run", "--seeds", "0-1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8 and json.loads(lines[1])["id"] == "00000-s1"
    assert not (tmp_path / "out").exists()


# What is there already


@pytest.mark.parametrize("damage", ["cut off", "gone", "sidecar cut off", "sidecar gone"])
def test_a_damaged_clip_is_made_again(table, tmp_path, damage):
    folder = tmp_path / "out"
    assert batch(table, folder) == 0
    before = hashes(folder)
    victim = folder / "clips/000" / f"00002-s0.{'json' if 'sidecar' in damage else 'mp4'}"
    data = victim.read_bytes()
    victim.unlink() if "gone" in damage else victim.write_bytes(data[: len(data) // 2])
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("clips/000/*.mp4")}
    assert batch(table, folder) == 0
    assert hashes(folder) == before
    again = [
        p.stem for p in folder.rglob("clips/000/*.mp4") if p.stat().st_mtime_ns != times.get(p)
    ]
    assert again == ["00002-s0"]


def test_verify_reads_every_byte(table, tmp_path, capsys):
    folder = tmp_path / "out"
    assert batch(table, folder) == 0
    victim = folder / "clips/000/00002-s0.mp4"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 255
    victim.write_bytes(data)
    assert batch(table, folder, "--dry-run") == 0
    assert batch(table, folder, "--dry-run", "--verify") == 0
    said = capsys.readouterr()
    assert "4 done, 0 to do" in said.err and "3 done, 1 to do" in said.err
    assert json.loads(said.out.splitlines()[-1])["id"] == "00002-s0"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--keyframes-cfg", "4"], "settings.keyframes.cfg was 3.0 and is 4.0"),
        (["--threads", "2"], "threads was 1 and is 2"),
        (["--negative-prompt", "x"], "negative_prompt was low resolution, blur and is x"),
        (["--save-stages"], "save_stages was False and is True"),
        (["--keyframes-preset", "fast"], "settings.keyframes.preset was reference and is fast"),
        (["--names", "vbench"], "file was 'clips/000/00000-s0.mp4'"),
    ],
)
def test_another_plan_is_refused(table, tmp_path, capsys, options, named):
    folder = tmp_path / "out"
    assert batch(table, folder, "--shard", "1/4") == 0
    assert batch(table, folder, *options) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert named in error and str(folder) in error


def test_another_prompt_under_the_same_id_is_refused(table, tmp_path, capsys):
    assert batch(table, tmp_path / "out", "--shard", "1/4") == 0
    table.write_text("a cat\n")
    assert batch(table, tmp_path / "out") == 2
    assert "whose prompt was 'a red circle' and is 'a cat'" in capsys.readouterr().err


def test_a_given_picture_belongs_to_the_plan(table, tmp_path, capsys):
    picture, folder = tmp_path / "a.png", tmp_path / "out"
    write_sheet(picture, torch.zeros(1, 16, 16, 3))
    assert batch(table, folder, "--shard", "1/4", "--given", str(picture)) == 0
    write_sheet(picture, torch.ones(1, 16, 16, 3))
    assert batch(table, folder, "--given", str(picture)) == 2
    assert "plan: given was" in capsys.readouterr().err


@pytest.mark.parametrize("field", ["torch", "device", "dtype", "models"])
def test_another_place_is_refused(table, tmp_path, capsys, field):
    folder = tmp_path / "out"
    assert batch(table, folder, "--shard", "1/4") == 0
    facts = json.loads((folder / "place.json").read_text())
    facts[field] = {"keyframes": "other"} if field == "models" else "other"
    (folder / "place.json").write_text(json.dumps(facts))
    assert batch(table, folder) == 2
    assert f"plan: {field}" in capsys.readouterr().err
    assert len(list(folder.rglob("*.mp4"))) == 1 and odd_files(folder) == []


def test_tiles_are_planned_for_the_memory_of_the_first_place(table, tmp_path):
    folder = tmp_path / "out"
    assert batch(table, folder, "--shard", "1/4") == 0
    facts = json.loads((folder / "place.json").read_text())
    facts["memory"] = 8 * 2**30
    (folder / "place.json").write_text(json.dumps(facts))
    seen = []
    worker = Worker(
        str(folder),
        _asked(table, folder),
        observe=lambda row, name, images: seen.append((row["id"], name, len(images))),
    )
    (row,) = jobs.sharded(multiplied([{"prompt": p} for p in PROMPTS]), (2, 4))
    assert worker(row)["status"] == "done" and seen == [("00001-s0", "keyframes", 2)]
    assert worker._cascade.loaded.model("keyframes").unet.memory() == 8 * 2**30


def _asked(table: Path, folder: Path) -> dict:
    from show1_engine.__main__ import parser
    from show1_engine.commands.batch import _asked as asked

    return asked(parser().parse_args(["batch", str(table), str(folder), *KEYFRAMES]), KINDS)


def test_of_two_that_settle_at_once_one_is_kept(tmp_path):
    assert plan.settle(tmp_path, "place.json", {"a": 1, "memory": 2})["memory"] == 2
    assert plan.settle(tmp_path, "place.json", {"a": 1, "memory": 3}, ("memory",))["memory"] == 2
    with pytest.raises(InputError, match="memory was 2 and is 3"):
        plan.settle(tmp_path, "place.json", {"a": 1, "memory": 3})
    assert [path.name for path in tmp_path.iterdir()] == ["place.json"]


def test_hidden_files_are_no_part_of_a_model(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "weights").write_bytes(b"1")
    before = plan.digest(tmp_path)
    (tmp_path / ".cache" / "download").mkdir(parents=True)
    (tmp_path / ".cache" / "download" / "when").write_bytes(b"2")
    assert plan.digest(tmp_path) == before
    (tmp_path / "unet" / "weights").write_bytes(b"2")
    assert plan.digest(tmp_path) != before


# Ended in the middle


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_ended_goes_on(table, tmp_path, pack, number):
    folder = tmp_path / "out"
    words = ["batch", str(table), str(folder), *KEYFRAMES]
    process = subprocess.Popen(
        [sys.executable, "-m", "show1_engine", *words],
        cwd=pack,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.startswith("00000-s0"):
            os.kill(process.pid, number)
            break
    said = process.communicate()[1]
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    assert (number == signal.SIGKILL) != ("the same command goes on" in said)
    made = Clips(folder).sidecars()
    assert 1 <= len(made) < 4
    assert main(words) == 0
    rows = rows_of(folder)
    assert [row["id"] for row in rows] == [f"0000{i}-s0" for i in range(4)]
    assert all(row == made.get(row["id"], row) for row in rows)
    assert odd_files(folder) == []
