"""`bench --gpu --comfyui`: the protocol for a card, inside ComfyUI's memory manager; here on the
CPU at micro size.
"""

import json
import os
import subprocess
import sys

from show1_engine.models.kinds import (
    FIRST_FRAME_SR,
    INTERPOLATION,
    KEYFRAMES,
    LATENT_EXPERT,
    PIXEL_SR,
)

SCRIPT = """
import json, sys
import comfy.cli_args
comfy.cli_args.args.cpu = True
from benchmarks import gpu
from small_work import small_work
print(json.dumps(gpu.measure(small_work(), "cpu", comfyui=True, dtype=sys.argv[1], baseline=False)))
"""


def test_every_stage_runs_in_the_hosts_memory_manager(comfyui, pack):
    path = os.pathsep.join(
        map(str, (comfyui, pack, pack / "tests" / "host"))
    )  # ComfyUI's nodes.py before our nodes/
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "fp8_e4m3fn_fast"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["manager"] == "ComfyUI"
    for preset in ("reference", "fast"):
        assert list(result[preset]) == [
            "text",
            KEYFRAMES,
            INTERPOLATION,
            FIRST_FRAME_SR,
            PIXEL_SR,
            LATENT_EXPERT,
        ]
        assert not any(row["out of memory"] for row in result[preset].values())
