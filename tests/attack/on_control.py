"""What says how a clip goes: prompts over time, given frames, masks, references, windows, rates."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from harness import Case, Wrong, refusing
from on_values import NUMBERS, bad_images, model
from scratch import CLIP, PROMPT, finite

from show1_engine.stages.given import GivenFrames, parsed_indices
from show1_engine.stages.interpolate import InterpolateSettings, interpolate, rate
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.stages.latent_expert_sr import LatentExpertSettings, latent_expert_sr
from show1_engine.stages.pixel_sr import PixelSRSettings, pixel_sr
from show1_engine.stages.prompts import PromptSchedule, scheduled_prompts

KEYFRAMES = {"width": 8, "height": 8, "num_frames": 4, "steps": 2}
WINDOWS = ("window", "overlap", "num_frames", "drafts", "strength", "loop")
STRANGE = (
    "0-9999999999",
    "-9999999999-0",
    "0--1",
    "-",
    "--",
    "1e3",
    "0x10",
    "0,,1",
    ",",
    "0-65535,0-65535",
    "\u0663",
    "\u00b2",
    "9" * 5000,
    "0 1",
    "3-1",
    "\ud800",
    "0\x00",
    "+1",
    "1_0",
)
LINES = (
    "",
    "\n\n",
    "0:",
    ":",
    "0: a\n0: b",
    "5: a\n3: b",
    "0: a\n" + "9" * 400 + ": b",
    "0: a\n1e400: b",
    "0: a\nnan: b",
    "0: a\n4s: b",
    "0: a\n99999s: b",
    "\ud800",
    "0: \ud800",
    "0: a\x00b",
    "k" * 100_000,
    "\n".join(f"{i}: a" for i in range(40)),
    "\n".join(["0: a"] * 1000),
    "\u0660: a\n\u0663: b",
    "0 : a \n 2 s : b",
    "-1: a",
)


def run_keyframes(settings: dict[str, Any], prompt: Any = PROMPT, **more: Any) -> None:
    s = KeyframeSettings(**(KEYFRAMES | settings))
    finite(keyframes(model("show-1-base"), prompt, -PROMPT, s, **more))


def refused_keyframes(settings: dict[str, Any], prompt: Any = PROMPT, **more: Any) -> None:
    with refusing():
        run_keyframes(settings, prompt, **more)


def given(rng: random.Random) -> Iterator[Case]:
    model("show-1-base")  # loaded before the forks, not in each
    good = GivenFrames(CLIP[:1], (0,))
    yield Case("given", "as it is", partial(_held, good), True)
    for what, images in bad_images().items():
        count = len(images) if hasattr(images, "__len__") else 1
        frames = GivenFrames(images, tuple(range(count)))
        yield Case("given", f"images {what}", partial(refused_keyframes, {}, given=frames))
        yield Case("given", f"start {what}", partial(_unless_none, images))
    for indices in ((4,), (-5,), (0, 0), (0, -4), (), (0, 1, 2), (2**70, 0)):
        frames = GivenFrames(CLIP, indices)
        yield Case("given", f"at {indices}", partial(refused_keyframes, {}, given=frames))
    for name, value in NUMBERS.items():
        for key in ("strength", "harmonise"):
            frames = GivenFrames(CLIP[:1], (-1,), **{key: value})
            yield Case("given", f"{key} = {name}", partial(run_keyframes, {}, given=frames))
    for text in STRANGE:
        yield Case("given", f"indices {text[:20]!a}", partial(_parsed, text))
    for i in range(60):
        text = "".join(rng.choice("0123456789-, +.e\n") for _ in range(rng.randint(1, 12)))
        yield Case("given", f"indices {i} {text!a}", partial(_parsed, text))
    for i in range(20):
        size = rng.randint(1, 3), rng.randint(1, 40), rng.randint(1, 40), rng.choice((1, 3, 4))
        frames = GivenFrames(torch.rand(size), tuple(rng.sample(range(-4, 0), size[0])))
        yield Case("given", f"of {size} {i}", partial(_held, frames))


def _unless_none(images: Any) -> None:
    """No clip to start from is nothing wrong."""
    if images is None:
        run_keyframes({}, images=None)
    else:
        refused_keyframes({}, images=images)


def _held(frames: GivenFrames) -> None:
    s = KeyframeSettings(**KEYFRAMES)
    made = finite(keyframes(model("show-1-base"), PROMPT, -PROMPT, s, given=frames))
    if frames.images.shape[1:] == made.shape[1:]:
        if not torch.equal(made[list(frames.indices)], frames.images):
            raise Wrong("a given frame came back changed")


def _parsed(text: str) -> None:
    found = parsed_indices("Show1GivenFrames", text, 3)
    if not found or not all(isinstance(index, int) for index in found):
        raise Wrong(f"{found}")


def prompts(rng: random.Random) -> Iterator[Case]:
    model("show-1-base")  # loaded before the forks, not in each
    yield Case("prompts", "two", partial(_scheduled, "0: a\n3: b", 8), True)
    for lines in LINES:
        for frames in (1, 8):
            name = f"{lines[:30]!a} over {frames}"
            yield Case("prompts", name, partial(_scheduled, lines, frames))
    for name, value in NUMBERS.items():
        for key in ("transition", "fps"):
            run = partial(_scheduled, "0: a\n1s: b", 8, **{key: value})
            yield Case("prompts", f"{key} = {name}", run)
    states = torch.cat([PROMPT, -PROMPT])
    for what, schedule in {
        "NaN": PromptSchedule(states * float("nan"), (0.0, 0.5)),
        "of SDXL": PromptSchedule(torch.zeros(2, 77, 2048), (0.0, 0.5)),
        "no prompts": PromptSchedule(states[:0], ()),
        "no tokens": PromptSchedule(states[:, :0], (0.0, 0.5)),
        "flat": PromptSchedule(states[0], (0.0,)),
    }.items():
        yield Case("prompts", f"states {what}", partial(refused_keyframes, {}, schedule))
    for i in range(20):
        lines = "\n".join(
            f"{rng.randint(0, 9)}{rng.choice(('', 's', '.5', ' '))}{rng.choice(':;')} {word}"
            for word in rng.choices(("a", "", "b: c"), k=rng.randint(1, 4))
        )
        yield Case("prompts", f"{i} {lines!a}", partial(_scheduled, lines, 8))


def _scheduled(lines: str, frames: int, transition: float = 2, fps: float = 2.0) -> None:
    def encode(texts: list[str]) -> torch.Tensor:
        return PROMPT.repeat(len(texts), 1, 1)

    schedule = scheduled_prompts(
        "Show1PromptSchedule", lines, frames, fps, transition, encode=encode
    )
    run_keyframes({"num_frames": 4}, schedule)


def windows(rng: random.Random) -> Iterator[Case]:
    model("show-1-base")  # loaded before the forks, not in each
    yield Case("windows", "as they are", partial(run_keyframes, {"window": 2, "overlap": 1}), True)
    for name, value in NUMBERS.items():
        for key in WINDOWS:
            if isinstance(value, float) == (key == "strength"):
                change = {key: value} | ({"window": 3} if key == "overlap" else {})
                start = {"images": CLIP} if key == "strength" else {}
                yield Case("windows", f"{key} = {name}", partial(_or_large, change, **start))
    for i in range(40):
        change = {
            "num_frames": rng.randint(1, 14),
            "window": rng.randint(-2, 9),
            "overlap": rng.randint(-1, 9),
            "loop": rng.random() < 0.5,
            "drafts": rng.randint(1, 2),
        }
        yield Case("windows", f"{i} {change}", partial(_counted, change))


def _or_large(change: dict[str, Any], **more: Any) -> None:
    """A clip of a billion frames is refused; what is small enough comes back."""
    run_keyframes(change, **more)


def _counted(change: dict[str, Any]) -> None:
    s = KeyframeSettings(**(KEYFRAMES | {"steps": 1} | change))
    made = finite(keyframes(model("show-1-base"), PROMPT, -PROMPT, s))
    if len(made) != s.num_frames * s.drafts:
        raise Wrong(f"{len(made)} frames of {change}")


def rates(rng: random.Random) -> Iterator[Case]:
    model("show-1-interpolation")  # loaded before the forks, not in each
    yield Case("rates", "as they are", partial(_rate, {}, 3), True)
    for name, value in NUMBERS.items():
        yield Case("rates", f"factor = {name}", partial(_rate, {"factor": value}, 2))
    for factor in (2, 4, 8, 16):
        for frames in (1, 2, 3):
            for loop in (False, True):
                change = {"factor": factor, "loop": loop, "keep_given": rng.random() < 0.5}
                yield Case("rates", f"{frames} frames {change}", partial(_rate, change, frames))
    for name, value in NUMBERS.items():
        for key in ("fps", "target_fps"):
            yield Case("rates", f"{key} = {name}", partial(_rated, **{key: value}))
    for i in range(20):
        fps, target = rng.choice((7.0, 23.976, 25.0, 0.1)), rng.uniform(0.01, 300)
        yield Case("rates", f"{i} {fps} to {target:.2f}", partial(_rated, fps, target))


def _rate(change: dict[str, Any], frames: int) -> None:
    s = InterpolateSettings(**({"steps": 1, "cfg": 1.0} | change))
    clip = torch.rand(frames, 8, 8, 3)
    made = finite(interpolate(model("show-1-interpolation"), clip, PROMPT, -PROMPT, s))
    expected = s.factor * (frames if s.loop and frames > 1 else frames - 1) + (
        not (s.loop and frames > 1)
    )
    if len(made) != expected:
        raise Wrong(f"{len(made)} frames, expected {expected}, of {change}")


def _rated(fps: float = 24.0, target_fps: float = 60.0) -> None:
    found = rate(5, fps, target_fps)
    if not all(0 <= place <= 4 * found.factor for place in found.frames):
        raise Wrong(f"{found}")


def masks(rng: random.Random) -> Iterator[Case]:
    model("show-1-sr1"), model("show-1-sr2")
    yield Case("masks", "half", partial(_masked, torch.ones(8, 8)), True)
    bad: dict[str, Any] = {
        "NaN": torch.full((8, 8), float("nan")),
        "infinite": torch.full((8, 8), float("inf")),
        "five axes": torch.ones(1, 1, 1, 8, 8),
        "too many": torch.ones(5, 8, 8),
        "no rows": torch.ones(0, 8),
        "text": "x",
        "a list": [1],
        "empty object": {},
    }
    for stage in (_masked, _masked_expert):
        for what, mask in bad.items():
            yield Case("masks", f"{stage.__name__} {what}", partial(_refuse, stage, mask))
    fine = {
        "1e30": torch.full((8, 8), 1e30),
        "negative": torch.full((8, 8), -1.0),
        "whole numbers": torch.ones(8, 8).long(),
        "booleans": torch.ones(8, 8).bool(),
        "half": torch.ones(2, 8, 8).half(),
        "one pixel": torch.ones(1, 1),
        "large": torch.rand(2, 100, 3),
    }
    for stage in (_masked, _masked_expert):
        for what, mask in fine.items():
            yield Case("masks", f"{stage.__name__} {what}", partial(stage, mask))
    for what, images in bad_images().items():
        yield Case("masks", f"reference {what}", partial(_referenced_badly, images))
    for indices in ((0,), (1,), (-1,), (2,), (-3,)):
        yield Case("masks", f"reference at {indices}", partial(_referenced, indices))


def _refuse(stage: Callable[[Any], None], mask: Any) -> None:
    with refusing():
        stage(mask)


def _masked(mask: Any) -> None:
    s = PixelSRSettings(steps=1, cfg=1.0)
    finite(pixel_sr(model("show-1-sr1"), CLIP, PROMPT, -PROMPT, s, mask=mask))


def _masked_expert(mask: Any) -> None:
    s = LatentExpertSettings(steps=2, cfg=1.0, width=16, height=16)
    finite(latent_expert_sr(model("show-1-sr2"), CLIP, PROMPT, -PROMPT, s, mask=mask))


def _referenced(indices: tuple[int, ...]) -> None:
    s = PixelSRSettings(steps=1, cfg=1.0)
    frames = GivenFrames(torch.rand(1, 32, 32, 3), indices)
    made = finite(pixel_sr(model("show-1-sr1"), CLIP, PROMPT, -PROMPT, s, references=frames))
    if indices[0] not in (0, 1, -1):
        raise Wrong(f"a reference at {indices} of {len(made)}")


def _referenced_badly(images: Any) -> None:
    count = len(images) if hasattr(images, "__len__") else 1
    s = PixelSRSettings(steps=1, cfg=1.0)
    frames = GivenFrames(images, tuple(range(count)))
    with refusing():
        pixel_sr(model("show-1-sr1"), CLIP, PROMPT, -PROMPT, s, references=frames)


FAMILIES: dict[str, Callable[[random.Random], Iterator[Case]]] = {
    "given": given,
    "prompts": prompts,
    "windows": windows,
    "rates": rates,
    "masks": masks,
}
