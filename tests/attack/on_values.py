"""Values, shapes and texts that a graph or a script can hand to the engine."""

import math
import random
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
from harness import Case, Wrong, refusing
from hostile import VALUES
from scratch import MODELS, PROMPT, WEIGHTS, run_model

from show1_engine.loading import load_model
from show1_engine.models.bundle import Show1Model
from show1_engine.runtime import PlainRuntime
from show1_engine.sampling.samplers import SAMPLERS
from show1_engine.training.motion import MotionTraining, TrainSettings

NUMBERS = {
    name: value
    for name, value in VALUES.items()
    if isinstance(value, (int, float)) and not isinstance(value, bool)
}
FLOATS = ("cfg", "guidance_start", "guidance_end", "strength", "scale")
NAMES = ("sampler", "preset", "color_match")
KEYS = {
    "show-1-base": (
        "cfg",
        "seed",
        "sampler",
        "preset",
        "width",
        "height",
        "num_frames",
        "guidance_start",
        "guidance_end",
    ),
    "show-1-interpolation": ("cfg", "seed", "sampler", "preset", "tiling"),
    "show-1-sr1": (
        "cfg",
        "seed",
        "sampler",
        "preset",
        "tiling",
        "noise_level",
        "scale",
        "color_match",
    ),
    "show-1-sr2": (
        "cfg",
        "seed",
        "sampler",
        "preset",
        "tiling",
        "strength",
        "window",
        "overlap",
        "color_match",
        "width",
    ),
}


@cache
def model(name: str) -> Show1Model:
    return load_model(WEIGHTS / name, PlainRuntime())


def _stage(name: str, changes: dict[str, Any]) -> None:
    run_model(model(name), **changes)


def settings(rng: random.Random) -> Iterator[Case]:
    for name in MODELS:
        model(name)  # loaded before the forks, not in each
        yield Case("settings", f"{name} as it is", partial(_stage, name, {}), True)
        for key in KEYS[name]:
            values = VALUES if key in NAMES else NUMBERS
            for what, value in values.items():
                if key in FLOATS and key not in NAMES:
                    value = float(value) if abs(value) < 2**64 else 1e30
                elif key not in NAMES and not isinstance(value, int):
                    continue  # the host makes whole numbers of them
                yield Case(
                    "settings", f"{name} {key} = {what}", partial(_stage, name, {key: value})
                )


def step_counts(rng: random.Random) -> Iterator[Case]:
    """Every sampler from one step to the most, on the widest range of counts."""
    counts = sorted(
        {
            1,
            2,
            3,
            5,
            50,
            333,
            500,
            501,
            750,
            900,
            990,
            *range(994, 1001),
            *rng.sample(range(4, 1000), 12),
        }
    )
    for name in ("show-1-base", "show-1-sr2"):
        for sampler in SAMPLERS:
            for steps in counts:
                yield Case(
                    "steps", f"{name} {sampler} {steps}", partial(_schedule, name, sampler, steps)
                )
    for name in MODELS:
        for sampler in SAMPLERS:
            yield Case(
                "steps",
                f"{name} {sampler} whole run",
                partial(_stage, name, {"sampler": sampler, "steps": rng.randint(3, 12)}),
            )
            for strength in (0.0, 0.01, 0.5, 1.0):
                if name == "show-1-sr2":
                    yield Case(
                        "steps",
                        f"{name} {sampler} strength {strength}",
                        partial(_schedule, name, sampler, 1000, strength),
                    )


def _schedule(name: str, sampler: str, steps: int, strength: float = 1.0) -> None:
    """A run with a stand-in for the network, so that a thousand steps take a second."""
    from show1_engine.progress import silent
    from show1_engine.sampling.loop import denoise
    from show1_engine.sampling.samplers import schedule_for

    channels = 2 if name == "show-1-base" else 1
    schedule = schedule_for(model(name).scheduler_config, sampler, steps, strength=strength)
    if strength == 1.0 and len(schedule.timesteps) + schedule.dropped != steps:
        raise Wrong(f"{len(schedule.timesteps)} steps")
    start = torch.randn(1, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))

    def predict(x: torch.Tensor, timestep: int) -> torch.Tensor:
        return torch.tanh(x[:, :3] + timestep / 1000).repeat(1, channels, 1, 1, 1)

    out = denoise(predict, start, schedule, [torch.Generator().manual_seed(1)], silent)
    if not out.isfinite().all():
        raise Wrong("not finite")


def texts(rng: random.Random) -> Iterator[Case]:
    states: dict[str, Any] = {
        "a batch of two": PROMPT.repeat(2, 1, 1),
        "no prompt": PROMPT[:0],
        "no tokens": PROMPT[:, :0],
        "of SDXL": torch.zeros(1, 77, 2048),
        "flat": PROMPT[0],
        "four axes": PROMPT[None],
        "NaN": PROMPT * math.nan,
        "infinite": PROMPT * math.inf,
        "huge": PROMPT * 1e30,
        "whole numbers": PROMPT.long(),
        "None": None,
        "text": "x",
        "a list": [1],
        "empty object": {},
        "complex": PROMPT.to(torch.complex64),
    }
    fine = {
        "one token": PROMPT[:, :1],
        "154 tokens": PROMPT.repeat(1, 2, 1),
        "half": PROMPT.half(),
        "zeros": PROMPT * 0,
    }
    for name in MODELS:
        for side in ("positive", "negative"):
            for what, value in states.items():
                yield Case("text", f"{name} {side} {what}", partial(_refused, name, {side: value}))
            for what, value in fine.items():
                yield Case("text", f"{name} {side} {what}", partial(_stage, name, {side: value}))


def _refused(name: str, changes: dict[str, Any]) -> None:
    with refusing():
        _stage(name, changes)


def shapes(rng: random.Random) -> Iterator[Case]:
    sizes = [
        (1, 1, 1, 3),
        (1, 1, 1, 1),
        (1, 1, 1, 4),
        (2, 1, 300, 3),
        (2, 300, 1, 3),
        (9, 3, 5, 4),
        (1, 8, 8, 3),
        (17, 4, 4, 3),
        (2, 1, 2000, 3),
        (2, 7, 13, 1),
        (3, 8, 8, 4),
        (2, 33, 2, 3),
    ]
    sizes += [
        (rng.randint(1, 10), rng.randint(1, 24), rng.randint(1, 24), rng.choice((1, 3, 4)))
        for _ in range(20)
    ]
    for name in MODELS[1:]:
        for size in sizes:
            for cfg in (1.0, 3.0):
                if size[1] * size[2] > 600 and name == "show-1-sr1":
                    continue  # larger than a case's time allows
                yield Case("shape", f"{name} {size} cfg {cfg}", partial(_shape, name, size, cfg))
        for what, images in bad_images().items():
            yield Case(
                "shape", f"{name} images {what}", partial(_refused, name, {"images": images})
            )
    for frames, height, width in ((1, 1, 2000), (1, 2000, 1), (2, 1, 500)):
        yield Case(
            "shape",
            f"expert strip {height}x{width}",
            partial(
                _stage,
                "show-1-sr2",
                {"images": torch.rand(frames, height, width, 3), "width": 64, "height": 32},
            ),
        )
    for width, height, frames in (
        (1024, 1024, 256),
        (1024, 512, 256),
        (1000, 1000, 100),
        (1024, 1024, 8),
    ):
        yield Case(
            "shape",
            f"keyframes {width}x{height}x{frames}",
            partial(_stage_or_large, {"width": width, "height": height, "num_frames": frames}),
        )


def _stage_or_large(changes: dict[str, Any]) -> None:
    """On a machine with less memory than that it is refused with the number."""
    from dataclasses import replace

    from show1_engine.stages.keyframes import KeyframeSettings, keyframes

    class Small:
        """The model's handle on a device of 8 GB."""

        def __init__(self, handle: Any):
            self._handle = handle

        def __getattr__(self, name: str) -> Any:
            return getattr(self._handle, name)

        def memory(self) -> int:
            return 8 * 10**9

    small = replace(model("show-1-base"), unet=Small(model("show-1-base").unet))
    with refusing():
        keyframes(small, PROMPT, PROMPT, KeyframeSettings(**changes))


def bad_images() -> dict[str, Any]:
    images = torch.rand(2, 8, 8, 3)
    spoiled = images.clone()
    spoiled[1, 2, 3, 0] = math.nan
    return {
        "NaN": spoiled,
        "infinite": images / 0,
        "1e30": images * 1e30,
        "-1e30": images * -1e30,
        "None": None,
        "a list": [1],
        "text": "x",
        "no frames": images[:0],
        "two channels": images[..., :2],
        "flat": images[0],
        "five axes": images[None],
        "complex": images.to(torch.complex64),
        "no rows": images[:, :0],
    }


def _shape(name: str, size: tuple[int, ...], cfg: float) -> None:
    images = torch.rand(size, generator=torch.Generator().manual_seed(0))
    out = run_model(
        model(name),
        images=images,
        steps=1,
        cfg=cfg,
        **({"width": 0, "height": 0} if name == "show-1-sr2" else {}),
    )
    frames, height, width = size[:3]
    channels = 3 if size[3] == 1 else size[3]
    expected = {
        "show-1-interpolation": (4 * (frames - 1) + 1, height, width),
        "show-1-sr1": (frames, 4 * height, 4 * width),
        "show-1-sr2": (frames, height, width),
    }[name]
    if tuple(out.shape) != (*expected, channels):
        raise Wrong(f"{tuple(out.shape)} of {size}")


def training(rng: random.Random) -> Iterator[Case]:
    clip = torch.rand(3, 16, 16, 3)

    def attempt(changes: dict[str, Any], images: Any = clip, text: Any = PROMPT) -> None:
        small = {"steps": 2, "rank": 2, "window": 2, "width": 16, "height": 16}
        run = MotionTraining(
            model("show-1-base"), images, text, TrainSettings(**(small | changes)), empty=-PROMPT
        )
        run.run()
        finite(run)

    def finite(run: MotionTraining) -> None:
        values = [
            tensor for change in run.lora.changes.values() for tensor in (change.up, change.down)
        ]
        if not values or not all(bool(value.isfinite().all()) for value in values):
            raise Wrong("the LoRA is not finite")

    def diverging() -> None:
        run = MotionTraining(
            model("show-1-base"),
            torch.rand(3, 16, 16, 3),
            PROMPT,
            TrainSettings(
                steps=40,
                rank=2,
                window=2,
                width=16,
                height=16,
                learning_rate=1e38,
                objective="plain",
            ),
        )
        run.run()
        finite(run)
        if not run.losses or not all(map(math.isfinite, run.losses)):
            raise Wrong("a loss that is not finite")

    yield Case("training", "as it is", partial(attempt, {}), True)
    yield Case("training", "a learning rate of 1e38", diverging)
    floats = {name: float(value) if abs(value) < 2**64 else 1e30 for name, value in NUMBERS.items()}
    for name, value in floats.items():
        for key in ("learning_rate", "recolour"):
            yield Case("training", f"{key} = {name}", partial(attempt, {key: value}))
    for name, value in NUMBERS.items():
        if isinstance(value, int) and value < 100:
            for key in (
                "steps",
                "rank",
                "batch_size",
                "window",
                "frame_step",
                "seed",
                "width",
                "height",
            ):
                yield Case("training", f"{key} = {name}", partial(attempt, {key: value}))
    for name, value in VALUES.items():
        for key in ("objective", "targets", "timesteps"):
            yield Case("training", f"{key} = {name}", partial(attempt, {key: value}))
    for name, images in bad_images().items():
        yield Case(
            "training",
            f"images {name}",
            partial(attempt, {}, images),
        )
    for name, text in (
        ("NaN", PROMPT * math.nan),
        ("huge", PROMPT * 1e30),
        ("batch", PROMPT[:0]),
        ("SDXL", torch.zeros(1, 77, 2048)),
    ):
        yield Case("training", f"text {name}", partial(attempt, {}, torch.rand(3, 16, 16, 3), text))


FAMILIES: dict[str, Callable[[random.Random], Iterator[Case]]] = {
    "settings": settings,
    "steps": step_counts,
    "text": texts,
    "shape": shapes,
    "training": training,
}
