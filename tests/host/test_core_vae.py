"""A core VAE of Stable Diffusion 1.5's type serves as the latent expert's."""

import json
import os
import subprocess
import sys
from pathlib import Path


def test_same_latents_and_frames(comfyui, pack, tmp_path):
    path = os.pathsep.join(map(str, (comfyui, pack)))  # ComfyUI's nodes.py before our nodes/
    script = Path(__file__).with_name("core_vae.py")
    subprocess.run(
        [sys.executable, script, tmp_path / "out.json"],
        env=os.environ | {"PYTHONPATH": path},
        check=True,
    )
    assert max(json.loads((tmp_path / "out.json").read_text()).values()) < 1e-4
