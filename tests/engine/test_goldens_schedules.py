"""Timesteps, scheduler trajectories and noising equal the recorded ones."""

import pytest
import reference
import torch

from show1_engine.checkpoints.read import read_json
from show1_engine.noise import generator
from show1_engine.sampling.schedules import Schedule, make_scheduler


def scheduler_config(folder: str, part: str = "scheduler") -> dict:
    return read_json(reference.reference_root() / folder / part / "scheduler_config.json")


def of_kind(*kinds: str) -> list:
    return [c for c in reference.cases("f") if c["params"]["kind"] in kinds]


@pytest.mark.parametrize("case", of_kind("ddpm_steps"), ids=lambda case: case["id"])
def test_ddpm(case):
    tensors = reference.golden(case)
    schedule = Schedule(
        scheduler_config(f"models/{case['model']}"), case["params"]["num_inference_steps"]
    )
    assert schedule.timesteps == tensors["out.timesteps"].tolist()
    source, stepper, sample = generator(17), schedule.stepper(), tensors["in.sample"]
    for i, t in enumerate(tensors["in.step_timesteps"].tolist()):
        sample = stepper.step(tensors["in.model_outputs"][i], t, sample, source)
        assert (sample - tensors["out.prev_samples"][i]).abs().max() <= case["max_abs_tol"]


@pytest.mark.parametrize("case", of_kind("dpm_pixel_steps"), ids=lambda case: case["id"])
def test_pixel_dpm_solver(case):
    tensors = reference.golden(case)
    schedule = Schedule(
        scheduler_config(f"models-variants/{case['model']}"), case["params"]["num_inference_steps"]
    )
    _check_trajectory(case, schedule, tensors, tensors["in.sample"], tensors["out.timesteps"])


@pytest.mark.parametrize("case", of_kind("v2v_scheduler"), ids=lambda case: case["id"])
def test_latent_schedule(case):
    tensors, p = reference.golden(case), case["params"]
    folder = "models/show-1-sr2" if "ddim" in case["id"] else "models-variants/show-1-sr2-dpmsolver"
    schedule = Schedule(scheduler_config(folder), p["num_inference_steps"], strength=p["strength"])
    start = schedule.stepper().add_noise(
        tensors["in.x0"], tensors["in.noise"], schedule.timesteps[0]
    )
    _check_trajectory(case, schedule, tensors, start, tensors["out.timesteps_used"])


def _check_trajectory(case, schedule, tensors, start, timesteps):
    assert schedule.timesteps == timesteps.tolist()
    samples, stepper, source = [start], schedule.stepper(), generator(0)
    for output, t in zip(tensors["in.model_outputs"], schedule.timesteps, strict=True):
        samples.append(stepper.step(output, t, samples[-1], source))
    chosen = torch.stack([samples[i] for i in tensors["out.sample_index"].tolist()])
    assert (chosen - tensors["out.samples"]).abs().max() <= case["max_abs_tol"]


@pytest.mark.parametrize("case", of_kind("timesteps"), ids=lambda case: case["id"])
def test_timestep_tables(case):
    configs = {
        "ddpm": "models/show-1-base",
        "dpm_pixel": "models-variants/show-1-base-dpmsolver",
        "dpm_sr2": "models-variants/show-1-sr2-dpmsolver",
        "ddim_sr2": "models/show-1-sr2",
    }
    for name, table in reference.golden(case).items():
        name, _, strength = name.removeprefix("out.").partition("_strength")
        kind, _, steps = name.rpartition("_")
        schedule = Schedule(
            scheduler_config(configs[kind]), int(steps), strength=float(strength or 1)
        )
        assert schedule.timesteps == table.tolist(), name


@pytest.mark.parametrize("case", of_kind("add_noise"), ids=lambda case: case["id"])
def test_image_noising(case):
    tensors = reference.golden(case)
    noising = make_scheduler(scheduler_config("models/show-1-sr1", "image_noising_scheduler"))
    for level, noised in zip(tensors["in.levels"], tensors["out.noised"], strict=True):
        mine = noising.add_noise(tensors["in.sample"], tensors["in.noise"], level[None])
        assert (mine - noised).abs().max() <= case["max_abs_tol"]
