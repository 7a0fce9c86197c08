"""Stores of features, and what becomes of them: numbers, refusals, tables, the page."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from show1_engine.__main__ import main
from show1_engine.errors import InputError, ResultError
from show1_engine.evaluation import report as reports
from show1_engine.evaluation.charts import Bar, bars, line
from show1_engine.evaluation.choices import METRICS, PRESETS, Sampling
from show1_engine.evaluation.features import (
    Job,
    Store,
    check_usable,
    drawn,
    measure,
    measure_frames,
    shard_of,
)
from show1_engine.evaluation.metrics import frechet_distance, inception_score, softmax
from show1_engine.evaluation.networks import Network
from show1_engine.evaluation.report import Options, markdown_table, number, score
from show1_engine.evaluation.sets import folder_clips
from show1_engine.video import write_mp4

PAPER = PRESETS["paper"]


def network(name: str = "lite0", digest: str = "0" * 64) -> Network:
    """Means of the picture's quarters: real features, at no cost."""

    def features(frames):
        return torch.nn.functional.adaptive_avg_pool2d(
            frames.movedim(-1, 1).float(), (2, 2)
        ).flatten(1)

    return Network(name, digest, "means", features=features, logits=lambda x: x.mean(0))


def store(folder, rows, weights: str = "a" * 64, **settings) -> Store:
    made = Store(folder, {"network": "i3d", "weights": weights, **settings})
    for i, row in enumerate(rows):
        made.add(f"{i:05}", torch.as_tensor(np.asarray(row), dtype=torch.float32))
    return made


def sets_of_clips(tmp_path, n: int = 60, m: int = 60, d: int = 6):
    r = np.random.RandomState(0)
    fake, real = r.randn(n, d) + 0.5, r.randn(m, d)
    return store(tmp_path / "fake", fake), store(tmp_path / "real", real), fake, real


# Stores


def test_a_store_keeps_what_it_is_given(tmp_path):
    made = Store(tmp_path / "s", {"size": 4})
    made.add("sub/a", torch.tensor([1.0, 2.0]))
    made.add("b", torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert made.names() == ["b", "sub/a"] and len(made) == 2 and "b" in made and "c" not in made
    again = Store(tmp_path / "s")
    assert np.concatenate(list(again.rows(["sub/a", "b"]))).tolist() == [[1, 2], [1, 2], [3, 4]]


def test_other_settings_are_refused_by_name(tmp_path):
    Store(tmp_path / "s", {"size": 4, "fit": "crop"})
    with pytest.raises(InputError, match="size 4, not 5"):
        Store(tmp_path / "s", {"size": 5, "fit": "crop"})
    with pytest.raises(InputError, match="no features"):
        Store(tmp_path / "none")


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b"])
def test_no_name_leads_out_of_a_store(tmp_path, name):
    with pytest.raises(InputError, match="no name"):
        Store(tmp_path / "s", {}).add(name, torch.zeros(1))


def test_nothing_that_is_not_finite_is_kept(tmp_path):
    made = Store(tmp_path / "s", {})
    with pytest.raises(ResultError, match="NaN"):
        made.add("a", torch.tensor([float("nan")]))
    assert len(made) == 0


def test_damaged_features_are_named(tmp_path):
    made = Store(tmp_path / "s", {})
    made.add("a", torch.zeros(3))
    made.path("a").write_bytes(made.path("a").read_bytes()[:90])
    with pytest.raises(InputError, match="damaged"):
        made.read("a")


def test_shards_have_a_like_mix():
    parts = [shard_of(list(range(10)), (i, 3)) for i in (1, 2, 3)]
    assert parts[0] == [0, 3, 6, 9] and sorted(sum(parts, [])) == list(range(10))


def test_a_draw_prefers_the_same_clips():
    names = [f"{i:03}" for i in range(100)]
    some = drawn(names, 10, 0)
    assert drawn(list(reversed(names)), 10, 0) == some == drawn(names, 20, 0)[:10]
    assert drawn([n for n in names if n != some[0]], 9, 0) == some[1:]
    assert drawn(names, 10, 1) != some


def clips_in(folder, count: int = 3, frames: int = 18):
    folder.mkdir()
    for i in range(count):
        write_mp4(folder / f"{i}.mp4", torch.rand(frames, 32, 32, 3), 8.0)
    return folder_clips(folder)


def test_features_of_files_and_of_frames_in_memory(tmp_path):
    clips = clips_in(tmp_path / "clips")
    sampling = Sampling(frames=4, size=16)
    jobs = [
        Job.into(tmp_path / "f", metric, network(), sampling=sampling, seed=0)
        for metric in ("fvd", "fid_frames", "is")
    ]
    assert measure(clips, jobs) == []
    assert [job.store.read("0").shape for job in jobs] == [(12,), (4, 12), (12,)]
    np.testing.assert_allclose(jobs[1].store.read("1").mean(0), jobs[0].store.read("1"), rtol=1e-5)
    measure_frames("made", torch.full((20, 8, 8, 3), 0.5), jobs)
    assert jobs[0].store.read("made").tolist() == pytest.approx([128.0] * 12)


def test_short_clips_are_left_out_where_that_is_allowed(tmp_path):
    clips = clips_in(tmp_path / "clips", count=2, frames=5)
    job = Job.into(tmp_path / "f", "fvd", network(), sampling=Sampling(), seed=0)
    assert measure(clips, [job], skip_short=True) == ["0", "1"] and len(job.store) == 0
    with pytest.raises(InputError, match="5 frames"):
        measure(clips, [job])


def test_a_metric_needs_a_network_that_can():
    check_usable("fvd", network())
    with pytest.raises(InputError, match="reads no captions"):
        check_usable("clipsim", network())
    with pytest.raises(InputError, match="is cannot be of inception"):
        check_usable("is", replace(network("inception"), logits=None))
    with pytest.raises(InputError, match="fid_frames cannot be of i3d"):
        check_usable("fid_frames", network("i3d"))


# Scores


def test_a_distance_is_that_of_the_features(tmp_path):
    fake, real, a, b = sets_of_clips(tmp_path)
    row = score("fvd", fake, real, Options(PAPER))
    assert row.value == pytest.approx(frechet_distance(a, b), rel=1e-5)
    assert (row.n_fake, row.n_real) == (60, 60) and row.error > 0
    assert any("not the protocol's 2,048" in note for note in row.notes)
    other = score("fvd", fake, real, Options(PRESETS["stylegan-v"]))
    assert other.value == pytest.approx(frechet_distance(a, b, ddof=0), rel=1e-5)


def test_frames_are_pooled(tmp_path):
    r = np.random.RandomState(0)
    a, b = r.randn(20, 8, 6), r.randn(20, 8, 6)
    row = score("fid_frames", store(tmp_path / "f", a), store(tmp_path / "r", b), Options(PAPER))
    assert row.value == pytest.approx(
        frechet_distance(a.reshape(-1, 6), b.reshape(-1, 6)), rel=1e-5
    )
    assert any("has no definition" in note for note in row.notes)


def test_unequal_numbers_are_refused_without_force(tmp_path):
    fake, real, _, _ = sets_of_clips(tmp_path, n=60, m=50)
    with pytest.raises(InputError, match="60 generated and 50 real.*--count 50.*--force"):
        score("fvd", fake, real, Options(PAPER))
    assert score("fvd", fake, real, Options(PAPER, count=50)).n_fake == 50
    forced = score("fvd", fake, real, Options(PAPER, force=True))
    assert any("--force" in note for note in forced.notes)
    with pytest.raises(InputError, match="--count 51"):
        score("fvd", fake, real, Options(PAPER, count=51))


def test_other_networks_are_not_compared(tmp_path):
    fake, _, _, _ = sets_of_clips(tmp_path)
    real = store(tmp_path / "other", np.zeros((60, 6)), weights="b" * 64)
    with pytest.raises(InputError, match="different weights"):
        score("fvd", fake, real, Options(PAPER))


def test_repeats_are_of_further_clips(tmp_path):
    """VideoPoet's: the mean of distances of as many draws as there are clips for."""
    fake, real, a, _ = sets_of_clips(tmp_path, n=90, m=30)
    preset = replace(PRESETS["videopoet"], count=30)
    row = score("fvd", fake, real, Options(preset))
    assert row.choices["draws"] == 3 and row.n_fake == 30 and "3 draws" in row.error_is


def test_a_score_of_few_clips_is_refused_without_force(tmp_path):
    logits = np.random.RandomState(0).randn(40, 5)
    made = store(tmp_path / "is", logits)
    with pytest.raises(InputError, match="40 clips.*1,000"):
        score("is", made, None, Options(PAPER))
    row = score("is", made, None, Options(PAPER, splits=4, force=True))
    wanted = inception_score(softmax(logits.astype(np.float32)), 4, seed=None)
    assert row.value == pytest.approx(wanted[0], rel=1e-6)
    assert row.choices["splits"] == 4 and "4 splits" in row.error_is


def test_clipsim_is_the_mean_of_the_clips_means(tmp_path):
    made = store(tmp_path / "c", [[0.1, 0.3], [0.5]])
    row = score("clipsim", made, None, Options(PAPER))
    assert row.value == pytest.approx(0.35) and row.n_fake == 2
    assert reports.by_frame(made) == pytest.approx([0.3, 0.3])
    assert reports.clip_scores(made) == pytest.approx({"00000": 0.2, "00001": 0.5})


def test_without_real_clips_there_is_no_distance(tmp_path):
    fake, _, _, _ = sets_of_clips(tmp_path)
    row = score("fvd", fake, None, Options(PAPER))
    assert row.value is None and "real" in row.why


# Reports


def report_of(tmp_path, known: str = "ucf101"):
    fake, real, _, _ = sets_of_clips(tmp_path)
    rows = [
        score("fvd", fake, real, Options(PAPER)),
        score("fvd", fake, real, Options(PAPER), stage="keyframes"),
        reports.not_measured("is", "no weights"),
    ]
    return reports.write_report(tmp_path, rows, Options(PAPER), about={"set": known, "about": {}})


def test_a_report_has_the_papers_numbers_and_every_choice(tmp_path):
    report_of(tmp_path)
    found = json.loads((tmp_path / "report.json").read_text())
    fvd, stage, score_ = found["rows"]
    assert (fvd["paper"], stage["paper"], score_["paper"]) == (383.46, 569.0, 35.67)
    assert score_["value"] is None and score_["why"] == "no weights"
    assert {"weights", "network", "ddof", "draw seed", "draws"} <= fvd["choices"].keys()
    text = (tmp_path / "report.md").read_text()
    assert "383.46 (table 1" in text and "not measured: no weights" in text
    assert "| ddof | 1 |" in text and "as far as published" in text
    assert "FID-vid" not in "".join(line for line in text.splitlines() if "| fvd" in line)


def test_the_papers_number_stands_beside_its_own_set_and_network_alone(tmp_path):
    for row in report_of(tmp_path, known="mine")["rows"]:
        assert row["paper"] is None
    row = reports.Row("fvd", "", choices={"network": "lite0"})
    made = reports.write_report(tmp_path, [row], Options(PAPER), about={"set": "ucf101"})
    assert made["rows"][0]["paper"] is None
    assert reports.label(made["rows"][0]) == "fvd (lite0)"


def test_fid_vid_has_no_number_in_the_papers_column(tmp_path):
    rows = [reports.Row(name, METRICS[name].definition, value=1.0) for name in METRICS]
    made = reports.write_report(tmp_path, rows, Options(PAPER), about={"set": "msrvtt"})
    papers = {row["metric"]: row["paper"] for row in made["rows"]}
    assert papers == {
        "fvd": 536.0,
        "is": None,
        "fid_frames": None,
        "fid_clip": None,
        "clipsim": 0.3104,
    }


def test_tables_and_numbers():
    assert markdown_table(("a", "b"), [("x|y", 1)]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |"
    assert [number(x) for x in (None, float("nan"), 0.31044, 383.46, 12345.6)] == [
        "-",
        "-",
        "0.3104",
        "383.5",
        "12,346",
    ]


def test_scores_are_kept_beside_a_run(tmp_path):
    reports.write_scores(tmp_path, "Votes, all", [{"name": "x", "value": float("nan"), "n": 3}])
    assert reports.read_scores(tmp_path) == {"Votes, all": [{"name": "x", "value": None, "n": 3}]}
    assert "not measured" in reports.scores_table(reports.read_scores(tmp_path)["Votes, all"])


def test_drawings_hold_their_values():
    drawing = bars([Bar("a<b", 50, low=40, high=60, mark=80), Bar("none", 0)], "t")
    assert "a&lt;b" in drawing and drawing.count("<rect") == 2 and 'class="mark"' in drawing
    curve = line([0.1, 0.2, 0.15], "t", axis="frame")
    assert curve.count(",") >= 3 and "frame 2" in curve


def test_a_report_of_a_folder_is_asked_for_by_name(tmp_path, capsys):
    """What cannot be measured is one line; a wrong name lists all there are."""
    clips_in(tmp_path / "fake")
    command = ["evaluate", "folder", str(tmp_path / "fake"), "--weights", str(tmp_path)]
    assert main([*command, "--metric", "fvd"]) == 2
    error = capsys.readouterr().err
    assert "i3d_pretrained_400.pt" in error and "TATS" in error
    assert main([*command, "--metric", "fid"]) == 2
    assert "fid_frames" in capsys.readouterr().err
    assert main([*command, "--metric", ","]) == 2
    assert "is empty" in capsys.readouterr().err


def test_weights_are_listed_with_their_identity(capsys):
    assert main(["evaluate", "weights"]) == 0
    listed = capsys.readouterr().out
    assert "a867b87ac3a9097d200598b1d48a1b890d8ec744" in listed and "mean2.npz" in listed
