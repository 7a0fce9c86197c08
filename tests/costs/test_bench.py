"""The benchmark's own logic: the baseline computes the same, and the tables hold what was
measured.
"""

import json

import pytest
import torch

from benchmarks import bench, full_size, paper
from show1_engine.models.kinds import KEYFRAMES
from show1_engine.models.unet import UNet
from show1_micro import configs


def test_the_baseline_computes_the_same():
    """Checked by forward_ratios itself, which refuses to compare anything else."""
    for kind in ("keyframes", "pixel_sr", "latent_expert"):
        net = full_size.fill(UNet(configs.unet_config(kind)).eval().requires_grad_(False))
        rows = bench.forward_ratios(net, (2, 8, 8), 1)
        assert rows.keys() == {bench.OURS, bench.PLAIN, bench.PLAIN_FUSED}
        assert all(row["seconds"] > 0 for row in rows.values())


def test_the_compiled_twin(monkeypatch):
    compiled = []
    monkeypatch.setattr(bench, "compile_network", lambda network, device: compiled.append(network))
    net = full_size.fill(UNet(configs.unet_config("keyframes")).eval().requires_grad_(False))
    twin, inputs = bench._compiled(net), paper.evaluation(net, 1, 2, 8, 8)
    assert compiled == [twin] and twin is not net and torch.equal(twin(*inputs), net(*inputs))


def test_other_numbers_are_refused():
    with pytest.raises(RuntimeError, match="differs from ours by 1.0"):
        bench._same("result", torch.zeros(2), torch.ones(2))


def test_the_page(tmp_path):
    """Tables of results as `run` gives them; the slow parts stand in with two rows."""
    row = {"seconds": 1.0, "cpu seconds": 2.0, "times as fast": 1.5}
    names = (bench.OURS, bench.PLAIN, bench.PLAIN_FUSED, bench.COMPILED, "balanced", "fast")
    stage = {name: dict(row, evaluations=3) for name in names}
    stage |= {
        "flops of one": 10**9,
        "activations counted": 5 * 10**6,
        "activations estimated": 6 * 10**6,
    }
    forward = {"frames, height, width": (8, 20, 32), "flops": 10**12, **stage}
    results = {
        "date": "2000-01-01",
        "device": "some CPU, 2 cores",
        "threads": 1,
        "torch": torch.__version__,
        "repeats": 3,
        "micro": {KEYFRAMES: stage},
        "full size": {"show-1-base": forward},
        "paper": {KEYFRAMES: paper._cost(paper.STAGES[KEYFRAMES])},
    }
    page = bench.write(results, tmp_path)
    assert page.name == "2000-01-01-some-CPU-2-cores.md"
    text = page.read_text()
    assert "| fused | ours | compiled | balanced | fast |" in text
    assert (
        "| keyframes | 2.00 | 1.50\u00d7 |" in text
        and "| show-1-base | 8 \u00d7 20 \u00d7 32 | 1.00 |" in text
    )
    assert "| keyframes | show-1-base | 1727 M | 150 / 112 / 45 |" in text
    assert json.loads(page.with_suffix(".json").read_text())["repeats"] == 3
