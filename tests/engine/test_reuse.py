"""Kept features: which steps compute the whole network, and what that changes."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from stage_models import clip, model, text

from show1_engine.errors import InputError
from show1_engine.models.unet import UNet
from show1_engine.sampling.reuse import Kept
from show1_engine.stages.interpolate import InterpolateSettings, interpolate
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.stages.latent_expert_sr import LatentExpertSettings, latent_expert_sr
from show1_engine.stages.pixel_sr import PixelSRSettings, pixel_sr

NAMES = ("show-1-base", "show-1-interpolation", "show-1-sr1", "show-1-sr2")


@contextmanager
def whole_forwards(network: UNet) -> Iterator[list[int]]:
    """How many samples each forward had that reached the deepest level."""
    seen: list[int] = []
    hook = network.mid_block.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    yield seen
    hook.remove()


@pytest.mark.parametrize("name", NAMES)
def test_what_was_kept_of_a_forward_gives_its_result(name):
    network, states = model(name).network, text(name)[0]
    config = network.config
    sample = torch.randn(1, config["in_channels"], 3, 16, 24)
    labels = torch.tensor([250]) if config.get("class_embed_type") else None
    kept: list[torch.Tensor] = []
    with torch.no_grad(), whole_forwards(network) as seen:
        plain = network(sample, 500, states, labels)
        filled = network(sample, 500, states, labels, kept=kept)
        used = network(sample, 500, states, labels, kept=kept)
    assert plain.equal(filled) and plain.equal(used)
    assert len(kept) == 1 and len(seen) == 2


def test_a_step_is_whole_when_a_run_begins_and_then_every_nth():
    kept, whole = Kept(2), []

    def network(given: list[torch.Tensor]) -> torch.Tensor:
        whole.append(not given)
        given[:] = given or [torch.zeros(2, 1)]
        return given[0]

    for timestep in (900, 600, 300, 900, 600, 300):  # a run, and the next window's
        for _ in range(2):
            kept.begin(timestep)
            kept.forward([0, 1], network)
    assert whole == [True, True, False, False, True, True] * 2


def test_samples_are_kept_apart():
    """Whatever batch they come in; one that is not known is computed."""
    kept, seen = Kept(3), []

    def network(given: list[torch.Tensor]) -> torch.Tensor:
        seen.append(given[0].flatten().tolist() if given else None)
        given[:] = given or [torch.arange(4.0)[:, None]]  # two frames each
        return given[0]

    kept.begin(900)
    kept.forward(["away", "towards"], network)
    kept.begin(600)
    kept.forward(["towards"], network)
    kept.forward(["towards", "away"], network)
    kept.forward(["towards", "another"], network)
    assert seen == [None, [2.0, 3.0], [2.0, 3.0, 0.0, 1.0], None]


@pytest.mark.parametrize("apart", [False, True])
def test_where_guidance_ends_nothing_is_computed_again(monkeypatch, apart):
    """Steps 1, 3 and 5 are whole, the first two guided; in one forward or one by one."""
    network = model("show-1-base").network
    if apart:
        monkeypatch.setattr("show1_engine.stages.plan.sharing", lambda samples, fits: 1)
    with whole_forwards(network) as seen:
        s = {"steps": 6, "guidance_end": 0.5, "reuse": 2, "width": 8, "height": 8}
        keyframes(model("show-1-base"), *text("show-1-base"), KeyframeSettings(num_frames=2, **s))
    assert seen == ([2] * 5 if apart else [4, 4, 2])


def run(stage: str, **changes) -> torch.Tensor:
    """A stage of several windows or tiles, four steps."""
    settings = {"steps": 4, "seed": 5, **changes}
    if stage == "keyframes":
        more = {"width": 8, "height": 8, "num_frames": 12, "window": 8, "overlap": 4}
        s = KeyframeSettings(**more, **settings)
        return keyframes(model("show-1-base"), *text("show-1-base"), s)
    if stage == "interpolation":
        s = InterpolateSettings(**settings)
        name = "show-1-interpolation"
        return interpolate(model(name), clip(4, 8, 8), *text(name), s)
    if stage == "pixel-sr":
        s = PixelSRSettings(**settings)
        return pixel_sr(model("show-1-sr1"), clip(15, 4, 4), *text("show-1-sr1"), s)
    s = LatentExpertSettings(**settings, strength=1.0, width=32, height=32, window=4, overlap=2)
    return latent_expert_sr(model("show-1-sr2"), clip(6, 32, 32), *text("show-1-sr2"), s)


STAGES = dict(zip(("keyframes", "interpolation", "pixel-sr", "expert"), NAMES, strict=True))


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_computes_fewer_and_stays_near(stage):
    network = model(STAGES[stage]).network
    with whole_forwards(network) as all_of_them:
        exact = run(stage)
    found = {}
    for reuse in (1, 2, 3):
        with whole_forwards(network) as some:
            found[reuse] = run(stage, reuse=reuse)
        assert sum(some) * 4 == sum(all_of_them) * {1: 4, 2: 2, 3: 2}[reuse]
    assert found[1].equal(exact)
    assert not found[2].equal(exact) and torch.isfinite(found[2]).all()
    assert (found[2] - exact).abs().mean() < 0.05


def test_windows_in_a_batch_and_one_by_one(monkeypatch):
    """What a window is batched with does not change which of its features are used."""
    together = run("interpolation", reuse=2)
    monkeypatch.setattr("show1_engine.stages.interpolate._PIXELS_AT_ONCE", 1)
    assert (run("interpolation", reuse=2) - together).abs().max() < 1e-4


def test_the_plan_says_it_and_what_cannot_be_is_refused():
    told = []

    def report(step, total, preview=None):
        pass

    report.plan = told.append
    s = KeyframeSettings(width=8, height=8, num_frames=2, steps=5, reuse=2)
    keyframes(model("show-1-base"), *text("show-1-base"), s, report)
    assert told[0].endswith("; 5 steps (the whole network in 3)")
    with pytest.raises(InputError, match="'reuse' is 4"):
        run("keyframes", reuse=4)
