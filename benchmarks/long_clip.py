"""Peak memory of pixel SR on long clips: python benchmarks/long_clip.py [--frames 100 1000] [--json
FILE]

64x40 frames to 256x160 by a small random model with one step: what grows with the clip is its input
and output alone. Each length runs in a process of its own, so that peaks do not mix.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
HEIGHT, WIDTH, SCALE = 40, 64, 4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    rows = [
        json.loads(
            subprocess.run(
                [sys.executable, __file__, "--one", str(count)],
                check=True,
                text=True,
                stdout=subprocess.PIPE,
            ).stdout
        )
        for count in args.frames
    ]
    print("| frames | seconds | input + output MB | peak RSS MB |\n|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['frames']} | {row['seconds']:.0f} | {row['data'] / 1e6:.0f} | "
            f"{row['peak'] / 1e6:.0f} |"
        )
    added = rows[-1]["data"] - rows[0]["data"]
    grown = rows[-1]["peak"] - rows[0]["peak"]
    print(
        f"\nFrom {rows[0]['frames']} to {rows[-1]['frames']} frames the peak grows by "
        f"{grown / 1e6:.0f} MB, "
        f"{grown / added:.2f} x the added input and output."
    )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


def measure(frames: int) -> dict:
    from show1_engine.loading import load_model
    from show1_engine.runtime import PlainRuntime
    from show1_engine.stages.pixel_sr import PixelSRSettings, pixel_sr

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(small_model(Path(folder)), PlainRuntime())
        text = torch.zeros(1, 77, model.network.text_width)
        clip = torch.rand(frames, HEIGHT, WIDTH, 3)
        start = time.monotonic()
        out = pixel_sr(model, clip, text, negative=text, settings=PixelSRSettings(steps=1, cfg=1.0))
    return {
        "frames": frames,
        "seconds": time.monotonic() - start,
        "data": (clip.numel() + out.numel()) * 4,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def small_model(folder: Path) -> Path:
    """The micro SR model's config with one level of its layers, random weights."""
    from safetensors.torch import save_file

    from show1_engine.models.unet import UNet
    from show1_micro import configs

    config = {
        **configs.pixel_unet(6, (32,), 1, kinds=("resnet",), sample_size=256),
        "class_embed_type": "timestep",
        "mid_block_type": "UNetMidBlock3DSimpleCrossAttn",
        "only_cross_attention": True,
    }
    for part, content in (
        ("unet/config.json", config),
        ("scheduler/scheduler_config.json", configs.scheduler_config("pixel_sr")),
    ):
        (folder / part).parent.mkdir()
        (folder / part).write_text(json.dumps(content))
    save_file(UNet(config).state_dict(), folder / "unet" / "diffusion_pytorch_model.safetensors")
    return folder


if __name__ == "__main__":
    main()
