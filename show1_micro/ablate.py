"""The paper's two ablations in miniature: where to work in pixels and where in latents (Table 4),
and which timesteps the latent expert should know (Table 6). Trains the experts that are compared,
then writes numbers and a picture.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from show1_engine.evaluation.measures import psnr, ssim
from show1_engine.evaluation.report import markdown_table
from show1_engine.loading import load_model
from show1_engine.models.bundle import Show1Model
from show1_engine.models.kinds import KEYFRAMES, LATENT_EXPERT, PIXEL_SR
from show1_engine.models.memory import unet_bytes
from show1_engine.runtime import PlainRuntime
from show1_engine.training.loop import load_state

from .configs import FRAMES
from .editions import EDITIONS
from .evaluate import SPOIL, Judge
from .export import export_run
from .preview import save_picture
from .recogniser import ATTRIBUTES, Reading, accuracy
from .world import Scene, frame_times

EXPERTS = {"latent_expert": "0-900", "latent_expert_full": "0-1000"}
WAYS = {  # and the stage of each that holds most
    "pixel keyframes, pixel SR": PIXEL_SR,
    "pixel keyframes, pixel SR, latent expert": PIXEL_SR,
    "pixel keyframes, latent expert": LATENT_EXPERT,
    "latents alone": LATENT_EXPERT,
}
Progress = Callable[[str], None]


def train_experts(
    runs: Path, seeds: int, steps: int, progress: Progress, *, edition: int = 1
) -> None:
    """Train both kinds of expert for `steps` steps from each seed, on the autoencoder in
    `runs`/vae; resumable.
    """
    from .train import Trainer

    for seed in range(1, seeds + 1):
        for stage in EXPERTS:
            folder = _folder(runs, seed) / stage
            trainer = Trainer(stage, folder, seed, vae=runs / "vae", edition=edition)
            if (left := steps - trainer.counters["step"]) > 0:
                trainer.train(minutes=float("inf"), anneal=True, steps=left, show=progress)


def _folder(runs: Path, seed: int) -> Path:
    return runs / "ablation" / f"seed-{seed}"


def ablate(
    edition: int,
    runs: Path,
    scratch: Path,
    *,
    seeds: int,
    clips: int,
    picture: Path | None,
    progress: Progress,
) -> dict[str, Any]:
    """Compare on `clips` unseen scenes, with the bundled cascade of an edition and the experts of
    `train_experts`.

    Returns:
        {"ways": {way: numbers}, "timesteps": {range: {seed: {corruption: numbers}}}}, JSON-ready.
    """
    judge = Judge(EDITIONS[edition].bundle.folder, template=True, edition=edition)
    experts = {
        (stage, seed): _expert(runs, scratch, stage, seed=seed)
        for seed in range(1, seeds + 1)
        for stage in EXPERTS
    }
    rows: list[Tensor] = []
    results = {
        "ways": _ways(judge, experts, clips, rows=rows, progress=progress),
        "timesteps": _timesteps(judge, experts, clips, progress=progress),
        "clips": clips,
        "seeds": seeds,
        "steps": _steps(runs),
    }
    if picture:
        _sheet(rows, picture)
    return results


def _expert(runs: Path, scratch: Path, stage: str, seed: int) -> Show1Model:
    folder = export_run(_folder(runs, seed), stage, scratch / stage / str(seed), vae=runs / "vae")
    return load_model(folder, PlainRuntime("cpu", torch.float32))


def _steps(runs: Path) -> int:
    state = load_state(_folder(runs, 1) / "latent_expert" / "state.pt")
    return int(state["counters"]["step"])


def _ways(
    judge: Judge,
    experts: dict[tuple[str, int], Show1Model],
    clips: int,
    rows: list[Tensor],
    progress: Progress,
) -> dict[str, Any]:
    """Text to eight large frames in four ways: recogniser's shares, seconds, estimated activations
    of the largest stage in MB.

    "latents alone" is the expert of all timesteps (seed 1) drawing from pure noise.
    """
    scenes = judge.scenes(clips, 20)
    readings: dict[str, list[Reading]] = {way: [] for way in WAYS}
    seconds = dict.fromkeys(WAYS, 0.0)
    for index, scene in enumerate(scenes):
        made = _all_ways(judge, experts["latent_expert_full", 1], scene, seed=judge.seed + index)
        for way, (frames, spent) in made.items():
            readings[way].append(judge.world.read(frames))
            seconds[way] += spent
        if index < 3:
            rows.append(torch.cat([frames[::3] for frames, _ in made.values()]))
        progress(f"ways {index + 1}/{clips}")
    names = (*ATTRIBUTES, "texture")
    return {
        way: {
            **{name: round(share, 3) for name, share in accuracy(found, scenes, names).items()},
            "all but texture": round(accuracy(found, scenes)["all"], 3),
            "seconds": round(seconds[way] / clips, 2),
            "MB": _activations(judge, WAYS[way]),
        }
        for way, found in readings.items()
    }


def _activations(judge: Judge, kind: str) -> float:
    """Estimated memory of one forward on eight large frames, in MB."""
    shrink = 4 if kind == LATENT_EXPERT else 1
    height, width = (side // shrink for side in judge.world.large)
    return round(
        unet_bytes(
            judge.models[kind].network.config,
            1,
            FRAMES,
            height=height,
            width=width,
            dtype=torch.float32,
        )
        / 1e6,
        1,
    )


def _all_ways(
    judge: Judge, full: Show1Model, scene: Scene, seed: int
) -> dict[str, tuple[Tensor, float]]:
    """Frames and seconds of each way."""

    def timed(stage: str, images: Tensor | None, **changes: Any) -> tuple[Tensor, float]:
        start = time.perf_counter()
        frames = judge.run(stage, scene, images, seed=seed, **changes)
        return frames, time.perf_counter() - start

    small, first = timed(KEYFRAMES, None)
    large, second = timed(PIXEL_SR, small)
    fine, third = timed(LATENT_EXPERT, large)
    direct, fourth = timed(LATENT_EXPERT, small)
    own, judge.models[LATENT_EXPERT] = judge.models[LATENT_EXPERT], full
    blank = torch.full((FRAMES, *judge.world.large, 3), 0.5)
    alone, fifth = timed(LATENT_EXPERT, blank, strength=1.0, steps=30, cfg=3.0)
    judge.models[LATENT_EXPERT] = own
    return dict(
        zip(
            WAYS,
            (
                (large, first + second),
                (fine, first + second + third),
                (direct, first + fourth),
                (alone, fifth),
            ),
            strict=True,
        )
    )


def _timesteps(
    judge: Judge, experts: dict[tuple[str, int], Show1Model], clips: int, progress: Progress
) -> dict[str, Any]:
    """PSNR, SSIM and texture of each expert on drawn windows spoiled in three ways; "input" is the
    spoiled window.
    """
    found: dict[str, dict[str, dict[str, list[list[float]]]]] = {}
    for index, scene in enumerate(judge.scenes(clips, 21)):
        truth = judge.drawn(scene, frame_times(FRAMES) * 0.25, judge.world.large)
        for spoil, apply in SPOIL.items():
            bad = apply(truth, torch.Generator().manual_seed(judge.seed + index))
            note = partial(
                _note, found, spoil=spoil, truth=truth, scene=scene, read=judge.world.read
            )
            note("input", "-", made=bad)
            for (stage, seed), expert in experts.items():
                judge.models[LATENT_EXPERT] = expert
                made = judge.run(LATENT_EXPERT, scene, bad, seed=judge.seed + index)
                note(EXPERTS[stage], str(seed), made=made)
        progress(f"timesteps {index + 1}/{clips}")
    return {
        name: {
            seed: {spoil: _means(rows) for spoil, rows in spoils.items()}
            for seed, spoils in seeds.items()
        }
        for name, seeds in found.items()
    }


def _note(
    found: dict[str, Any],
    name: str,
    seed: str,
    *,
    spoil: str,
    made: Tensor,
    truth: Tensor,
    scene: Scene,
    read: Callable[[Tensor], Reading],
) -> None:
    obeyed = read(made).texture == scene.texture
    rows = found.setdefault(name, {}).setdefault(seed, {}).setdefault(spoil, [])
    rows.append([psnr(made, truth), ssim(made, truth), float(obeyed)])


def _means(rows: list[list[float]]) -> dict[str, float]:
    return {
        name: round(sum(column) / len(rows), 3)
        for name, column in zip(
            ("psnr", "ssim", "texture obeyed"), zip(*rows, strict=True), strict=True
        )
    }


def _sheet(rows: list[Tensor], path: Path) -> None:
    """One clip a row, three frames of each way beside each other."""
    scale = 2 if rows[0].shape[1] < 96 else 1
    save_picture(path, torch.cat([torch.cat(list(row), dim=1) for row in rows]), scale)


def markdown(results: dict[str, Any]) -> str:
    """The two tables of `docs/ablations.md`."""
    ways = markdown_table(
        ("way", "all words right", "texture obeyed", "seconds", "activations, MB"),
        [
            (way, f"{n['all but texture']:.0%}", f"{n['texture']:.0%}", n["seconds"], n["MB"])
            for way, n in results["ways"].items()
        ],
    )
    experts = markdown_table(
        ("expert's timesteps", "seed", *(f"{spoil}: PSNR, SSIM, texture" for spoil in SPOIL)),
        [
            (name, seed, *(_expert_cell(numbers[spoil]) for spoil in SPOIL))
            for name, seeds in results["timesteps"].items()
            for seed, numbers in seeds.items()
        ],
    )
    return f"{ways}\n\n{experts}"


def _expert_cell(n: dict[str, float]) -> str:
    return f"{n['psnr']:.2f} dB, {n['ssim']:.3f}, {n['texture obeyed']:.0%}"
