"""Trainings of the bundled stages that are over in a moment."""

import torch

from show1_engine.bundled import STAGE_SIZES, WEIGHTS
from show1_engine.commands.train_stage import resident
from show1_engine.loading import load_model
from show1_engine.runtime import PlainRuntime
from show1_engine.training.clips import Cut
from show1_engine.training.order import seeded
from show1_engine.training.recipes import RECIPES
from show1_engine.training.settings import StageTrainSettings
from show1_micro.footage import DrawnClips, numbered

QUICK = StageTrainSettings(
    steps=4,
    learning_rate=1e-3,
    warm_up=1,
    ema=0.5,
    gradient_checkpointing=False,
    sample_every=0,
    workers=0,
)
NAMES = {
    "keyframes": "show-1-base",
    "interpolation": "show-1-interpolation",
    "pixel-sr": "show-1-sr1",
    "expert": "show-1-sr2",
}
CPU = torch.device("cpu")


def micro(stage: str):
    return resident(load_model(WEIGHTS / NAMES[stage], PlainRuntime()), CPU)


def text(caption: str) -> torch.Tensor:
    return torch.randn(1, 77, 64, generator=seeded(0, caption))


def drawn(stage: str, count: int = 4) -> DrawnClips:
    sides = STAGE_SIZES[stage] if RECIPES[stage].size == (40, 64) else "32x32"
    width, height = map(int, sides.split("x"))
    recipe = RECIPES[stage]
    return DrawnClips(numbered(count), Cut(recipe.frames, recipe.frame_rate, [(height, width)]))
