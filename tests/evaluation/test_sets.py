"""Official layouts, prompts, seeds, VBench's names: what goes in."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from show1_engine.__main__ import main
from show1_engine.errors import InputError
from show1_engine.evaluation import sets, vbench
from show1_engine.evaluation.choices import Sampling
from show1_engine.evaluation.clips import (
    TooShort,
    chosen,
    fitted,
    frame_count,
    number_of,
    read_clip,
    seen,
    windows,
)
from show1_engine.video import write_mp4

TRAPS = ["Hammering", "HammerThrow", "JumpingJack", "JumpRope"]  # in classInd's order


def clip_file(path, frames: int = 20, side: int = 32):
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = torch.arange(frames).view(-1, 1, 1, 1) / frames
    write_mp4(path, steps.expand(frames, side, side, 3), 8.0)
    return path


# UCF-101


def test_classes_are_in_the_official_order():
    """Python's own order swaps two pairs, and with them four prompts."""
    assert sets.official_order(sorted(TRAPS)) == TRAPS
    assert sorted(TRAPS) != TRAPS


def class_prompts(path, count: int = 101):
    names = TRAPS + [f"Class{i:03}" for i in range(count - len(TRAPS))]
    lines = [f"{name}\ta person, {name}" for name in sorted(names)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_class_prompts_take_turns(tmp_path):
    file = class_prompts(tmp_path / "prompts.tsv")
    prompts, about = sets.ucf101_prompts(file, 10_000, seed=0)
    counts = [p.about["class"] for p in prompts]
    share = [counts.count(name) for name in set(counts)]
    assert (len(prompts), min(share), max(share)) == (10_000, 99, 100)
    assert all(p.prompt == f"a person, {p.about['class']}" for p in prompts)
    assert len({p.seed for p in prompts}) == 10_000
    assert about["sha256"] == sets.file_digest(file)


def test_a_list_of_other_length_is_no_class_list(tmp_path):
    with pytest.raises(InputError, match="105 lines.*101"):
        sets.ucf101_prompts(class_prompts(tmp_path / "prompts.tsv", count=105), 10, seed=0)


def ucf(root):
    """Two classes, one of them with its official misspelling of files."""
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "classInd.txt").write_text("1 Archery\n2 HandstandPushups\n")
    files = ["Archery/v_Archery_g01_c01.avi", "HandstandPushups/v_HandStandPushups_g01_c01.avi"]
    (lists / "trainlist01.txt").write_text("".join(f"{f} {i}\n" for i, f in enumerate(files, 1)))
    (lists / "testlist01.txt").write_text("Archery/v_Archery_g02_c01.avi\n")
    for name in (*files, "Archery/v_Archery_g02_c01.avi"):
        path = root / "UCF-101" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def test_ucf101_in_its_layout(tmp_path):
    root = ucf(tmp_path)
    assert sets.ucf101_classes(root) == ["Archery", "HandstandPushups"]
    clips = sets.ucf101(root)
    assert [clip.label for clip in clips] == ["Archery", "HandstandPushups"]
    assert clips[1].id == "HandstandPushups/v_HandStandPushups_g01_c01"
    assert len(sets.ucf101(root, "all")) == 3 and len(sets.ucf101(root, "test")) == 1
    clips[0].path.unlink()
    with pytest.raises(InputError, match="not there"):
        sets.ucf101(root)


# MSR-VTT


def msrvtt(path):
    data = {
        "videos": [
            {"video_id": "video7010", "split": "test"},
            {"video_id": "video7011", "split": "test"},
            {"video_id": "video1", "split": "train"},
        ],
        "sentences": [
            {"sen_id": i, "video_id": f"video701{i % 2}", "caption": f"text {i}"} for i in range(6)
        ]
        + [
            {"sen_id": 90, "video_id": "video1", "caption": "of the training"},
            {"sen_id": 91, "video_id": "video7010", "caption": " "},
        ],
    }
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_captions_of_the_test_split_are_counted(tmp_path, capsys):
    file = msrvtt(tmp_path / "test_videodatainfo.json")
    prompts, about = sets.msrvtt_prompts(file, None, seed=0)
    assert (about["captions"], about["empty"]) == (6, 1)
    assert [p.about["video"] for p in prompts[:2]] == ["video7010", "video7011"]
    assert "of the training" not in [p.prompt for p in prompts]
    assert len(sets.msrvtt_prompts(file, None, seed=0, each=1)[0]) == 2
    assert main(["evaluate", "prompts", "msrvtt", str(file), "--out", str(tmp_path / "run")]) == 0
    assert "6 captions, 1 empty" in capsys.readouterr().err


def test_msrvtt_videos(tmp_path):
    msrvtt(tmp_path / "test_videodatainfo.json")
    for name in ("video7010", "video7011"):
        clip_file(tmp_path / "TestVideo" / f"{name}.mp4", frames=2)
    clips = sets.msrvtt(tmp_path)
    assert [(clip.id, clip.caption) for clip in clips] == [
        ("video7010", "text 0"),
        ("video7011", "text 1"),
    ]


# Runs


def test_a_run_is_the_same_again_and_other_prompts_are_refused(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("a cat\n\na dog\n", encoding="utf-8")
    arguments = ["evaluate", "prompts", str(file), "--out", str(tmp_path / "run"), "--each", "2"]
    assert main(arguments) == 0
    jobs = (tmp_path / "run" / "jobs.jsonl").read_bytes()
    assert main(arguments) == 0
    assert (tmp_path / "run" / "jobs.jsonl").read_bytes() == jobs
    rows = [json.loads(line) for line in jobs.decode().splitlines()]
    assert [set(row) for row in rows] == [{"id", "prompt", "seed"}] * 4
    assert [row["id"] for row in rows] == ["00000-0", "00000-1", "00001-0", "00001-1"]
    assert all(0 <= row["seed"] < 2**63 for row in rows)
    assert main([*arguments, "--seed", "1"]) == 2


def test_seeds_follow_from_names_alone():
    assert number_of(0, "00001") == number_of(0, "00001") != number_of(1, "00001")
    assert number_of("a", "bc") != number_of("ab", "c")


def test_clips_of_a_run_are_found_by_id(tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("a cat\na dog\na cow\n", encoding="utf-8")
    prompts, about = sets.file_prompts(words, None, seed=0)
    sets.write_run(tmp_path, prompts, about, seed=0)
    clip_file(tmp_path / "clips" / "000" / "00002.mp4", frames=2)
    clip_file(tmp_path / "stages" / "keyframes" / "000" / "00000.mp4", frames=2)
    (clip,) = sets.run_clips(tmp_path)
    assert (clip.id, clip.caption) == ("00002", "a cow")
    assert sets.stages_in(tmp_path / "stages") == ["keyframes"]
    assert [c.id for c in sets.run_clips(tmp_path, "keyframes")] == ["00000"]


def test_captions_of_a_folder(tmp_path):
    for name in ("a", "b", "sub/c"):
        clip_file(tmp_path / f"{name}.mp4", frames=2)
    (tmp_path / "a.json").write_text('{"prompt": "a cat"}')
    (tmp_path / "b.txt").write_text("a dog\n")
    assert [(c.id, c.caption) for c in sets.folder_clips(tmp_path)] == [
        ("a", "a cat"),
        ("b", "a dog"),
        ("sub/c", ""),
    ]
    (tmp_path / "table.csv").write_text('a,"one, two"\nsub/c,three\n')
    found = sets.folder_clips(tmp_path, tmp_path / "table.csv")
    assert [c.caption for c in found] == ["one, two", "", "three"]
    clip_file(tmp_path / "a.mkv.mp4", frames=2).rename(tmp_path / "a.avi")
    with pytest.raises(InputError, match="two videos named 'a'"):
        sets.folder_clips(tmp_path)


def test_captions_of_a_folder_become_prompts(tmp_path, capsys):
    """A run beside a real set, with the same texts."""
    folder = tmp_path / "real"
    for name, text in (("b", "a dog"), ("a", "a cat"), ("c", "")):
        clip_file(folder / f"{name}.mp4", frames=2).with_suffix(".txt").write_text(text)
    assert main(["evaluate", "prompts", str(folder), "--out", str(tmp_path / "run")]) == 0
    assert [row["prompt"] for row in sets.jobs_of(tmp_path / "run")] == ["a cat", "a dog"]
    about = sets.set_of(tmp_path / "run")
    assert about["set"] == "real" and about["about"]["00001"] == {"video": "b"}
    clip_file(tmp_path / "none" / "a.mp4", frames=2)
    assert main(["evaluate", "prompts", str(tmp_path / "none"), "--out", str(tmp_path)]) == 2
    assert "has no captions" in capsys.readouterr().err


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(InputError, match="holds no videos"):
        sets.folder_clips(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        sets.folder_clips(tmp_path / "none")


# Which frames


def test_the_places_of_a_window():
    s = Sampling(frames=4, stride=2)
    assert chosen(10, s, "x") == [1, 3, 5, 7]
    assert chosen(10, Sampling(frames=4, place="first"), "x") == [0, 1, 2, 3]
    assert chosen(5, Sampling(frames=0), "x") == [0, 1, 2, 3, 4]
    random = Sampling(frames=4, place="random")
    starts = {chosen(10, random, name, seed=3)[0] for name in map(str, range(50))}
    assert starts == set(range(7))
    assert chosen(10, random, "x", seed=3) == chosen(10, random, "x", seed=3)


def test_a_short_clip_is_refused_or_stretched():
    with pytest.raises(TooShort, match="8 frames.*need 16"):
        chosen(8, Sampling(), "x")
    assert chosen(8, Sampling(short="stretch"), "x") == [i // 2 for i in range(16)]


def test_windows_are_drawn_evenly_from_all_clips():
    """A clip of twice as many windows comes twice as often; none comes twice at one place."""
    counts = [19, 23, 10]  # 4, 8 and no windows of 16 frames
    every = list(windows(counts, Sampling(), 12, seed=0))
    assert len({tuple(w) for w in every}) == 12
    assert [clip for clip, _ in every].count(1) == 8
    assert all(start + 16 <= counts[clip] for clip, start in every)
    assert list(windows(counts, Sampling(), 5, seed=0)) == every[:5]
    with pytest.raises(InputError, match="13 windows.*12"):
        list(windows(counts, Sampling(), 13, seed=0))


def test_frames_come_to_one_size():
    wide = torch.zeros(2, 20, 60, 3)
    wide[:, :, 20:40] = 1  # the middle third
    crop = fitted(wide, Sampling(size=10))
    assert crop.shape == (2, 10, 10, 3) and crop.dtype == torch.uint8
    assert int(crop.min()) == 255
    squash = fitted(wide, Sampling(size=10, fit="squash", resize="area"))
    assert int(squash[:, :, 0].max()) == 0 and int(squash[:, :, 5].min()) == 255
    assert fitted(wide, Sampling(size=0)).shape == (2, 20, 60, 3)


def test_frames_in_memory_are_those_of_a_file():
    """Every value that 8 bits can have comes back as it was."""
    values = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(2, 16, 16, 3)
    assert torch.equal(seen(values / 255, Sampling(frames=2, size=0), "x"), values)


def test_a_file_is_read_where_it_is_asked(tmp_path):
    path = clip_file(tmp_path / "a.mp4", frames=20)
    assert frame_count(path) == 20
    s = Sampling(frames=4, size=0, place="first")
    grey = [int(frame.float().mean()) for frame in read_clip(path, s, "a", start=10)]
    assert grey == pytest.approx([255 * i / 20 for i in range(10, 14)], abs=4)


def test_tags_in_no_known_encoding_do_not_matter(tmp_path):
    """As in some clips of HMDB-51."""
    import av

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "ABCDEFGH"
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    content = path.read_bytes()
    assert content.count(b"ABCDEFGH") == 1
    path.write_bytes(content.replace(b"ABCDEFGH", b"\xff\xfe\xe9\xe8\xff\xfe\xe9\xe8"))
    assert frame_count(path) == 3
    assert read_clip(path, Sampling(frames=2, size=0), "a").shape == (2, 32, 32, 3)


# VBench


def full_info(path):
    """As VBench_full_info.json is made: distinct prompts, some twice, with several dimensions."""
    words = "a fish's fin, in 4K; (slow-motion) & no. 7"
    rows = [{"prompt_en": f"{words} {i}.", "dimension": ["scene", "color"]} for i in range(6)]
    rows.append({"prompt_en": "a static lake", "dimension": ["temporal_flickering"]})
    rows += [{"prompt_en": "a static lake", "dimension": ["scene"]}]
    rows.append({"prompt_en": "x" * 210, "dimension": ["human_action"]})
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def test_names_are_vbenchs(tmp_path):
    """The prompt comes back out of the name, and temporal flickering has 25 clips."""
    prompts, _ = sets.vbench_prompts(full_info(tmp_path / "info.json"), seed=0)
    assert len(prompts) == 7 * 5 + 25
    assert all(vbench.prompt_of(p.about["vbench"]) == p.prompt for p in prompts)
    assert vbench.prompt_of("in 2020-7-3.mp4") == "in 2020-7"
    assert len({p.id for p in prompts}) == len(prompts)
    with pytest.raises(InputError, match="file name"):
        vbench.video_name("a/b", 0)


def test_vbenchs_own_list():
    """944 prompts, 6,220 clips; where VBench's package is installed."""
    package = find_spec("vbench")
    if package is None:
        pytest.skip("vbench is not installed (pip install --no-deps vbench)")
    file = Path(package.origin).with_name("VBench_full_info.json")
    prompts, _ = sets.vbench_prompts(file, seed=0)
    names = [p.about["vbench"] for p in prompts]
    assert len({p.prompt for p in prompts}) == 944 and len(set(names)) == 6220
    assert all(vbench.prompt_of(p.about["vbench"]) == p.prompt for p in prompts)


def test_totals_are_those_of_the_papers_table():
    scores = {name: value / 100 for name, value in vbench.PAPER.items()}
    totals = vbench.totals(scores)
    assert totals == pytest.approx(
        {"quality": 80.5922, "semantic": 72.9767, "total": 79.0691}, abs=1e-4
    )
    # The published quality follows from another imaging quality than the paper's table has.
    assert vbench.totals({**scores, "imaging_quality": 0.5866})["quality"] == pytest.approx(
        80.42, abs=0.01
    )


def test_a_missing_dimension_is_no_zero():
    totals = vbench.totals({"scene": 0.5})
    assert all(value != value for value in totals.values())


def test_a_run_is_laid_out_and_its_results_are_read(tmp_path, capsys):
    info = full_info(tmp_path / "info.json")
    run = tmp_path / "run"
    assert main(["evaluate", "prompts", "vbench", str(info), "--out", str(run)]) == 0
    for name in ("00000-0", "00006-24"):
        clip_file(run / "clips" / "000" / f"{name}.mp4", frames=2)
    command = ["evaluate", "vbench", str(run), "--info", str(info)]
    assert main([*command, "--vbench-python", "/opt/v b/python"]) == 0
    videos = {path.name for path in (run / "vbench" / "videos").iterdir()}
    assert videos == {
        "a fish's fin, in 4K; (slow-motion) & no. 7 0.-0.mp4",
        "a static lake-24.mp4",
    }
    script = (run / "vbench" / "run.sh").read_text()
    assert script.count("'/opt/v b/python'") == 17 and "static_filter" in script
    results = run / "vbench" / "results" / "scene"
    results.mkdir(parents=True)
    (results / "r_eval_results.json").write_text('{"scene": [0.4703, []]}')
    assert main(command) == 0
    assert "47.03" in capsys.readouterr().err
    rows = json.loads((run / "scores" / "vbench.json").read_text())["rows"]
    assert rows[0]["paper"] == 47.03 and rows[-1]["value"] is None
