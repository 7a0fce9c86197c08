"""Peak memory of a ComfyUI server that upscales a film: python benchmarks/long_film.py COMFYUI
[--frames 1000 10000] [--json FILE]

LoadVideo, Show1UpscaleVideo with the bundled model and one step, SaveVideo; 12x8 frames in shots of
250. Each length in a server of its own. COMFYUI is a source tree whose packages this interpreter
has.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from comfyui_server import Server, link_pack, run_prompt  # noqa: E402

from show1_engine.video import write_mp4  # noqa: E402

SHOT, FPS = 250, 8


def film(file: Path, frames: int) -> None:
    """Shots of one grey each, every second one light."""
    shots = torch.arange(frames) // SHOT % 2
    write_mp4(file, (0.2 + 0.6 * shots).view(-1, 1, 1, 1).expand(-1, 8, 12, 3), FPS)


def prompt(name: str) -> dict[str, dict]:
    """The graph, as the editor sends it."""
    nodes = {
        "1": ("Show1LoadModel", {"model_name": "micro/show-1-sr1"}),
        "2": ("Show1LoadTextEncoder", {"name": "micro/show-1-base"}),
        "3": ("Show1TextEncode", {"text_encoder": ["2", 0], "text": "a red circle"}),
        "4": ("LoadVideo", {"file": name}),
        "5": (
            "Show1UpscaleVideo",
            {"model": ["1", 0], "video": ["4", 0], "positive": ["3", 0], "steps": 1, "cfg": 1.0},
        ),
        "6": (
            "SaveVideo",
            {"video": ["5", 0], "filename_prefix": "film", "format": "auto", "codec": "auto"},
        ),
    }
    nodes["5"][1].update(noise_level=20, seed=1)
    return {key: {"class_type": kind, "inputs": values} for key, (kind, values) in nodes.items()}


def peak(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def measured(comfyui: Path, frames: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "input").mkdir()
        film(base / "input" / "film.mp4", frames)
        link_pack(base / "custom_nodes")
        with Server(comfyui, base=base, args=("--cpu",)) as server:
            idle, start = peak(server.process.pid), time.monotonic()
            run = run_prompt(server, prompt("film.mp4"), timeout=3600)
            if run.status != "success":
                raise SystemExit(f"{run.status}: {run.message}")
            return {
                "frames": frames,
                "seconds": round(time.monotonic() - start, 1),
                "peak RSS, MB": round(peak(server.process.pid) / 1e6, 1),
                "peak RSS before, MB": round(idle / 1e6, 1),
            }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("comfyui", type=Path)
    parser.add_argument("--frames", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = [measured(args.comfyui, frames) for frames in args.frames]
    ratio = rows[-1]["peak RSS, MB"] / rows[0]["peak RSS, MB"]
    found = {"runs": rows, "the longest over the shortest": round(ratio, 3)}
    print(json.dumps(found, indent=1))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
