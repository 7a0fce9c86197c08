"""The proof of styles on show1-micro: super-resolution learns one clip's texture, then draws it on
other shapes.

Textures live in super-resolution, where fine detail is made: keyframes are too small to hold any.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from show1_engine.loading import load_model, load_text_encoder
from show1_engine.lora.merging import with_motion
from show1_engine.models.bundle import Show1Model
from show1_engine.runtime import PlainRuntime
from show1_engine.stages.pixel_sr import PixelSRSettings, pixel_sr
from show1_engine.training.motion import MotionTraining
from show1_engine.training.settings import TrainSettings

from .configs import FRAMES, REPOSITORIES
from .editions import EDITIONS, Edition
from .motion_trial import LOOKS, SEED, at_strengths, example_of, others, write_comparison
from .recogniser import accuracy
from .world import Scene, frame_times, with_words

_TIMES = frame_times(FRAMES) * 0.25  # a window at the interpolated rate


def run_style(
    edition: int,
    texture: str,
    settings: TrainSettings,
    count: int,
    strengths: list[float],
    picture: Path | None,
    say: Callable[[str], None],
    scenes: int,
) -> dict[str, Any]:
    """Trains super-resolution on one clip with a texture that its caption does not name, and judges
    it on `count` clips of other shapes and colours, whose captions name none either.

    `scenes`: seed of the judged scenes and their noise. `picture`: a PNG of first and last frames,
    as `motion_trial.run_trial` writes.
    """
    runtime = PlainRuntime("cpu")
    world = EDITIONS[edition]
    folder = world.bundle.folder
    model = load_model(folder / REPOSITORIES["pixel_sr"], runtime)
    encode = load_text_encoder(folder / REPOSITORIES["keyframes"], runtime).encode
    example = with_words(example_of(edition), texture=texture)
    truth = world.render([example], _TIMES, *world.large)[0]
    judged = others(example, world, count, seed=scenes)
    began = time.process_time()
    training = MotionTraining(
        model, truth, encode([example.caption(texture=False)]), settings=settings
    )
    training.run(lambda step, total, _: say(f"step {step}/{total}"))
    seconds = time.process_time() - began
    found, made = at_strengths(
        strengths,
        lambda strength: _enlarged(
            with_motion(model, training.lora, strength), encode, judged, world=world, seed=scenes
        ),
        lambda clips: _shares(clips, judged, texture, world=world),
        say=say,
    )
    if picture is not None:
        write_comparison(
            picture,
            truth[:: FRAMES - 1],
            [[clip[:: FRAMES - 1] for clip in clips] for clips in made],
            scale=2,
        )
    return {
        "texture": texture,
        "settings": asdict(settings),
        "training CPU seconds": round(seconds, 1),
        **found,
    }


def _enlarged(
    model: Show1Model,
    encode: Callable[[list[str]], Tensor],
    scenes: list[Scene],
    *,
    world: Edition,
    seed: int,
) -> list[Tensor]:
    """Drawn keyframe-size clips of the scenes, four times larger; the captions leave the texture
    out.
    """
    chosen = {**world.bundle.settings["pixel_sr"], **world.bundle.template["pixel_sr"]}
    made = []
    for index, scene in enumerate(scenes):
        text = encode([scene.caption(texture=False), ""])
        settings = PixelSRSettings(**chosen, seed=SEED + 1000 * seed + index)
        made.append(
            pixel_sr(
                model,
                world.render([scene], _TIMES, *world.keyframe)[0],
                text[:1],
                negative=text[1:],
                settings=settings,
            ).clamp(0, 1)
        )
    return made


def _shares(
    clips: list[Tensor], scenes: list[Scene], texture: str, world: Edition
) -> dict[str, float]:
    """Share of clips with the texture, and of those that keep each of the words and all of them."""
    readings = [world.read(images) for images in clips]
    kept = accuracy(readings, scenes, LOOKS)
    return {
        "texture": sum(reading.texture == texture for reading in readings) / len(clips),
        **{name: kept[name] for name in LOOKS},
        "looks": kept["all"],
        "n": len(clips),
    }
