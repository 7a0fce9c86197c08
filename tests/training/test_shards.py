"""Weights divided over processes: the numbers of one process, in a part of its memory."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_training import QUICK

from show1_engine.__main__ import main
from show1_engine.errors import InputError
from show1_engine.training.loop import load_state
from show1_engine.training.processes import Together, processes
from show1_engine.training.recipes import checked_settings
from show1_engine.training.stage import checkpoints

accelerate = pytest.importorskip("accelerate")
sys.path.append(str(Path(__file__).parent))
import sharded  # noqa: E402

COMMAND = (
    "--train all --steps 2 --sample-every 2 --held-out 1 --sample-steps 1 --learning-rate 1e-5 "
    "--warm-up 1 --ema 0.5 --device cpu"
).split()


@pytest.fixture(scope="module")
def runs(footage, tmp_path_factory, pack) -> Path:
    """Trainings of one process, in "one ..", and what `sharded.py` does by two beside them."""
    folder = tmp_path_factory.mktemp("runs")
    sharded.training("keyframes", folder / "one straight", save_every=1).run()
    begin(folder / "begun", folder / "one straight", step=1)
    (folder / "asked.json").write_text(json.dumps(COMMAND))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = [Path(sharded.__file__), footage, folder]
    ended = subprocess.run(
        [sys.executable, *launch, *map(str, script)],
        cwd=pack,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return folder


def begin(run: Path, earlier: Path, step: int) -> None:
    """Another run from an earlier one's step on."""
    file = checkpoints(earlier)[step - 1]
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(file, run / "checkpoints")


def last(run: Path) -> dict:
    return load_state(checkpoints(run)[-1])


def losses(run: Path) -> list[float]:
    lines = (run / "log.jsonl").read_text().splitlines()
    return [value for line in lines for name, value in json.loads(line).items() if "loss" in name]


def apart(one: dict, other: dict) -> float:
    """The greatest distance between weights, averages and moments."""
    assert one["counters"]["step"] == other["counters"]["step"]
    parts = [(one[part], other[part]) for part in ("weights", "mean")]
    parts += [(one["optimiser"][name], other["optimiser"][name]) for name in one["optimiser"]]
    assert all(a.keys() == b.keys() for a, b in parts)
    return max(float((a[name] - b[name]).abs().max()) for a, b in parts for name in a)


@pytest.mark.parametrize(
    ("name", "stage", "changes"),
    [
        ("temporal", "keyframes", {"train": "temporal", "steps": 1}),
        ("stopped", "expert", {"accumulate": 2, "steps": 2}),
    ],
)
def test_the_numbers_are_those_of_one_process(runs, tmp_path, name, stage, changes):
    sharded.training(stage, tmp_path, **changes).run()
    assert apart(last(tmp_path), last(runs / name)) < 1e-9
    assert losses(tmp_path) == pytest.approx(losses(runs / name), rel=1e-9)


def test_several_go_on_from_what_one_saved_and_one_from_what_several_did(runs, tmp_path):
    straight, begun = runs / "one straight", runs / "begun"
    assert apart(last(straight), last(begun)) < 1e-9
    begin(tmp_path / "run", begun, step=2)
    sharded.training("keyframes", tmp_path / "run").run()
    assert apart(last(straight), last(tmp_path / "run")) < 1e-9


def test_each_process_holds_half(runs):
    state = last(runs / "one straight")
    whole = sum(value.nbytes for value in state["weights"].values())
    halves = [json.loads((runs / f"{rank}.json").read_text())["held"] for rank in (0, 1)]
    for part, times in (("weights", 1), ("gradients", 1), ("moments", 2), ("average", 1)):
        both = [half[part] for half in halves]
        assert sum(both) == times * whole
        assert max(both) < 0.51 * times * whole


def test_masters_stay_float32(runs):
    state = last(runs / "bf16")
    assert {value.dtype for value in state["weights"].values()} == {torch.float32}
    assert 0 < losses(runs / "bf16")[0] < 10


def test_all_stop_and_all_diverge_together(runs):
    found = [json.loads((runs / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [one["stopped"] for one in found] == [2, 2]
    assert all("NaN or infinite" in one["diverged"] for one in found)
    assert "(on scene 1)" in " ".join(one["diverged"] for one in found)
    assert all(bool(x.isfinite().all()) for x in last(runs / "poisoned")["weights"].values())


def test_the_command_writes_what_one_process_does(runs, footage, tmp_path):
    asked = ["train-stage", "keyframes", str(footage), str(tmp_path), *COMMAND]
    assert main([*asked, "--accumulate", "2"]) == 0
    one, several = last(tmp_path), last(runs / "command")
    pairs = [(one["mean"][name], several["mean"][name]) for name in one["mean"]]
    assert max(float((a - b).abs().max()) for a, b in pairs) < 1e-6
    assert losses(tmp_path) == pytest.approx(losses(runs / "command"), abs=1e-6)
    assert len(list((runs / "command" / "samples").glob("*.png"))) == 2
    written = load_file(next((runs / "command" / "ema").glob("*/unet/*.safetensors")))
    for name, value in written.items():
        same = several["mean"][name].to(value.dtype).view_as(value)
        assert torch.equal(value, same)


@pytest.mark.parametrize("train", ["lora", "temporal-attention"])
def test_where_little_is_trained_nothing_is_divided(train):
    with pytest.raises(InputError, match=f"'shard' is for .* {train} trains so little"):
        checked_settings("keyframes", replace(QUICK, train=train, shard=True))


def test_one_process_has_nobody_to_share_with(footage, tmp_path, capsys):
    asked = ["train-stage", "keyframes", str(footage), str(tmp_path), "--train", "all", "--shard"]
    assert main(asked) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "this is one; start them by torchrun" in error
    assert processes("cpu").shard is False


@pytest.mark.parametrize(("kind", "shard"), [("FSDP", True), ("MULTI_GPU", False)])
def test_accelerate_launch_can_ask_for_it(monkeypatch, kind, shard):
    class Launched:
        def __init__(self, cpu: bool):
            self.process_index, self.num_processes, self.device = 0, 2, torch.device("cpu")
            self.distributed_type = accelerate.DistributedType[kind]

    monkeypatch.setattr(accelerate, "Accelerator", Launched)
    assert Together(cpu=False).shard is shard
