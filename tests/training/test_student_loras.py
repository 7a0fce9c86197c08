"""Students as LoRAs: made by the command, applied with their steps, refused where they are none."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_training import NAMES, micro, text

from show1_engine.__main__ import main
from show1_engine.errors import CheckpointError, InputError
from show1_engine.films.identity import of_model
from show1_engine.lora.formats import read_lora
from show1_engine.lora.merging import MotionLora, with_motion
from show1_engine.lora.student import METADATA_KEY, student_settings
from show1_engine.lora.targets import student_layers, temporal_layers
from show1_engine.models.bundle import Show1Model
from show1_engine.models.patches import LowRank
from show1_engine.sampling.samplers import schedule_for
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.training.order import seeded
from show1_engine.training.result import write_lora
from show1_engine.training.student import student_config

ASKED = KeyframeSettings(width=16, height=16, steps=75, cfg=9.0, preset="fast", sampler="ddpm")


def motion(model: Show1Model, of: Callable = temporal_layers) -> MotionLora:
    """A LoRA of random numbers, of no student."""
    source = seeded(0, "motion")

    def pair(weight: torch.Tensor) -> LowRank:
        up = torch.randn(weight.shape[0], 2, generator=source) * 0.1
        return LowRank(up, torch.randn(2, weight.shape[1], generator=source))

    layers = of(model.network)
    return MotionLora("motion", {f"{name}.weight": pair(x.weight) for name, x in layers.items()})


def settings(stage: str = "keyframes", steps: int = 2) -> dict:
    model = micro(stage)
    return student_settings(student_config(model.scheduler_config, steps, model.kind))


@pytest.fixture(scope="module")
def trained(footage, tmp_path_factory) -> Path:
    """What the command leaves of two steps' training."""
    run = tmp_path_factory.mktemp("student") / "run"
    words = f"train-stage keyframes {footage} {run} --teacher micro --student-steps 2"
    quick = (
        "--train lora --rank 2 --learning-rate 1e-3 --warm-up 1 --ema 0.5 --teacher-steps 1 "
        "--teacher-cfg 3 --steps 2 --sample-every 2 --held-out 1 --workers 0"
    )
    assert main([*words.split(), *quick.split()]) == 0
    return run / "lora.safetensors"


def test_its_settings_lie_in_the_file(trained):
    with safe_open(trained, "pt") as file:
        metadata = file.metadata()
    assert metadata.keys() == {METADATA_KEY}
    found = json.loads(metadata[METADATA_KEY])
    assert found == settings() == read_lora(trained, micro("keyframes")).student
    assert found["student_steps"] == 2
    assert "| student_steps | 2 |" in trained.with_suffix(".md").read_text()


@pytest.mark.parametrize("strength", [1.0, 0.5, -1.0])
def test_a_model_with_it_runs_its_steps_without_guidance(trained, strength):
    teacher = micro("keyframes")
    model = with_motion(teacher, read_lora(trained, teacher), strength)
    assert model.scheduler_config == student_config(teacher.scheduler_config, 2, teacher.kind)
    assert not teacher.student_steps and of_model(model) != of_model(teacher)
    rows, plans = [], []
    model.network.register_forward_pre_hook(lambda net, inputs: rows.append(len(inputs[0])))

    def report(step: int, total: int, preview=None) -> None:
        assert total == 2

    report.plan = plans.append
    clip = keyframes(model, text("a"), text(""), ASKED, report)
    assert rows == [1, 1] and torch.isfinite(clip).all()
    assert plans[0].endswith("; 2 steps (a student's own)")


def test_the_command_samples_with_it(trained, tmp_path, capsys):
    out = tmp_path / "frames.safetensors"
    words = f"generate --until keyframes --keyframes-steps 16 --frames-out {out}"
    prompt = ("--prompt", "a red circle", "--lora", str(trained))
    assert main([*words.split(), *prompt]) == 0
    assert "2 steps (a student's own)" in capsys.readouterr().err
    assert torch.isfinite(load_file(out)["keyframes"]).all()


@pytest.mark.parametrize("stage", NAMES)
def test_all_its_layers_are_read_again(stage, tmp_path):
    model = micro(stage)
    lora = MotionLora("all", motion(model, student_layers).changes, settings(stage))
    read = read_lora(write_lora(tmp_path / "all.safetensors", lora, "a card"), model)
    assert read.changes.keys() == lora.changes.keys() > motion(model).changes.keys()
    assert all(torch.equal(read.changes[n].up, x.up) for n, x in lora.changes.items())
    expected = student_config(model.scheduler_config, 2, model.kind)
    assert with_motion(model, read, 1.0).scheduler_config == expected


def test_off_at_no_strength(trained):
    model = micro("keyframes")
    assert with_motion(model, read_lora(trained, model), 0.0) is model


def test_a_motion_adds_to_it_in_any_order(trained):
    model = micro("keyframes")
    student, other = read_lora(trained, model), motion(model)
    one = with_motion(with_motion(model, student, 1.0), other, 0.7)
    two = with_motion(with_motion(model, other, 0.7), student, 1.0)
    assert one.scheduler_config == two.scheduler_config and one.student_steps == 2
    clips = [keyframes(found, text("a"), text(""), ASKED) for found in (one, two)]
    alone = keyframes(with_motion(model, student, 1.0), text("a"), text(""), ASKED)
    assert torch.allclose(*clips, atol=1e-4) and not torch.allclose(clips[0], alone, atol=1e-3)


@pytest.mark.parametrize("steps", [2, 4])
def test_one_student_alone(trained, steps):
    """Two LoRAs of students, or one on a student, whether they agree or not."""
    model = micro("keyframes")
    first, changes = read_lora(trained, model), motion(model).changes
    second = MotionLora("second", changes, settings(steps=steps))
    with pytest.raises(InputError, match=f"'second' is a student of {steps} .* one of 2 steps"):
        with_motion(with_motion(model, first, 1.0), second, 1.0)


def test_no_student_without_metadata(tmp_path):
    model = micro("keyframes")
    file = write_lora(tmp_path / "motion.safetensors", motion(model), "a card")
    with safe_open(file, "pt") as opened:
        assert opened.metadata() is None
    lora = read_lora(file, model)
    assert lora.student is None
    assert with_motion(model, lora, 1.0).scheduler_config is model.scheduler_config


@pytest.mark.parametrize("steps", [1, 8])
@pytest.mark.parametrize("start", [-float("inf"), -5.1, 0.0])
def test_what_is_allowed_can_be_sampled(steps, start, tmp_path):
    model = micro("keyframes")
    given = {**settings(steps=steps), "lambda_min_clipped": start}
    lora = MotionLora("edge", motion(model).changes, given)
    read = read_lora(write_lora(tmp_path / "edge.safetensors", lora, "a card"), model)
    config = with_motion(model, read, 1.0).scheduler_config
    assert len(schedule_for(config, "default", steps).timesteps) == steps


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student_steps": 9}, "'student_steps' is 9; allowed is a whole number from 1 to 8"),
        ({"student_steps": 0}, "'student_steps' is 0"),
        ({"student_steps": "4"}, "'student_steps' is '4'"),
        ({"student_steps": True}, "'student_steps' is True"),
        ({"student_steps": None}, "'student_steps' is None"),
        ({"prediction_type": "sample"}, "'prediction_type' is 'sample'; allowed is 'epsilon' or"),
        ({"solver_order": 3}, "'solver_order' is 3; allowed is 1"),
        ({"algorithm_type": "deis"}, "'algorithm_type' is 'deis'"),
        ({"_class_name": "DDPMScheduler"}, "'_class_name' is 'DDPMScheduler'"),
        ({"lambda_min_clipped": 1.0}, "'lambda_min_clipped' is 1.0; allowed is a number up to 0"),
        ({"lambda_min_clipped": float("nan")}, "'lambda_min_clipped' is nan"),
        ({"lambda_min_clipped": float("inf")}, "'lambda_min_clipped' is inf"),
        ({"thresholding": 1}, "'thresholding' is 1; allowed is true or false"),
        ({"beta_start": 0.5}, "'beta_start' is not known; allowed are _class_name, "),
        ({"a" * 3000: 0}, "is not known"),
    ],
)
def test_hostile_settings_are_refused(change, message, tmp_path):
    model = micro("keyframes")
    lora = MotionLora("odd", motion(model).changes, {**settings(), **change})
    file = write_lora(tmp_path / "odd.safetensors", lora, "a card")
    with pytest.raises(CheckpointError, match=r"'odd\.safetensors'.*Get the file anew") as refused:
        read_lora(file, model)
    assert message in str(refused.value) and str(refused.value).isprintable()


@pytest.mark.parametrize("value", ["", "{", "4", "[]", "null", "[" * 4000, "{}", " " * 10**6])
def test_other_metadata_is_refused(value, tmp_path):
    model = micro("keyframes")
    file = write_lora(tmp_path / "odd.safetensors", motion(model), "a card")
    save_file(load_file(file), file, {METADATA_KEY: value})
    with pytest.raises(CheckpointError, match=r"'odd\.safetensors', in its metadata's show1_stud"):
        read_lora(file, model)


def test_metadata_that_is_no_text_is_no_file(trained, tmp_path):
    data = trained.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = {METADATA_KEY: {"student_steps": 2}}
    changed = json.dumps(header).encode()
    file = tmp_path / "odd.safetensors"
    file.write_bytes(len(changed).to_bytes(8, "little") + changed + data[8 + length :])
    with pytest.raises(CheckpointError, match=r"odd\.safetensors"):
        read_lora(file, micro("keyframes"))
