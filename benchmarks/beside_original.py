"""Ours beside the original: python benchmarks/beside_original.py --original CHECKOUT --python
PYTHON [--full-size] [--only NAME ...] [--repeats 3] [--threads 1] [--json FILE]

CHECKOUT is a clone of the original Show-1 (showlab/Show-1), PYTHON a Python that has its libraries:
diffusers 0.19.3, transformers 4.29.1 and a torch, best the one that is used here. Nothing of either
is part of this repository.

Checkpoints of equal random weights are written to a temporary folder: models of the published
architecture made small, or of the published sizes. One process of each side loads them in float32.
For every model a forward of its UNet, then its stage with few steps, runs once without counting and
then in turns; results are compared, and CPU seconds set beside each other (the JSON has wall
seconds too).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks import full_size  # noqa: E402
from benchmarks.original_side import Job, Work, answer, frames, held  # noqa: E402
from show1_engine.models.autoencoder import build  # noqa: E402
from show1_micro.configs import noising_config  # noqa: E402

SEED = 345
Row = dict[str, Any]


@dataclass(frozen=True)
class Piece:
    """A model, the stage it is for, and the clip (frames, rows, columns) that the stage is given:
    small, full.

    steps, cfg, level: of the stage; the noise level where it has one.
    """

    model: str
    stage: str
    small: tuple[int, int, int]
    full: tuple[int, int, int]
    steps: int
    cfg: float
    level: int | None = None


PIECES = [
    Piece("show-1-base", "keyframes", (8, 16, 32), full=(8, 40, 64), steps=4, cfg=9.0),
    Piece("show-1-interpolation", "interpolation", (3, 16, 32), full=(3, 40, 64), steps=4, cfg=4.0),
    Piece("IF-II-L", "first frame", (1, 16, 32), full=(1, 40, 64), steps=4, cfg=4.0, level=150),
    Piece("show-1-sr1", "pixel SR", (8, 16, 32), full=(8, 40, 64), steps=4, cfg=7.0, level=250),
    Piece("show-1-sr2", "expert", (8, 128, 192), full=(8, 320, 576), steps=5, cfg=15.0),
]
STRENGTH = 0.8


def small(config: dict[str, Any]) -> dict[str, Any]:
    """The same architecture at a fifth of the width and one layer a level."""
    count = len(config["block_out_channels"])
    made = {
        **config,
        "block_out_channels": [64, 128, 192, 256, 256][:count],
        "cross_attention_dim": 256,
        "layers_per_block": 1,
    }
    if "encoder_hid_dim" in config:
        made |= {"encoder_hid_dim": 512, "time_embedding_dim": 256}
    if isinstance(config["attention_head_dim"], list):
        made["attention_head_dim"] = [1, 2, 3, 4]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--original", type=Path, metavar="CHECKOUT")
    add("--python", type=Path)
    add("--full-size", action="store_true")
    add("--only", nargs="+", choices=[piece.model for piece in PIECES])
    add("--repeats", type=int, default=3)
    add("--threads", type=int, default=1)
    add("--json", type=Path)
    add("--ours", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ours:
        answer(prepared)
        return
    if not (args.original and args.python):
        parser.error("--original and --python are needed; nothing of the original is stored here")
    rows = measured(args)
    print(table(rows))
    if args.json:
        about = f"{platform.machine()}, {torch.__version__}, {args.threads} thread(s)"
        found = {"machine": about, "full size": args.full_size, "rows": rows}
        args.json.write_text(json.dumps(found, indent=1) + "\n")


def measured(args: argparse.Namespace) -> list[Row]:
    """Both sides of everything."""
    path = {"PYTHONPATH": str(args.original.absolute())}
    sides = {
        "ours": Side([sys.executable, __file__, "--ours"], {}),
        "original": Side([str(args.python), str(HERE / "original_side.py")], path),
    }
    rows = []
    for piece in PIECES:
        if args.only and piece.model not in args.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            jobs = jobs_of(piece, Path(folder), args.full_size)
            for job in jobs:
                job["threads"] = args.threads
                row = beside(job, sides, args.repeats, folder=Path(folder))
                rows.append({"model": piece.model, "work": job["kind"], **row})
                print(line_of(rows[-1]), file=sys.stderr, flush=True)
    for side in sides.values():
        side.close()
    return rows


class Side:
    """A process that works on jobs."""

    def __init__(self, words: list[str], environment: dict[str, str]):
        self._process = subprocess.Popen(
            words,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def takes(self, job: Job) -> tuple[float, float]:
        """CPU and wall seconds of a job."""
        print(json.dumps(job), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args[0]} ended in the middle of {job['kind']}")
        return tuple(json.loads(line))

    def close(self) -> None:
        self._process.communicate()


def beside(job: Job, sides: dict[str, Side], repeats: int, folder: Path) -> Row:
    """A job on both sides in turns, after a first run that does not count."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    files = {name: folder / f"{name}.safetensors" for name in sides}
    for _ in range(repeats + 1):
        for name, side in sides.items():
            took[name].append(side.takes({**job, "result": str(files[name])}))
    made = [load_file(file)["made"] for file in files.values()]
    if job["kind"] != "forward":
        made = [clip.clamp(0, 1) for clip in made]
    gap = (made[0] - made[1]).abs()
    row: Row = {"size": float(made[1].abs().mean()), "largest difference": float(gap.max())}
    row["mean difference"] = float(gap.mean())
    for name, turns in took.items():
        cpu, wall = zip(*turns[1:], strict=True)
        row[name] = statistics.median(cpu)
        row[f"{name}, wall"] = statistics.median(wall)
    return {**row, "original / ours": row["original"] / row["ours"]}


def table(rows: list[Row]) -> str:
    head = "| model | work | ours | original | original / ours | difference: mean | largest |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *map(line_of, rows)])


def line_of(row: Row) -> str:
    return (
        f"| {row['model']} | {row['work']} | {row['ours']:.2f} s | {row['original']:.2f} s | "
        f"{row['original / ours']:.2f} | {row['mean difference']:.1e} | "
        f"{row['largest difference']:.1e} |"
    )


def jobs_of(piece: Piece, folder: Path, full: bool) -> list[Job]:
    """A forward and the stage, with their model and inputs written to a folder."""
    config = full_size.UNETS[piece.model]
    config = config if full else small(config)
    write_model(piece, folder, config, full=full)
    inputs = inputs_of(piece, config, piece.full if full else piece.small)
    save_file(inputs, folder / "inputs.safetensors")
    frames, height, width = piece.full if full else piece.small
    job = {
        "folder": str(folder),
        "inputs": str(folder / "inputs.safetensors"),
        "timestep": 500,
        "steps": piece.steps,
        "cfg": piece.cfg,
        "noise_level": piece.level,
        "seed": SEED,
        "strength": STRENGTH,
        "frames": frames,
        "height": height,
        "width": width,
    }
    return [{**job, "kind": kind} for kind in ("forward", piece.stage)]


def inputs_of(
    piece: Piece, config: dict[str, Any], clip: tuple[int, int, int]
) -> dict[str, Tensor]:
    """Random text, a random clip, and what the UNet alone is given."""
    source = torch.Generator().manual_seed(SEED)
    frames, height, width = clip
    text = config.get("encoder_hid_dim") or config["cross_attention_dim"]
    positive, negative = torch.randn(2, 1, 77, text, generator=source) * 0.3
    found = {"positive": positive, "negative": negative}
    found["bytes"] = torch.randint(256, (*clip, 3), generator=source, dtype=torch.uint8)
    video = found["bytes"].permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    found["video"] = video.contiguous()
    scale = 4 if piece.level is not None else 1
    if piece.stage == "expert":
        height, width = height // 8, width // 8
    first = torch.rand(1, 3, 1, scale * height, scale * width, generator=source)
    found["first"] = first * 2 - 1
    if piece.level is not None:
        found["level"] = torch.tensor([piece.level])
    if piece.stage == "interpolation":
        frames = 5
    shape = (1, config["in_channels"], frames, scale * height, scale * width)
    sample = torch.randn(shape, generator=source)
    found["sample"] = sample[:, :, 0].contiguous() if piece.stage == "first frame" else sample
    return found


def write_model(piece: Piece, folder: Path, config: dict[str, Any], full: bool) -> None:
    """A model's folder of random weights, as the original's own are laid out."""
    from show1_engine.models.unet import UNet

    with torch.device("meta"):
        net = UNet(config)
    write_part(folder / "unet", config, net)
    schedulers = {"scheduler": scheduler_of(piece)}
    if piece.level is not None:
        schedulers["image_noising_scheduler"] = noising_config()
    for name, content in schedulers.items():
        (folder / name).mkdir()
        (folder / name / "scheduler_config.json").write_text(json.dumps(content))
    if piece.stage == "expert":
        widths = full_size.VAE["block_out_channels"] if full else [32, 64, 64, 64]
        vae = {**full_size.VAE, "block_out_channels": widths}
        write_part(folder / "vae", vae, build(vae))


def scheduler_of(piece: Piece) -> dict[str, Any]:
    """DeepFloyd's for pixels, Stable Diffusion's for latents, which enlarge differences least."""
    if piece.stage != "expert":
        most = 1.5 if piece.level is None else 1.0
        thresholding = {"dynamic_thresholding_ratio": 0.95, "sample_max_value": most}
        learned = {"variance_type": "learned_range", "thresholding": True}
        return {**noising_config(), **learned, **thresholding}
    return {
        "_class_name": "DDIMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }


def write_part(folder: Path, config: dict[str, Any], net: torch.nn.Module) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    weights = full_size.random_weights(net)
    save_file(weights, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})


def prepared(job: Job, x: dict[str, Tensor]) -> Work:
    """A job of our side."""
    from show1_engine.loading import load_model
    from show1_engine.runtime import PlainRuntime

    model = held(job["folder"], lambda folder: load_model(folder, PlainRuntime()))
    if job["kind"] == "forward":
        net = model.network
        return lambda: net(x["sample"], job["timestep"], x["positive"], x.get("level"))
    texts = x["positive"], x["negative"]
    return lambda: STAGES[job["kind"]](model, job, x, texts=texts)


def _keyframes(model: Any, job: Job, x: dict[str, Tensor], texts: tuple) -> Tensor:
    from show1_engine.stages.keyframes import KeyframeSettings, keyframes

    size = {"width": job["width"], "height": job["height"], "num_frames": job["frames"]}
    return keyframes(model, *texts, KeyframeSettings(**_sampling(job), **size))


def _interpolation(model: Any, job: Job, x: dict[str, Tensor], texts: tuple) -> Tensor:
    from show1_engine.stages.interpolate import InterpolateSettings, interpolate

    images = frames(x["video"])
    return interpolate(model, images, *texts, settings=InterpolateSettings(**_sampling(job)))


def _first_frame(model: Any, job: Job, x: dict[str, Tensor], texts: tuple) -> Tensor:
    from show1_engine.stages.pixel_sr import PixelSRSettings, first_frame_sr

    settings = PixelSRSettings(**_sampling(job), noise_level=job["noise_level"])
    return first_frame_sr(model, frames(x["video"]), *texts, settings=settings)


def _pixel_sr(model: Any, job: Job, x: dict[str, Tensor], texts: tuple) -> Tensor:
    from show1_engine.stages.pixel_sr import PixelSRSettings, pixel_sr

    settings = PixelSRSettings(**_sampling(job), noise_level=job["noise_level"])
    first = frames(x["first"])
    return pixel_sr(model, frames(x["video"]), *texts, settings=settings, first_frame=first)


def _expert(model: Any, job: Job, x: dict[str, Tensor], texts: tuple) -> Tensor:
    from show1_engine.stages.latent_expert_sr import LatentExpertSettings, latent_expert_sr

    size = {"width": job["width"], "height": job["height"], "strength": job["strength"]}
    settings = LatentExpertSettings(**_sampling(job), **size)
    return latent_expert_sr(model, x["bytes"].float() / 255, *texts, settings=settings)


def _sampling(job: Job) -> dict[str, Any]:
    return {"steps": job["steps"], "cfg": job["cfg"], "seed": job["seed"]}


STAGES = {
    "keyframes": _keyframes,
    "interpolation": _interpolation,
    "first frame": _first_frame,
    "pixel SR": _pixel_sr,
    "expert": _expert,
}

if __name__ == "__main__":
    main()
