"""A core CLIP that holds T5 or OpenCLIP-H gives the states of our own text encoders."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def differences(comfyui, pack, tmp_path_factory):
    scratch = tmp_path_factory.mktemp("clip")
    script = Path(__file__).with_name("core_clip.py")
    path = os.pathsep.join(map(str, (comfyui, pack)))  # ComfyUI's nodes.py before our nodes/
    subprocess.run(
        [sys.executable, script, scratch, scratch / "out.json"],
        env=os.environ | {"PYTHONPATH": path},
        check=True,
    )
    return json.loads((scratch / "out.json").read_text())


@pytest.mark.parametrize(
    "name",
    [
        "T5 in the host's layers",
        "core CLIP LTXV, clean_caption False",
        "core CLIP LTXV, clean_caption True",
        "core CLIP SD3, clean_caption False",
        "CLIP in the host's layers",
        "core CLIP SD2",
    ],
)
def test_same_states(differences, name):
    assert differences[name] < 5e-5, differences


def test_another_t5_is_refused_by_name(differences):
    """CLIPLoader's type "cosmos" has a t5xxl too, of the T5 before v1.1."""
    message = differences["cosmos"]
    assert "type 'cosmos'" in message and "T5 v1.1 XXL" in message and "\n" not in message
    assert "holds neither T5 v1.1 XXL" in differences["SD3 without T5"]
