"""The proof of motion LoRAs on show1-micro: one clip of a motion it never saw, learned, then seen
in other clips.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from show1_engine.frames import contact_sheet
from show1_engine.loading import load_model, load_text_encoder
from show1_engine.lora.merging import MotionLora, with_motion
from show1_engine.models.bundle import Show1Model
from show1_engine.progress import Report, silent
from show1_engine.runtime import PlainRuntime
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.training.motion import MotionTraining
from show1_engine.training.settings import TrainSettings

from .configs import FRAMES, REPOSITORIES
from .editions import EDITIONS, Edition
from .motions import clip, followed, motion_of
from .preview import save_picture
from .recogniser import Reading
from .world import Scene

BACKGROUNDS = {1: "white", 2: "day"}  # of the clip that is learned from
LOOKS = ("shape", "colour", "background")
SEED = (
    2_000_000  # of the judged scenes: neither training nor the judge of the cascade draws from it
)


def example_of(edition: int) -> Scene:
    """The looks of the clip that is learned from: a blue square on light ground."""
    background = BACKGROUNDS[edition]
    return EDITIONS[edition].scene(
        "square", "blue", "right", background=background, texture="plain"
    )


@dataclass(frozen=True)
class Trial:
    """An edition's keyframe model and its text encoder; captions leave the motion out, in training
    and in use.
    """

    world: Edition
    example: Scene
    model: Show1Model
    encode: Callable[[list[str]], Tensor]

    @classmethod
    def of(cls, edition: int) -> Trial:
        world = EDITIONS[edition]
        folder = world.bundle.folder / REPOSITORIES["keyframes"]
        runtime = PlainRuntime("cpu", torch.float32)
        encoder = load_text_encoder(folder, runtime)
        return cls(world, example_of(edition), load_model(folder, runtime), encoder.encode)

    def clip(self, path: str) -> Tensor:
        """What is learned from, (F, H, W, 3)."""
        return clip(self.example, path, FRAMES, world=self.world)

    def train(
        self, path: str, settings: TrainSettings, report: Report = silent
    ) -> tuple[MotionLora, float]:
        """A LoRA learned from one clip of a path, and the CPU seconds it took."""
        began = time.process_time()
        training = MotionTraining(
            self.model,
            self.clip(path),
            self.encode([self.example.caption(motion=False)]),
            settings=settings,
            empty=self.encode([""]),
        )
        training.run(report)
        return training.lora, time.process_time() - began

    def clips(
        self, scenes: list[Scene], lora: MotionLora | None, strength: float, start: int, cfg: float
    ) -> list[Tensor]:
        """A sampled clip of each scene, captioned without a motion; seeds count from `start`."""
        model = self.model if lora is None else with_motion(self.model, lora, strength)
        bundle = self.world.bundle
        chosen = {**bundle.settings["keyframes"], **bundle.template["keyframes"], "cfg": cfg}
        made = []
        for index, scene in enumerate(scenes):
            text = self.encode([scene.caption(motion=False), ""])
            settings = KeyframeSettings(**chosen, seed=SEED + start + index)
            made.append(keyframes(model, text[:1], text[1:], settings=settings).clamp(0, 1))
        return made


def others(example: Scene, world: Edition, count: int, *, seed: int = 0) -> list[Scene]:
    """Scenes whose shape and colour are both other than the example's."""
    generator = torch.Generator().manual_seed(SEED + seed)
    found: list[Scene] = []
    while len(found) < count:
        scene = world.draw(generator)
        if scene.shape != example.shape and scene.colour != example.colour:
            found.append(scene)
    return found


def shares(clips: list[Tensor], scenes: list[Scene], path: str, world: Edition) -> dict[str, float]:
    """Share of clips that move along the path, that keep each of the words, and how much of all
    movement the path explains.
    """
    readings: list[Reading] = [world.read(images) for images in clips]
    pairs = list(zip(readings, scenes, strict=True))
    kept = {
        name: sum(reading.matches(scene, name) for reading, scene in pairs) / len(pairs)
        for name in LOOKS
    }
    return {
        "moves so": sum(motion_of(reading, world) == path for reading in readings) / len(pairs),
        "explained": sum(followed(reading.places, path, world) for reading in readings)
        / len(pairs),
        **kept,
        "looks": sum(reading.matches(scene, *LOOKS) for reading, scene in pairs) / len(pairs),
        "n": len(pairs),
    }


def run_trial(
    edition: int,
    path: str,
    settings: TrainSettings,
    count: int,
    strengths: list[float],
    picture: Path | None,
    say: Callable[[str], None],
    scenes: int,
    cfg: float,
) -> dict[str, Any]:
    """Trains on one clip of a path and judges `count` clips of other shapes and colours at every
    strength.

    `scenes`: seed of the judged scenes and their noise; another one than settings were chosen on is
    a fair test. `picture`: a PNG of the clip learned from and, below, of six scenes at every
    strength, side by side.
    """
    trial = Trial.of(edition)
    judged = others(trial.example, trial.world, count, seed=scenes)
    lora, seconds = trial.train(path, settings, lambda step, total, _: say(f"step {step}/{total}"))
    found, made = at_strengths(
        strengths,
        lambda strength: trial.clips(
            judged, lora if strength else None, strength, start=1000 * scenes, cfg=cfg
        ),
        lambda clips: shares(clips, judged, path, world=trial.world),
        say=say,
    )
    if picture is not None:
        write_comparison(picture, trial.clip(path), made)
    return {
        "path": path,
        "settings": asdict(settings),
        "cfg": cfg,
        "training CPU seconds": round(seconds, 1),
        **found,
    }


def at_strengths(
    strengths: list[float],
    sample: Callable[[float], list[Tensor]],
    judge: Callable[[list[Tensor]], dict[str, float]],
    say: Callable[[str], None],
) -> tuple[dict[str, dict[str, float]], list[list[Tensor]]]:
    """What is judged of the clips sampled at every strength, and the clips."""
    found, made = {}, []
    for strength in strengths:
        say(f"sampling at strength {strength}")
        made.append(sample(strength))
        found[f"strength {strength}"] = {
            name: round(share, 4) for name, share in judge(made[-1]).items()
        }
    return found, made


def write_comparison(
    file: Path, example: Tensor, made: list[list[Tensor]], rows: int = 6, scale: int = 3
) -> None:
    """A PNG: the example on top, then a row a scene, its clips of each list in `made` side
    by side.
    """
    blank = torch.ones_like(example)
    columns = [[example, *made[0][:rows]], *([blank, *clips[:rows]] for clips in made[1:])]
    gap = torch.ones(1, *example.shape[1:])
    strips = [
        torch.cat([part for images in row for part in (gap, images)][1:])
        for row in zip(*columns, strict=True)
    ]
    save_picture(file, contact_sheet(torch.cat(strips), len(strips[0])) / 255, scale)
