"""The one training loop: rates, the step, the average, a run's end, and going on from a state."""

import pytest
import torch
from torch import nn

from show1_engine.errors import CheckpointError, DivergedError
from show1_engine.training.loop import (
    Budget,
    TrainingLoop,
    WeightAverage,
    annealed,
    descend,
    load_state,
    save_state,
    warm_up,
)


class Line:
    """A line fitted to noisy points: all that a training needs, small."""

    def __init__(self, seed: int = 0):
        torch.manual_seed(seed)
        self.network = nn.Linear(2, 1)
        parameters = dict(self.network.named_parameters())
        self.loop = TrainingLoop(
            "line",
            torch.optim.AdamW(parameters.values(), betas=(0.9, 0.99)),
            WeightAverage(parameters, 0.9, 9),
            source=torch.Generator().manual_seed(seed),
            counters={"points": 0},
        )

    def loss(self, step: int) -> torch.Tensor:
        x = torch.randn(8, 2, generator=self.loop.source)
        self.loop.counters["points"] += len(x)
        return (self.network(x) - x.sum(1, keepdim=True)).square().mean()

    def run(self, steps: int, report=lambda loss, part: None) -> None:
        self.loop.run(self.loss, lambda step, part: 0.05, Budget(steps=steps), report)


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_rate_warms_up_and_falls():
    assert [warm_up(step, 4) for step in (1, 2, 4, 9)] == [0.25, 0.5, 1.0, 1.0]
    assert [annealed(part) for part in (0.0, 0.25, 1.0)] == [1.0, 0.75, 0.0]


def test_a_step_is_no_longer_than_the_clip():
    weight = nn.Parameter(torch.zeros(4))
    optimiser = torch.optim.SGD([weight])
    assert descend(optimiser, (weight * 1000).sum(), rate=0.5, clip=2.0) is not None
    assert weight.norm().item() == pytest.approx(0.5 * 2.0)


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_step_without_a_finite_loss_changes_nothing(factor):
    weight = nn.Parameter(torch.ones(3))
    optimiser = torch.optim.AdamW([weight])
    assert descend(optimiser, weight.sum() * factor, rate=0.1, clip=1.0) is None
    assert torch.equal(weight, torch.ones(3)) and not optimiser.state


def test_a_slope_that_is_not_finite_changes_nothing():
    weight = nn.Parameter(torch.zeros(3))
    assert descend(torch.optim.SGD([weight]), weight.sqrt().sum(), rate=0.1, clip=1.0) is None
    assert torch.equal(weight, torch.zeros(3))


def test_the_average_follows_and_can_take_the_weights_place():
    weight = nn.Parameter(torch.zeros(2))
    average = WeightAverage({"weight": weight}, 0.9, 9)
    weight.data.fill_(10)
    average.update(1)  # keeps 1 / (1 + 9)
    assert average.mean["weight"].tolist() == pytest.approx([9.0, 9.0])
    with average.in_place():
        assert weight.tolist() == pytest.approx([9.0, 9.0])
    assert weight.tolist() == [10.0, 10.0]
    average.update(1000)  # keeps no more than 0.9
    assert average.mean["weight"].tolist() == pytest.approx([9.1, 9.1])


def test_a_budget_ends_with_whatever_is_sooner():
    assert Budget(steps=4).part(1, 1e9) == 0.25
    assert Budget(minutes=2).part(10**9, 30) == 0.25
    assert Budget(steps=4, minutes=2).part(1, 90) == 0.75
    assert Budget(steps=0).part(0, 0) == 1 and Budget(minutes=0).part(0, 0) == 1


def test_it_learns_counts_and_reports():
    line, seen = Line(), []
    line.run(60, lambda loss, part: seen.append((loss, part)))
    assert seen[-1][0] < 0.1 * seen[0][0]
    assert [part for _, part in seen[:3]] == [0, 1 / 60, 2 / 60]
    assert line.loop.counters["step"] == 60 and line.loop.counters["points"] == 480


def test_a_run_goes_on_from_a_file_as_if_it_had_never_ended(tmp_path):
    whole, first, later = Line(), Line(), Line(seed=5)
    whole.run(7)
    first.run(3)
    save_state(tmp_path / "run" / "state.pt", first.loop.state())
    later.loop.restore(load_state(tmp_path / "run" / "state.pt"))
    later.run(4)
    assert same(dict(later.network.state_dict()), dict(whole.network.state_dict()))
    assert same(later.loop.average.mean, whole.loop.average.mean)
    assert later.loop.counters["step"] == 7 and later.loop.counters["points"] == 56


def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path):
    file = tmp_path / "state.pt"
    save_state(file, {"step": 1})
    with pytest.raises(Exception, match="pickle"):
        save_state(file, {"step": 2, "report": lambda: None})
    assert load_state(file) == {"step": 1}


def test_a_state_of_another_network_is_refused():
    line, state = Line(), Line().loop.state()
    state["weights"] = {"other.weight": torch.zeros(2)}
    with pytest.raises(CheckpointError, match="line: the saved state is of a network with other"):
        line.loop.restore(state)


def test_it_stops_at_the_first_loss_that_is_not_finite():
    line = Line()
    line.run(2)
    kept = {name: value.clone() for name, value in line.network.state_dict().items()}
    bad = line.network.weight.sum() * float("nan")
    with pytest.raises(DivergedError, match="line: the loss of step 3 is NaN or infinite") as error:
        line.loop.run(lambda step: bad, lambda *_: 0.1, Budget(steps=9), lambda *_: None)
    assert error.value.step == 3 and line.loop.counters["step"] == 2
    assert same(dict(line.network.state_dict()), kept)
