"""What is equal bit by bit, and what only within a bound: docs/reliability.md says the same."""

from dataclasses import replace

import pytest
import torch

from show1_engine.bundled import WEIGHTS
from show1_engine.loading import load_model
from show1_engine.models.bundle import Show1Model
from show1_engine.runtime import PlainHandle, PlainRuntime
from show1_engine.stages import interpolate as interpolation
from show1_engine.stages.interpolate import InterpolateSettings, interpolate
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.stages.latent_expert_sr import LatentExpertSettings, latent_expert_sr
from show1_engine.stages.pixel_sr import PixelSRSettings, pixel_sr

BOUND = 4e-4  # of 1: a tenth of one level of an 8-bit picture; CPUs differ in what they round
TEXT = torch.sin(torch.arange(77 * 64.0)).view(1, 77, 64)
CLIP = torch.rand(4, 16, 16, 3, generator=torch.Generator().manual_seed(3))


class Tight(PlainHandle):
    """A device on which only one sample at a time fits beside the weights."""

    def room(self) -> int:
        return 0


def loaded(name: str, handle: type[PlainHandle] = PlainHandle) -> Show1Model:
    model = load_model(WEIGHTS / name, PlainRuntime())
    return replace(model, unet=handle(model.unet.module, model.unet.dtype, model.unet._runtime))


def frames(model: Show1Model) -> torch.Tensor:
    if model.kind == "keyframes":
        return keyframes(
            model,
            TEXT,
            -TEXT,
            KeyframeSettings(width=16, height=16, num_frames=8, steps=25, seed=5),
        )
    if model.kind == "interpolation":
        return interpolate(model, CLIP, TEXT, -TEXT, InterpolateSettings(steps=25, seed=5))
    if model.kind == "pixel_sr":
        return pixel_sr(model, CLIP, TEXT, -TEXT, PixelSRSettings(steps=8, seed=5))
    settings = LatentExpertSettings(width=64, height=64, steps=25, seed=5)
    return latent_expert_sr(model, CLIP, TEXT, -TEXT, settings)


MODELS = ["show-1-base", "show-1-interpolation", "show-1-sr1", "show-1-sr2"]


@pytest.mark.parametrize("name", MODELS)
def test_a_run_repeated_is_equal_bit_by_bit(name):
    assert torch.equal(frames(loaded(name)), frames(loaded(name)))


@pytest.mark.parametrize("name", MODELS)
def test_samples_one_by_one_are_equal_within_the_bound(name):
    together, alone = frames(loaded(name)), frames(loaded(name, Tight))
    assert (together - alone).abs().max() <= BOUND


def test_windows_one_by_one_are_equal_within_the_bound(monkeypatch):
    model = loaded("show-1-interpolation")
    together = frames(model)
    monkeypatch.setattr(interpolation, "_PIXELS_AT_ONCE", 1)
    assert (together - frames(model)).abs().max() <= BOUND
