"""The latent expert's timesteps, 0-900 against 0-1000, through the stage trainer, and that trainer
beside the laboratory's: python benchmarks/experts.py [--steps 120] [--seeds 2] [--clips 6]
[--json FILE]

Both trainers begin with the same random weights of a seed, take the same number of steps of four
windows at the same rate, one from mp4s on disk (`train-stage expert`), the other from the drawn
world (`show1_micro train`). Judged on drawn windows that no training saw, spoiled in three ways:
PSNR in dB to the drawing.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from show1_engine.__main__ import main as engine  # noqa: E402
from show1_engine.bundled import WEIGHTS  # noqa: E402
from show1_engine.checkpoints.read import read_weights  # noqa: E402
from show1_engine.evaluation.measures import psnr  # noqa: E402
from show1_engine.loading import load_model  # noqa: E402
from show1_engine.models.kinds import LATENT_EXPERT  # noqa: E402
from show1_engine.runtime import PlainRuntime  # noqa: E402
from show1_engine.training.loop import save_state  # noqa: E402
from show1_micro.configs import FRAMES, REPOSITORIES, SR_SIZE  # noqa: E402
from show1_micro.evaluate import SPOIL, Judge, drawn  # noqa: E402
from show1_micro.export import export_run, write_stage  # noqa: E402
from show1_micro.footage import write_footage  # noqa: E402
from show1_micro.train import Trainer  # noqa: E402
from show1_micro.world import frame_times  # noqa: E402

RANGES = {"0-900": ("latent_expert", 900), "0-1000": ("latent_expert_full", 1000)}
LABORATORY, STAGE = "laboratory", "train-stage"
EXPERT = REPOSITORIES[LATENT_EXPERT]


def bundled_vae(runs: Path) -> tuple[dict[str, Tensor], float]:
    """The bundled autoencoder, also written as a training's state, which the laboratory reads."""
    folder = WEIGHTS / EXPERT / "vae"
    weights, _ = read_weights(folder, ("diffusion_pytorch_model",))
    weights = {key: value.float() for key, value in weights.items()}
    scaling = json.loads((folder / "config.json").read_text())["scaling_factor"]
    save_state(runs / "vae" / "state.pt", {"mean": weights, "scaling": scaling})
    return weights, scaling


def trained(place: Path, seed: int, steps: int) -> dict[tuple[str, str], Path]:
    """Model folders by trainer and range, all from the seed's one start."""
    runs = place / f"seed-{seed}"
    vae, scaling = bundled_vae(runs)
    found = {}
    for name, (stage, limit) in RANGES.items():
        laboratory = Trainer(stage, runs / stage, seed)
        start = runs / "start" / name
        write_stage(start, LATENT_EXPERT, laboratory.unet.state_dict(), vae=vae, scaling=scaling)
        laboratory.train(minutes=float("inf"), steps=steps, anneal=True)
        found[LABORATORY, name] = export_run(runs, stage, runs / "made" / name)
        found[STAGE, name] = stage_trained(
            place / "clips", start, runs / "stage" / name, seed=seed, steps=steps, limit=limit
        )
    return found


def stage_trained(
    clips: Path, start: Path, run: Path, *, seed: int, steps: int, limit: int
) -> Path:
    """By `train-stage`, with the laboratory's rate, batch and running average."""
    settings = {
        "models": start,
        "train": "all",
        "timestep-limit": limit,
        "steps": steps,
        "seed": seed,
        "batch-size": 4,
        "learning-rate": 1e-3,
        "decay": "linear",
        "weight-decay": 0,
        "ema": 0.995,
        "precision": "bf16",
        "sizes": f"{SR_SIZE}x{SR_SIZE}",
        "sample-every": 0,
        "held-out": 0,
    }
    options = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    options.append("--no-gradient-checkpointing")
    if code := engine(["train-stage", "expert", str(clips), str(run), *options]):
        raise SystemExit(code)
    (folder,) = (run / "ema").iterdir()
    return folder


def judged(folders: dict[str, Path], clips: int) -> dict[str, dict[str, float]]:
    """PSNR by way of spoiling, of the spoiled windows ("input") and of what each expert makes."""
    judge = Judge(WEIGHTS)
    found: dict[str, dict[str, list[float]]] = {}
    experts = {
        name: load_model(folder, PlainRuntime("cpu", torch.float32))
        for name, folder in folders.items()
    }
    for index, scene in enumerate(judge.scenes(clips, 22)):
        truth = drawn(scene, frame_times(FRAMES) * 0.25, SR_SIZE)
        for spoil, apply in SPOIL.items():
            bad = apply(truth, torch.Generator().manual_seed(index))
            made = {"input": bad}
            for name, expert in experts.items():
                judge.models[LATENT_EXPERT] = expert
                made[name] = judge.run(LATENT_EXPERT, scene, bad, seed=index)
            for name, images in made.items():
                found.setdefault(name, {}).setdefault(spoil, []).append(psnr(images, truth))
        print(f"judged {index + 1}/{clips}", file=sys.stderr, flush=True)
    return {
        name: {spoil: round(mean(values), 2) for spoil, values in rows.items()}
        for name, rows in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_footage(place / "clips", 64)
        folders = {
            f"{trainer}, {name}, seed {seed}": path
            for seed in range(args.seeds)
            for (trainer, name), path in trained(place, seed, args.steps).items()
        }
        found = {"steps": args.steps, "clips": args.clips, "psnr": judged(folders, args.clips)}
    print(json.dumps(found, indent=1))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
