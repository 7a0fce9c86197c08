"""Runs every stage through ComfyUI's memory manager on a pretend card, with less and less room for
the weights.

A process of its own, with ComfyUI first on the path. Arguments: the folder of a cascade, the file
for the results
(JSON: stage -> [{budget, resident, weights, difference}]).
"""

import json
import sys
from pathlib import Path

import comfy.cli_args

comfy.cli_args.args.cpu = True  # there is no card; the pretend one is installed below
comfy.cli_args.args.fp32_vae = True  # on a card the VAE would compute in half precision
import comfy.model_management as mm
import torch
from pretend_gpu import PretendGPU

from show1_engine.checkpoints.find import cascade_in
from show1_engine.host.memory import ComfyRuntime
from show1_engine.loading import load_model, load_text_encoder
from show1_engine.models import unet
from show1_engine.models.kinds import (
    FIRST_FRAME_SR,
    INTERPOLATION,
    KEYFRAMES,
    LATENT_EXPERT,
    PIXEL_SR,
)
from show1_engine.stages.interpolate import InterpolateSettings, interpolate
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.stages.latent_expert_sr import LatentExpertSettings, latent_expert_sr
from show1_engine.stages.pixel_sr import PixelSRSettings, first_frame_sr, pixel_sr

FRAMES = torch.rand(3, 16, 24, 3, generator=torch.Generator().manual_seed(0))
STAGES = {
    KEYFRAMES: lambda m, t, report: keyframes(
        m, *t, KeyframeSettings(width=24, height=16, num_frames=3, steps=2), report=report
    ),
    INTERPOLATION: lambda m, t, report: interpolate(
        m, FRAMES, *t, InterpolateSettings(steps=2), report=report
    ),
    FIRST_FRAME_SR: lambda m, t, report: first_frame_sr(
        m, FRAMES, *t, PixelSRSettings(steps=2), report=report
    ),
    PIXEL_SR: lambda m, t, report: pixel_sr(m, FRAMES, *t, PixelSRSettings(steps=2), report=report),
    LATENT_EXPERT: lambda m, t, report: latent_expert_sr(
        m, FRAMES, *t, LatentExpertSettings(width=48, height=32, steps=3), report=report
    ),
}
BUDGETS = (10.0, 0.4, 0.01)  # room for weights, in units of the model's own
ACTIVATIONS = 4 << 30  # room beside them that the memory manager keeps free: no stage needs tiles


def main(cascade: Path, results: Path) -> None:
    paths, report = cascade_in(cascade), {}
    unet._laid_out = lambda x: (
        x
    )  # the CPU computes in a card's layout, so that nothing but the split can differ
    with torch.inference_mode():
        for kind, path in paths.items():
            text = paths[LATENT_EXPERT if kind == LATENT_EXPERT else KEYFRAMES]
            expected, _ = run(kind, path, text)
            report[kind] = [on_a_card(kind, path, text, budget, expected) for budget in BUDGETS]
    results.write_text(json.dumps(report))


def run(kind: str, path: Path, text: Path) -> tuple[torch.Tensor, dict]:
    """The stage's frames, and how much of its UNet was on the card while it sampled."""
    states = load_text_encoder(text, ComfyRuntime(), "fp32").encode(["a red circle", ""])
    model = load_model(path, ComfyRuntime(), "fp32")
    resident = []
    frames = STAGES[kind](
        model,
        (states[:1], states[1:]),
        lambda *_: resident.append(model.unet.patcher.loaded_size()),
    )
    return frames, {"resident": max(resident), "weights": model.unet.patcher.model_size()}


def on_a_card(kind: str, path: Path, text: Path, budget: float, expected: torch.Tensor) -> dict:
    size = sum(file.stat().st_size for file in (path / "unet").glob("*.safetensors"))
    with PretendGPU(ACTIVATIONS + int(budget * size)) as card:
        card.install_into_comfy(reserve=ACTIVATIONS)
        frames, found = run(kind, path, text)
        mm.unload_all_models()
    return found | {"budget": budget, "difference": (frames - expected).abs().max().item()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
