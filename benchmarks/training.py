"""What reading from files costs a stage's training: python benchmarks/training.py [--steps 30]
[--turns 3] [--stages ...] [--json FILE]

`train-stage`'s own loop on a folder of mp4s, decoded as it goes, beside a plain loop (loss,
gradient, AdamW) whose samples lie ready in memory, in turns. Wall seconds a step, on one thread and
the threads that read ahead; the network's share is the same in both.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from show1_engine.bundled import STAGE_SIZES, WEIGHTS  # noqa: E402
from show1_engine.commands.train_stage import resident  # noqa: E402
from show1_engine.loading import load_model  # noqa: E402
from show1_engine.runtime import PlainRuntime  # noqa: E402
from show1_engine.training.clips import ClipData, Cut, SceneClips  # noqa: E402
from show1_engine.training.footage import looked_through  # noqa: E402
from show1_engine.training.order import seeded  # noqa: E402
from show1_engine.training.recipes import RECIPES, Noiser  # noqa: E402
from show1_engine.training.settings import StageTrainSettings  # noqa: E402
from show1_engine.training.stage import StageTraining  # noqa: E402
from show1_micro.configs import REPOSITORIES  # noqa: E402
from show1_micro.footage import write_footage  # noqa: E402

CPU = torch.device("cpu")
CLIPS = 24


class Trial:
    """A stage, its footage, and both ways to train it."""

    def __init__(self, stage: str, footage: Path, runs: Path, steps: int):
        self.stage, self.runs, self.steps = stage, runs, steps
        self.s = StageTrainSettings(
            steps=steps,
            batch_size=4,
            learning_rate=1e-5,
            gradient_checkpointing=False,
            sample_every=0,
        )
        recipe = RECIPES[stage]
        width, height = map(int, STAGE_SIZES[stage].split("x"))
        cut = Cut(recipe.frames, recipe.frame_rate, [(height, width)])
        self.clips = SceneClips(looked_through(footage).scenes, cut)

    def training(self, folder: Path) -> StageTraining:
        model = load_model(WEIGHTS / REPOSITORIES[RECIPES[self.stage].kind], PlainRuntime())
        model = resident(model, CPU)
        width = model.network.text_width

        def text(caption: str) -> torch.Tensor:
            return torch.randn(1, 77, width, generator=seeded(0, caption))

        data = ClipData(self.clips, text, Noiser(model, self.s), stride=self.s.batch_size)
        return StageTraining(self.stage, model, data, s=self.s, folder=folder)

    def from_files(self, turn: int) -> float:
        run = self.training(self.runs / f"{self.stage}-{turn}")
        start = time.perf_counter()
        run.run()
        took = time.perf_counter() - start
        run.data.close()
        return took / self.steps

    def from_memory(self, turn: int) -> float:
        run = self.training(self.runs / "unused")
        size = self.s.batch_size
        batches = [run.data.batch(range(i * size, (i + 1) * size)) for i in range(self.steps)]
        run.data.close()
        learned = list(run.learner.learned.values())
        optimiser = torch.optim.AdamW(learned, lr=self.s.learning_rate)
        start = time.perf_counter()
        for batch in batches:
            optimiser.zero_grad(set_to_none=True)
            run.learner(batch).backward()
            optimiser.step()
        return (time.perf_counter() - start) / self.steps


def measured(trial: Trial, turns: int) -> dict[str, Any]:
    for way in (trial.from_files, trial.from_memory):  # what is imported is imported now
        warm = trial.steps
        trial.steps, trial.s = 2, replace(trial.s, steps=2)
        way(-1)
        trial.steps, trial.s = warm, replace(trial.s, steps=warm)
    files, memory = [], []
    for turn in range(turns):
        files.append(trial.from_files(turn))
        memory.append(trial.from_memory(turn))
        print(f"{trial.stage} {turn + 1}/{turns}", file=sys.stderr, flush=True)
    one, other = statistics.median(files), statistics.median(memory)
    return {
        "seconds a step from files": round(one, 4),
        "seconds a step from memory": round(other, 4),
        "throughput from files over memory": round(other / one, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--stages", nargs="+", default=["keyframes", "interpolation", "pixel-sr"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_footage(place / "clips", CLIPS)
        found = {
            stage: measured(Trial(stage, place / "clips", place, steps=args.steps), args.turns)
            for stage in args.stages
        }
    print(json.dumps(found, indent=1))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
