"""Motion training on several clips, from a LoRA on, and of whole matrices."""

import dataclasses

import pytest
import torch

from show1_engine.bundled import WEIGHTS
from show1_engine.errors import InputError
from show1_engine.loading import load_model
from show1_engine.lora.formats import lora_from, spelled
from show1_engine.models.patches import Difference
from show1_engine.pictures import curve
from show1_engine.runtime import PlainRuntime
from show1_engine.training.motion import MotionTraining
from show1_engine.training.settings import TrainSettings
from show1_micro.motions import clip as moving
from show1_micro.world import Scene

TEXT = torch.randn(2, 77, 64, generator=torch.Generator().manual_seed(1))
QUICK = TrainSettings(
    steps=3, rank=2, window=4, gradient_checkpointing=False, learning_rate=1e-2, objective="plain"
)
CLIPS = [
    moving(Scene(shape, "blue", "right", "white", "plain"), "orbit", frames)
    for shape, frames in (("square", 8), ("circle", 6))
]


@pytest.fixture(scope="module")
def model():
    return load_model(WEIGHTS / "show-1-base", PlainRuntime())


def trained(model, clips=CLIPS[0], prompts=TEXT[:1], begin=None, **changes):
    run = MotionTraining(model, clips, prompts, dataclasses.replace(QUICK, **changes), begin=begin)
    run.run()
    return run


def weights(run) -> dict:
    return spelled(run.lora)


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_a_list_of_one_is_that_clip(model):
    assert same(weights(trained(model)), weights(trained(model, [CLIPS[0]], [TEXT[:1]])))


def test_several_clips_are_learned_with_a_prompt_each(model):
    both = trained(model, CLIPS, [TEXT[:1], TEXT[1:]], steps=8)
    shared = trained(model, CLIPS, [TEXT[:1]], steps=8)
    assert len(both.losses) == 8 and not same(weights(both), weights(shared))
    assert not same(weights(both), weights(trained(model, steps=8)))


def test_as_many_prompts_as_clips_or_one(model):
    with pytest.raises(InputError, match="2 clips and 3 prompts"):
        MotionTraining(model, CLIPS, [TEXT[:1]] * 3, QUICK)


def test_it_goes_on_from_a_lora_at_its_own_rank(model):
    first = trained(model)
    later = trained(model, begin=lora_from(weights(first), model, "first"), rank=7, steps=1)
    assert all(change.down.shape[0] == 2 for change in later.lora.changes.values())
    far = trained(model, rank=2, steps=1)

    def distance(run) -> float:
        pairs = zip(run.lora.changes.values(), first.lora.changes.values())
        return sum(float((a.delta("cpu") - b.delta("cpu")).square().sum()) for a, b in pairs)

    assert distance(later) < distance(far)


def test_alpha_is_part_of_what_is_gone_on_from(model):
    first = trained(model)
    halved = {**weights(first)}
    halved |= {
        key.replace("lora_A.weight", "alpha"): torch.tensor(1.0)
        for key in weights(first)
        if "lora_A" in key
    }
    begin = lora_from(halved, model, "first")
    run = MotionTraining(
        model, CLIPS[0], TEXT[:1], dataclasses.replace(QUICK, steps=1), begin=begin
    )
    run.run()
    key = next(iter(begin.changes))
    assert run.lora.changes[key].alpha is None
    wanted = begin.changes[key].delta("cpu")
    assert (run.lora.changes[key].delta("cpu") - wanted).abs().max() < 0.05


def test_whole_matrices_are_learned_and_read_back(model):
    run = trained(model, targets="attention_whole")
    assert all(isinstance(change, Difference) for change in run.lora.changes.values())
    assert all("temp_attentions" in key and ".attn" in key for key in run.lora.changes)
    again = lora_from(weights(run), model, "whole")
    assert same(weights(run), spelled(again))
    on = trained(model, targets="attention_whole", begin=again, steps=1)
    assert on.lora.changes.keys() == again.changes.keys()
    with pytest.raises(InputError, match="set 'targets' to attention_whole"):
        MotionTraining(model, CLIPS[0], TEXT[:1], QUICK, begin=again)
    of_pairs = lora_from(weights(trained(model)), model, "pairs")
    assert trained(model, targets="attention_whole", begin=of_pairs, steps=1).losses


def test_whole_weights_are_not_gone_on_from(model):
    name = next(iter(trained(model).lora.changes))
    whole = {name: model.network.get_parameter(name).detach().clone()}
    with pytest.raises(InputError, match="replaces 1 weights"):
        MotionTraining(model, CLIPS[0], TEXT[:1], QUICK, begin=lora_from(whole, model, "x"))


def test_a_curve_falls_where_the_numbers_fall():
    picture = curve([float(100 - i) for i in range(100)], width=50, height=40)
    rows = (picture[..., 2] > 0.9).float().argmax(0)
    assert picture.shape == (40, 50, 3) and rows[0] < 4 and rows[-1] > 34
    assert (rows.diff() >= 0).all()


@pytest.mark.parametrize("values", [[], [float("nan")], [1.0], [2.0, float("inf"), 1.0]])
def test_a_curve_of_anything_is_a_picture(values):
    assert curve(values).isfinite().all()
