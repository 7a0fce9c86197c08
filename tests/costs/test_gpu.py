"""The GPU protocol's logic, at micro size on the CPU."""

import json
from dataclasses import replace

import pytest
import torch
from small_work import small_work

from benchmarks import bench, gpu
from show1_engine.models.kinds import (
    FIRST_FRAME_SR,
    INTERPOLATION,
    KEYFRAMES,
    LATENT_EXPERT,
    PIXEL_SR,
)
from show1_engine.stages.keyframes import KeyframeSettings


@pytest.fixture(scope="module")
def work() -> gpu.Workload:
    return small_work()


def test_every_stage_is_measured(work, tmp_path):
    result = gpu.measure(work, "cpu")
    for preset, evaluations in (("reference", (12, 12)), ("fast", (8, 5))):
        rows = result[preset]
        assert list(rows) == [
            "text",
            KEYFRAMES,
            INTERPOLATION,
            FIRST_FRAME_SR,
            PIXEL_SR,
            LATENT_EXPERT,
        ]
        counted = rows[KEYFRAMES]["evaluations"], rows[INTERPOLATION]["evaluations"]
        assert counted == evaluations
        assert all(row["seconds"] > 0 and not row["out of memory"] for row in rows.values())
        assert all(row["flops"] > 0 for name, row in rows.items() if name != "text")
    assert result["against the baseline"].keys() == work.unets.keys()
    whole = {
        "date": "2000-01-01",
        "device": "cpu",
        "torch": torch.__version__,
        "peak TFLOP/s": 1.0,
        "runs": [result, {"limit GB": 8, "failed": 1}],
    }
    page = bench.write(whole, tmp_path, gpu.markdown)
    assert "| fast | pixel_sr |" in page.read_text() and "Failed with code 1" in page.read_text()
    assert json.loads(next(tmp_path.glob("*.json")).read_text())["runs"][1] == {
        "limit GB": 8,
        "failed": 1,
    }


def test_a_stage_that_runs_out_of_memory_is_noted_and_the_next_ones_run(work, monkeypatch):
    def fails(*_, **__):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setitem(gpu._STAGES, INTERPOLATION, fails)
    rows = gpu.cascade(
        replace(
            work, keyframes=KeyframeSettings(width=8, height=8, num_frames=2, steps=1, cfg=1.0)
        ),
        gpu.PlainRuntime("cpu"),
        torch.device("cpu"),
    )
    assert [kind for kind, row in rows.items() if row["out of memory"]] == [INTERPOLATION]
    assert rows[LATENT_EXPERT]["evaluations"] > 0
