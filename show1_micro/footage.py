"""The synthetic world as footage: clips in memory, or a folder of mp4s with captions, as the
engine's stage training takes either.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Generator, Tensor

from show1_engine.frames import cover, to_model
from show1_engine.training.clips import Cut
from show1_engine.training.order import seeded
from show1_engine.video import write_mp4

from .batches import scenes
from .world import Scene, frame_times, render

SIZE, FPS, FRAMES = 64, 8, 29  # a clip's, as the cascade makes it: 8 keyframes at 2 per second


def numbered(count: int, seed: int = 0) -> list[Scene]:
    """As many scenes, each from its own number, without the held-out combinations."""
    return [scenes(1, seeded(seed, "scene", number))[0] for number in range(count)]


def write_footage(folder: Path, count: int, seed: int = 0) -> None:
    """Clips as 0000.mp4 and so on, each with its caption in a .txt."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, scene in enumerate(numbered(count, seed)):
        file = folder / f"{number:04d}.mp4"
        write_mp4(file, render([scene], frame_times(FRAMES), SIZE, width=SIZE)[0], FPS)
        file.with_suffix(".txt").write_text(scene.caption() + "\n", encoding="utf-8")


class DrawnClips:
    """`Clips` of the same scenes in memory, without any codec between."""

    def __init__(self, many: list[Scene], cut: Cut):
        self.cut = cut
        self.captions = [scene.caption() for scene in many]
        self.names = [f"scene {number}" for number in range(len(many))]
        self.buckets = [cut.sizes[0]] * len(many)
        drawn = (render([scene], frame_times(FRAMES), SIZE, width=SIZE)[0] for scene in many)
        self._videos = [to_model(video, torch.device("cpu")) for video in drawn]

    def clip(self, item: int, source: Generator) -> Tensor:
        """As `SceneClips` cuts one out: the frames nearest to its times."""
        where = torch.rand(3, generator=source).tolist()
        room = max(0.0, (FRAMES - 1) / FPS - self.cut.seconds)
        times = [where[0] * room + i / self.cut.rate for i in range(self.cut.frames)]
        chosen = [min(FRAMES - 1, round(time * FPS)) for time in times]
        place = (where[1], where[2])
        return cover(self._videos[item][:, :, chosen], *self.buckets[item], place=place)
