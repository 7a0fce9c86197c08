"""Models live in ComfyUI's memory manager: partly on the card, partly in main memory, with the same
frames.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KINDS = ["keyframes", "interpolation", "first_frame_sr", "pixel_sr", "latent_expert"]


@pytest.fixture(scope="module")
def report(comfyui, cascade, pack, tmp_path_factory):
    """What partial_loading.py found."""
    file = tmp_path_factory.mktemp("memory") / "report.json"
    script = Path(__file__).with_name("partial_loading.py")
    path = os.pathsep.join(
        map(str, (comfyui, script.parent, pack))
    )  # ComfyUI's nodes.py before our nodes/
    subprocess.run(
        [sys.executable, script, cascade, file], env=os.environ | {"PYTHONPATH": path}, check=True
    )
    return json.loads(file.read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_same_frames_at_any_split(report, kind):
    if kind not in report:
        pytest.skip("the test cascade has no such model")
    differences = {run["budget"]: run["difference"] for run in report[kind]}
    assert max(differences.values()) < 1e-5, differences


@pytest.mark.parametrize("kind", KINDS)
def test_model_is_really_split(report, kind):
    """Whole with much room, less with less."""
    if kind not in report:
        pytest.skip("the test cascade has no such model")
    shares = [run["resident"] / run["weights"] for run in report[kind]]
    assert shares[0] == 1 and shares == sorted(shares, reverse=True)
    assert 0 < shares[1] < 1 and shares[-1] < 0.1, shares
