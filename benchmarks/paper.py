"""The cascade of the paper at its sizes and steps, as numbers: what each stage evaluates, computes
and holds.
"""

from dataclasses import dataclass
from typing import Any

import torch

from show1_engine.models.kinds import (
    FIRST_FRAME_SR,
    INTERPOLATION,
    KEYFRAMES,
    LATENT_EXPERT,
    PIXEL_SR,
)
from show1_engine.models.memory import unet_bytes, vae_bytes
from show1_engine.sampling.presets import PRESETS, guided_part, preset, steps_of

from . import full_size
from .measure import flops, peak_bytes


@dataclass(frozen=True)
class Stage:
    """One stage: its UNet, how often it runs, and on what. `height`, `width` in the UNet's own
    pixels or latents.
    """

    kind: str
    model: str
    steps: int
    windows: int
    frames: int
    height: int
    width: int
    strength: float = 1.0

    def evaluations(self, name: str = "reference") -> int:
        """Forwards of one video through the UNet with a preset: two for a guided step."""
        chosen = preset(name, self.kind)
        steps = steps_of(chosen, self.steps)
        steps = steps if self.strength >= 1 else int(steps * self.strength)
        return self.windows * (steps + len(guided_part(list(range(steps)), *chosen.guided)))


STAGES = {
    stage.kind: stage
    for stage in (
        Stage(KEYFRAMES, "show-1-base", 75, windows=1, frames=8, height=40, width=64),
        Stage(INTERPOLATION, "show-1-interpolation", 75, windows=7, frames=5, height=40, width=64),
        Stage(FIRST_FRAME_SR, "IF-II-L", 70, windows=1, frames=1, height=160, width=256),
        Stage(PIXEL_SR, "show-1-sr1", 125, windows=4, frames=8, height=160, width=256),
        Stage(
            LATENT_EXPERT, "show-1-sr2", 50, windows=1, frames=29, height=40, width=72, strength=0.8
        ),
    )
}
SIZE = (320, 576)  # of the finished frames
_CONTEXT = 0.5e9  # what a CUDA context takes, about
_RESERVE, _MARGIN = 1.2e9, 0.4e9  # ComfyUI keeps max(reserve, activations + margin) free of weights


def evaluation(net: Any, batch: int, frames: int, height: int, width: int, seed: int = 0) -> tuple:
    """Arguments of a forward, on the network's device and in its dtype: random sample, timestep,
    text, noise level.
    """
    like = next(net.parameters())

    def values(*shape: int) -> torch.Tensor:
        if like.is_meta:
            return like.new_empty(shape)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(like)

    labels = (
        torch.full((batch,), 250, device=like.device)
        if net.config.get("class_embed_type")
        else None
    )
    timestep = torch.full((batch,), 500, device=like.device)
    sample = values(batch, net.config["in_channels"], frames, height, width)
    return sample, timestep, values(batch, 77, net.text_width), labels


def forward_flops(name: str, frames: int, height: int, width: int) -> int:
    """Floating-point operations of one forward of one video, text prepared beforehand."""
    net = full_size.unet(name)
    sample, timestep, text, labels = evaluation(net, 1, frames, height=height, width=width)
    text = net.prepare_text(text)
    return flops(lambda: net(sample, timestep, text, labels))


def forward_peak(net: Any, batch: int, frames: int, height: int, width: int) -> int:
    """Bytes of activations at the peak of a forward, text states included; `net` may be on meta."""
    sample, timestep, text, labels = evaluation(net, batch, frames, height=height, width=width)
    with torch.no_grad():
        states = net.prepare_text(text)
    prepared = sum(
        tensor.nbytes
        for layers in states.keys_values.values()
        for pair in layers
        for tensor in pair
    )
    return peak_bytes(lambda: net(sample, timestep, states, labels)) + prepared


def costs() -> dict[str, dict[str, Any]]:
    """For every stage: parameters, evaluations, operations, and memory in half precision."""
    return {kind: _cost(stage) for kind, stage in STAGES.items()}


def _cost(stage: Stage) -> dict[str, Any]:
    net = full_size.unet(stage.model, torch.float16)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    size = stage.frames, stage.height, stage.width
    per_forward = forward_flops(stage.model, *size)
    estimated = {halves: unet_bytes(net.config, halves, *size, torch.float16) for halves in (1, 2)}
    return {
        "model": stage.model,
        "parameters": parameters,
        "evaluations": stage.evaluations(),
        **{
            f"evaluations {name}": stage.evaluations(name)
            for name in PRESETS
            if name != "reference"
        },
        "flops of one": per_forward,
        "flops": per_forward * stage.evaluations(),
        "activations counted": forward_peak(net, 2, *size),
        "activations estimated": estimated[2],
        "activations estimated, halves apart": estimated[1],
        "resident": {
            f"{gigabytes} GB {dtype}": resident(gigabytes * 1e9, parameters * bytes_each, estimated)
            for gigabytes, dtype, bytes_each in (
                (12, "fp16", 2),
                (8, "fp16", 2),
                (6, "fp16", 2),
                (6, "fp8", 1),
                (4, "fp16", 2),
                (4, "fp8", 1),
            )
        },
    }


def resident(limit: float, weights: float, activations: dict[int, int]) -> dict[str, Any]:
    """Computed, not measured: how much of the weights ComfyUI can leave on a card of `limit` bytes,
    and whether the guidance halves share a forward there.
    """
    room = limit - _CONTEXT - weights
    halves = 2 if activations[2] + _MARGIN <= room else 1
    free = limit - _CONTEXT - max(_RESERVE, activations[halves] + _MARGIN)
    return {
        "share": round(max(0.0, min(1.0, free / weights)), 3),
        "halves together": halves == 2,
        "peak": min(weights, max(0.0, free)) + activations[halves],
    }


def decoder_bytes() -> int:
    """Estimated activations of the VAE decoding one finished frame in half precision."""
    return vae_bytes(full_size.VAE, 1, *SIZE, torch.float16)
