"""Samplers of our own, beside the released ones."""

import diffusers
import pytest
import torch
from torch import Tensor

from show1_engine.bundled import WEIGHTS
from show1_engine.loading import load_model, load_text_encoder
from show1_engine.runtime import PlainRuntime
from show1_engine.sampling.schedules import Schedule, as_noise
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_micro.world import random_scene

CLIPS = 2


@pytest.fixture(scope="module")
def sample():
    """sample(clip, sampler, steps, **options): keyframes of one of some captions, unguided."""
    runtime = PlainRuntime()
    model = load_model(WEIGHTS / "show-1-base", runtime)
    encoder = load_text_encoder(WEIGHTS / "show-1-base", runtime)
    source = torch.Generator().manual_seed(5)
    captions = [random_scene(source).caption() for _ in range(CLIPS)]
    states = encoder.encode([*captions, ""])

    def sample(clip: int, sampler: str, steps: int, **options) -> Tensor:
        settings = KeyframeSettings(
            width=16, height=16, cfg=1.0, steps=steps, sampler=sampler, seed=clip
        )
        return keyframes(model, states[clip : clip + 1], states[-1:], settings, **options)

    return sample


@pytest.fixture(scope="module")
def converged(sample) -> list[Tensor]:
    """The released sampler's clips at 200 steps."""
    return [sample(clip, "default", 200) for clip in range(CLIPS)]


def distance(clips: list[Tensor], others: list[Tensor]) -> float:
    """Mean root-mean-square difference."""
    return sum(float((a - b).square().mean().sqrt()) for a, b in zip(clips, others)) / len(clips)


@pytest.mark.parametrize("evaluations", [8, 16])
def test_heun_is_at_least_as_close(sample, converged, evaluations):
    """At equal evaluations of the model, to the released sampler's result at 200 steps."""
    released = [sample(clip, "default", evaluations) for clip in range(CLIPS)]
    heun = [sample(clip, "heun", evaluations // 2) for clip in range(CLIPS)]
    assert distance(heun, converged) <= distance(released, converged)


def test_heun_comes_to_the_same_clips(sample, converged):
    assert distance([sample(clip, "heun", 25) for clip in range(CLIPS)], converged) < 0.02


def test_heun_reports_every_step_with_a_picture(sample):
    seen = []

    def report(step, total, preview):
        seen.append((step, total, tuple(preview().shape)))

    sample(0, "heun", 3, report=report)
    assert seen == [(step, 3, (8, 16, 16, 3)) for step in (1, 2, 3)]


def test_heun_evaluates_twice_a_step(sample, monkeypatch):
    from show1_engine.sampling.guidance import Guidance

    timesteps, forward = [], Guidance.__call__

    def counted(self, x: Tensor, timestep: int) -> Tensor:
        timesteps.append(timestep)
        return forward(self, x, timestep)

    monkeypatch.setattr(Guidance, "__call__", counted)
    sample(0, "heun", 4)
    assert len(timesteps) == 7 and timesteps[1] == timesteps[2] and timesteps[3] == timesteps[4]


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler"])
def test_other_predictions_are_stepped_as_diffusers_does(name, kind):
    """A model of velocity, or of clean samples, made one of noise: the same way down."""
    config = {
        "_class_name": name,
        "beta_schedule": "squaredcos_cap_v2",
        "clip_sample": False,
        "timestep_spacing": "leading",
        "prediction_type": kind,
    }
    own = {key: value for key, value in config.items() if key != "_class_name"}
    if name != "DPMSolverMultistepScheduler":
        theirs = getattr(diffusers, name)(**own)
    else:
        own.pop("clip_sample")
        theirs = diffusers.DPMSolverMultistepScheduler(**own, final_sigmas_type="sigma_min")
    theirs.set_timesteps(10)
    schedule, noise = Schedule(config, 10), as_noise(config)
    stepper, source = schedule.stepper(), torch.Generator().manual_seed(0)
    one = other = torch.randn(1, 3, 2, 8, 8, generator=source)
    for i, timestep in enumerate(schedule.timesteps):
        predicted = torch.randn(one.shape, generator=source)
        draws = [torch.Generator().manual_seed(i) for _ in range(2)]
        one = stepper.step(noise(predicted, one, timestep), timestep, one, generator=draws[0])
        frames, made = (x.transpose(1, 2).flatten(0, 1) for x in (other, predicted))
        after = theirs.step(made, torch.tensor(timestep), frames, generator=draws[1]).prev_sample
        other = after.unflatten(0, (1, 2)).transpose(1, 2)
    assert (one - other).abs().max() < 1e-4 * max(1, float(other.abs().max()))
