"""Students: what their teacher leads to is what they are shown, and what they learn travels with
them.
"""

import json
import re
from dataclasses import replace

import pytest
import torch
from small_training import NAMES, QUICK, drawn, micro, text
from torch import Tensor

from show1_engine.__main__ import main
from show1_engine.errors import InputError
from show1_engine.loading import load_model
from show1_engine.models.bundle import Show1Model
from show1_engine.runtime import PlainRuntime
from show1_engine.sampling.samplers import schedule_for
from show1_engine.sampling.schedules import Schedule, as_noise
from show1_engine.stages.interpolate import InterpolateSettings, interpolate
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.stages.latent_expert_sr import LatentExpertSettings
from show1_engine.stages.plan import Steps
from show1_engine.stages.settings import own
from show1_engine.training.batch import Batch, joined
from show1_engine.training.clips import ClipData
from show1_engine.training.motion import MotionTraining
from show1_engine.training.order import seeded
from show1_engine.training.recipes import Noiser
from show1_engine.training.settings import TrainSettings
from show1_engine.training.stage import StageTraining
from show1_engine.training.student import Teacher, stretches, student_config

STUDENT = replace(QUICK, train="all", text_drop=0.0)


def student(stage: str, steps: int = 2) -> Show1Model:
    model = micro(stage)
    return replace(
        model, scheduler_config=student_config(model.scheduler_config, steps, model.kind)
    )


def teacher(stage: str, model: Show1Model, cfg: float = 1.0, steps: int = 4) -> Teacher:
    own = micro(stage)
    return Teacher(
        own.network,
        own.scheduler_config,
        model.scheduler_config,
        nothing=text(""),
        cfg=cfg,
        steps=steps,
    )


def batch_of(stage: str, model: Show1Model, count: int = 6) -> Batch:
    noiser, clips = Noiser(model, STUDENT), drawn(stage, 2)
    return joined(
        noiser.sample(clips.clip(n % 2, seeded(1, n)), text("a"), seeded(2, n))
        for n in range(count)
    )


def stepped(model: Show1Model, batch: Batch) -> Tensor:
    """Where the student's own sampler goes if it predicts what it is shown."""
    noise = as_noise(model.scheduler_config) or (lambda predicted, sample, timestep: predicted)
    ends = []
    for i, timestep in enumerate(batch.timesteps.tolist()):
        schedule = schedule_for(model.scheduler_config, "default", model.student_steps)
        stepper = schedule.stepper()
        x = batch.sample[i : i + 1, : batch.noise.shape[1]]
        predicted = noise(batch.noise[i : i + 1], x, timestep)
        ends.append(stepper.step(predicted, timestep, x, seeded(0)))
    return torch.cat(ends)


@pytest.mark.parametrize("stage", ["keyframes", "pixel-sr"])
def test_a_student_that_predicts_what_it_is_shown_ends_where_its_teacher_does(stage):
    """With one step of the teacher's that is the teacher's own prediction."""
    model = student(stage)
    batch, own = batch_of(stage, model), micro(stage)
    shown = teacher(stage, model, steps=1).shown(batch)
    ends = stepped(model, shown)
    with torch.no_grad():
        predicted = own.network(batch.sample, batch.timesteps, batch.text, batch.labels)
    stepper = Schedule(own.scheduler_config, 2).stepper()
    after = dict(stretches(model.scheduler_config))
    for i, timestep in enumerate(batch.timesteps.tolist()):
        x = batch.sample[i : i + 1, :3]
        signal, end = stepper.signal(timestep), after[timestep]
        sigma = signal * stepper.noise_to_signal(timestep)
        clean = stepper.thresholded((x - sigma * predicted[i : i + 1, :3]) / signal)
        noise = (x - signal * clean) / sigma
        expected = clean
        if end >= 0:
            expected = stepper.signal(end) * (clean + stepper.noise_to_signal(end) * noise)
        assert (ends[i] - expected).abs().max() < 1e-3
    assert set(batch.timesteps.tolist()) == set(after)  # both stretches were seen


def test_more_steps_of_the_teacher_come_to_one_end():
    """Second order: four times nearer with twice as many."""
    model = student("interpolation")
    batch = batch_of("interpolation", model, 3)
    ends = {
        n: stepped(model, teacher("interpolation", model, steps=n).shown(batch)) for n in (2, 4, 16)
    }
    far, near = (float((ends[n] - ends[16]).square().mean().sqrt()) for n in (2, 4))
    assert near < 0.6 * far < 0.1


def test_a_guided_teacher_is_guided_away_from_nothing():
    model = student("keyframes")
    batch = batch_of("keyframes", model, 2)
    one, other = (teacher("keyframes", model, cfg=cfg).shown(batch).noise for cfg in (1.0, 3.0))
    unread = teacher("keyframes", model, cfg=3.0).shown(
        replace(batch, text=text("").repeat(2, 1, 1))
    )
    away = teacher("keyframes", model).shown(replace(batch, text=text("").repeat(2, 1, 1)))
    assert (one - other).abs().max() > 0.01
    assert (unread.noise - away.noise).abs().max() < 1e-3


@pytest.mark.parametrize("stage", NAMES)
def test_what_a_student_predicts(stage):
    """Velocity where its start has next to no signal; else noise, as its teacher."""
    config = student(stage).scheduler_config
    velocity = stage == "keyframes"
    assert config["prediction_type"] == ("v_prediction" if velocity else "epsilon")
    first = schedule_for(config, "default", 2).timesteps[0]
    signal = Schedule(config, 2).stepper().signal(first)
    assert signal < 0.01 if velocity else signal > 0.04


def test_a_student_learns_its_teacher(tmp_path):
    model = student("keyframes")
    s = replace(STUDENT, steps=6, learning_rate=1e-3, batch_size=2)
    data = ClipData(drawn("keyframes", 2), text, Noiser(model, s), stride=2)
    taught = teacher("keyframes", model, steps=2)
    run = StageTraining("keyframes", model, data, s, tmp_path, teacher=taught)
    fixed = batch_of("keyframes", model)
    with torch.no_grad():
        before = run.learner(fixed)
    run.run()
    with torch.no_grad(), run.loop.average.in_place():
        assert run.learner(fixed) < 0.9 * before


def test_the_command_makes_a_model_that_knows_its_steps(footage, tmp_path, capsys):
    run = tmp_path / "run"
    words = f"train-stage keyframes {footage} {run} --teacher micro --student-steps 2"
    quick = (
        "--train all "
        "--steps 2 --sample-every 2 --held-out 1 --teacher-steps 1 --teacher-cfg 3 --workers 0"
    )
    assert main([*words.split(), *quick.split()]) == 0
    made = capsys.readouterr().out.strip()
    model = load_model(made, PlainRuntime())
    assert model.student_steps == 2
    rows, plans = [], []
    model.network.register_forward_pre_hook(lambda net, inputs: rows.append(len(inputs[0])))

    def report(step: int, total: int, preview=None) -> None:
        assert total == 2

    report.plan = plans.append
    asked = KeyframeSettings(width=16, height=16, steps=75, cfg=9.0, preset="fast", sampler="ddpm")
    clip = keyframes(model, text("a"), text(""), asked, report)
    assert rows == [1, 1] and torch.isfinite(clip).all()
    assert plans[0].endswith("; 2 steps (a student's own)")
    config = json.loads(
        (run / "ema" / NAMES["keyframes"] / "scheduler/scheduler_config.json").read_text()
    )
    assert config["student_steps"] == 2 and config["prediction_type"] == "v_prediction"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--student-steps 2", "takes both --teacher DIR and --student-steps N"),
        ("--teacher micro", "takes both --teacher DIR and --student-steps N"),
        ("--teacher micro --student-steps 9", "'student_steps' is 9"),
        ("--teacher micro --student-steps 2 --train temporal", "predicts velocity.*or lora"),
        ("--teacher nowhere --student-steps 2 --train all", "nowhere"),
    ],
)
def test_refusals(options, message, footage, tmp_path, capsys):
    words = f"train-stage keyframes {footage} {tmp_path / 'run'} --steps 1 --workers 0"
    assert main([*words.split(), *options.split()]) == 2
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])


def test_students_teach_nobody():
    model = student("keyframes")
    with pytest.raises(InputError, match="a student cannot teach"):
        Teacher(
            model.network,
            model.scheduler_config,
            model.scheduler_config,
            nothing=text(""),
            cfg=1.0,
            steps=1,
        )
    with pytest.raises(InputError, match="it is a student; train on its teacher"):
        MotionTraining(model, torch.rand(8, 16, 16, 3), text("a"), TrainSettings(steps=1))


def test_a_clip_of_a_student_of_noise_needs_fewer_forwards():
    model = student("interpolation", steps=3)
    rows = []
    model.network.register_forward_pre_hook(lambda net, inputs: rows.append(len(inputs[0])))
    frames = torch.rand(2, 16, 16, 3, generator=seeded(0))
    interpolate(model, frames, text("a"), text(""), InterpolateSettings())
    assert rows == [1, 1, 1]


def test_the_expert_student_takes_its_share_of_steps():
    model = student("expert", steps=4)
    for strength, expected in ((0.8, 3), (0.5, 2), (0.1, 1), (0.0, 0)):
        s = own(model, LatentExpertSettings(strength=strength))
        assert len(Steps.of("expert", model, s, strength=strength)) == expected
