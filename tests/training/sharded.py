"""What `test_shards.py` starts as several processes: trainings whose weights are divided over them.

python sharded.py FOOTAGE FOLDER, where FOLDER/begun has a checkpoint of one process to go on from
and FOLDER/asked.json options of train-stage.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from small_training import QUICK, micro, text  # noqa: E402

from show1_engine.__main__ import main  # noqa: E402
from show1_engine.errors import DivergedError  # noqa: E402
from show1_engine.models.bundle import Show1Model  # noqa: E402
from show1_engine.models.unet import UNet  # noqa: E402
from show1_engine.runtime import PlainHandle, PlainRuntime  # noqa: E402
from show1_engine.training.batch import Batch  # noqa: E402
from show1_engine.training.clips import ClipData, Cut  # noqa: E402
from show1_engine.training.processes import processes  # noqa: E402
from show1_engine.training.recipes import RECIPES, Noiser  # noqa: E402
from show1_engine.training.stage import StageTraining  # noqa: E402
from show1_micro.footage import DrawnClips, numbered  # noqa: E402

ALL = replace(QUICK, train="all", steps=3, gradient_checkpointing=True, learning_rate=1e-3)
# Where numbers are compared, the order of a sum must not tell: a float32 rounding may be a per cent
# of Adam's first steps, where a slope is as small as its epsilon.
EXACT = torch.float64
# One level, with attention in its middle: any operation on shards is slow when it is called first.
ONE_LEVEL = {
    "keyframes": {
        "block_out_channels": [32],
        "down_block_types": ["ResnetDownsampleBlock3D"],
        "up_block_types": ["ResnetUpsampleBlock3D"],
    },
    "expert": {
        "block_out_channels": [32],
        "down_block_types": ["DownBlock3D"],
        "up_block_types": ["UpBlock3D"],
        "attention_head_dim": [4],
    },
}


def small(stage: str) -> Show1Model:
    model = micro(stage)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet({**model.network.config, **ONE_LEVEL[stage]}).to(EXACT)
    return replace(model, unet=PlainHandle(network, EXACT, PlainRuntime()))


class Cast(ClipData):
    """Samples in the dtype that the network is in."""

    def batch(self, numbers: range) -> Batch:
        found, dtype = super().batch(numbers), self.noiser.model.unet.dtype
        many = {name: getattr(found, name) for name in ("sample", "text", "noise", "clean")}
        return replace(found, **{name: value.to(dtype) for name, value in many.items()})


class Poisoned(DrawnClips):
    """The second clip holds a NaN."""

    def clip(self, item, source):
        return super().clip(item, source) * (float("nan") if item == 1 else 1)


def clips_of(stage: str, kind: type[DrawnClips] = DrawnClips) -> DrawnClips:
    side = 32 if stage == "expert" else 16
    return kind(numbered(4), Cut(RECIPES[stage].frames, 2.0, [(side, side)]))


def training(stage: str, folder: Path, place=None, clips=None, model=None, **more):
    """One process takes as parts what two take at once."""
    more["accumulate"] = more.get("accumulate", 1) * (1 if place else 2)
    s, model = replace(ALL, shard=place is not None, **more), model or small(stage)
    data = Cast(clips or clips_of(stage), text, Noiser(model, s), stride=s.batch_size)
    return StageTraining(stage, model, data, s, folder, place=place)


def held(run: StageTraining) -> dict[str, int]:
    """Bytes that this process holds."""
    values = list(run.loop.average.parameters.values())
    moments = run.loop.optimiser.state
    groups = {
        "weights": values,
        "gradients": [value.grad for value in values if value.grad is not None],
        "moments": [moments[v][key] for v in values for key in ("exp_avg", "exp_avg_sq")],
        "average": run.loop.average.mean.values(),
    }
    return {
        name: sum(getattr(x, "_local_tensor", x).nbytes for x in group)
        for name, group in groups.items()
    }


def tried(footage: Path, folder: Path) -> None:
    place, found = processes("cpu", shard=True), {}
    begun = training("keyframes", folder / "begun", place, save_every=1)
    begun.run()
    found["held"] = held(begun)
    training("keyframes", folder / "temporal", place, train="temporal", steps=1).run()
    bf16 = {"model": micro("keyframes"), "precision": "bf16", "steps": 1}
    training("keyframes", folder / "bf16", place, **bf16).run()
    stopped = training("expert", folder / "stopped", place, accumulate=2, steps=20)

    def stop(step: int, *_) -> None:
        stopped.stopped = step == 2 and place.rank == 1

    stopped.run(stop)
    found["stopped"] = stopped.step
    clips = clips_of("keyframes", Poisoned)
    try:
        training("keyframes", folder / "poisoned", place, clips=clips).run()
    except DivergedError as error:
        found["diverged"] = str(error)
    (folder / f"{place.rank}.json").write_text(json.dumps(found))
    asked = [*json.loads((folder / "asked.json").read_text()), "--shard"]
    assert main(["train-stage", "keyframes", str(footage), str(folder / "command"), *asked]) == 0


if __name__ == "__main__":
    tried(*map(Path, sys.argv[1:]))
