"""What length and control are worth on the micro cascade: clips of many windows, prompts that
change, given frames, rates, masks, references and loops, read by the recogniser.

Each trial returns numbers, JSON-ready, and its clips for a sheet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from show1_engine.bundled import SETTINGS
from show1_engine.evaluation.measures import psnr
from show1_engine.models.kinds import INTERPOLATION, KEYFRAMES, PIXEL_SR
from show1_engine.stages.given import GivenFrames
from show1_engine.stages.interpolate import InterpolateSettings, interpolate
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.stages.pixel_sr import PixelSRSettings, pixel_sr
from show1_engine.stages.prompts import PromptSchedule
from show1_engine.video import write_sheet

from .configs import FRAMES, KEYFRAME_SIZE, SR_SIZE
from .evaluate import FAR_APART, Judge, drawn
from .recogniser import read_clip
from .world import COLOURS, SHAPES, Scene, frame_times

LOOKS = ("shape", "colour", "background")
WINDOW = FRAMES
OVERLAP = 4
_HOP = WINDOW - OVERLAP
Numbers = dict[str, Any]
Progress = Callable[[str], None]


@dataclass
class Trials:
    """The judge, how many clips each trial takes, and where their sheets go (None: nowhere)."""

    judge: Judge
    clips: int
    pictures: Path | None = None
    progress: Progress = lambda text: None

    def keyframes(self, scene: Scene, seed: int, prompt: Any = None, **more: Any) -> Tensor:
        """Keyframes with the template's settings; `more`: settings, `given`, `images`."""
        positive, negative = self.judge.text("t5", scene)
        given = {key: more.pop(key) for key in ("given", "images") if key in more}
        settings = KeyframeSettings(**(SETTINGS["keyframes"] | more), seed=self.judge.seed + seed)
        model, text = self.judge.models[KEYFRAMES], positive if prompt is None else prompt
        return keyframes(model, text, negative, settings=settings, **given).clamp(0, 1)

    def each(self, name: str, seed: int, clip: Callable[[Scene, int], Tensor]) -> list[Tensor]:
        """`clip(scene, number)` of every scene of a trial; six of them make the trial's sheet."""
        made = []
        for number, scene in enumerate(self.scenes(seed)):
            made.append(clip(scene, number))
            self.progress(f"{name} {number + 1}/{self.clips}")
        if self.pictures:
            shown = [clip[:: max(1, len(clip) // 16)][:16] for clip in made[:6]]
            write_sheet(self.pictures / f"{name}.png", torch.cat(shown), columns=len(shown[0]))
        return made

    def scenes(self, seed: int) -> list[Scene]:
        return self.judge.scenes(self.clips, seed, held_out=False)


def long_clip(trials: Trials, frames: int = 64) -> Numbers:
    """A clip of many windows: what each shows, its seams, and its subject from end to end."""
    made = trials.each(
        "long",
        20,
        lambda scene, i: trials.keyframes(
            scene, i, num_frames=frames, window=WINDOW, overlap=OVERLAP
        ),
    )
    looks = [
        [read_clip(clip[at : at + WINDOW]) for at in range(0, frames - WINDOW + 1, _HOP)]
        for clip in made
    ]
    scenes = trials.scenes(20)
    right = [
        [reading.matches(scene, *LOOKS) for reading in row] for row, scene in zip(looks, scenes)
    ]
    moving = [reading.matches(scene) for row, scene in zip(looks, scenes) for reading in row]
    return {
        "clips": len(made),
        "windows": sum(map(len, looks)),
        "looks right in a window": _share([one for row in right for one in row]),
        "looks and motion right in a window": _share(moving),
        "looks kept end to end": _share([all(row) for row in right]),
        "seam": _mean([seam(clip, range(_HOP, frames, _HOP)) for clip in made]),
    }


def switch(trials: Trials, frames: int = 16) -> Numbers:
    """Another shape and colour from the middle on: each half read on its own."""

    def clip(scene: Scene, i: int) -> Tensor:
        states = [trials.judge.text("t5", one)[0] for one in (scene, another(scene))]
        prompt = PromptSchedule(torch.cat(states), (0.0, 0.5), transition=2 / (frames - 1))
        change = {"num_frames": frames, "window": WINDOW, "overlap": OVERLAP}
        return trials.keyframes(scene, i, prompt, **change)

    made, scenes = trials.each("switch", 21, clip), trials.scenes(21)
    before = [read_clip(clip[:WINDOW]) for clip in made]
    after = [read_clip(clip[-WINDOW:]) for clip in made]
    return {
        "clips": len(made),
        "first prompt in the first window": _share(
            [reading.matches(scene, *LOOKS) for reading, scene in zip(before, scenes)]
        ),
        "second prompt in the window after": _share(
            [reading.matches(another(scene), *LOOKS) for reading, scene in zip(after, scenes)]
        ),
    }


def another(scene: Scene) -> Scene:
    """The scene with the next shape and colour."""
    colours = tuple(COLOURS)
    return replace(
        scene,
        shape=SHAPES[(SHAPES.index(scene.shape) + 1) % len(SHAPES)],
        colour=colours[(colours.index(scene.colour) + 1) % len(colours)],
    )


def given_first(trials: Trials) -> Numbers:
    """Image to video: the first frame drawn, the caption naming it, or only its motion."""
    truths = [drawn(scene, frame_times(WINDOW), KEYFRAME_SIZE) for scene in trials.scenes(22)]

    def clip(scene: Scene, i: int) -> Tensor:
        return trials.keyframes(scene, i, given=GivenFrames(truths[i][:1], (0,), harmonise=2))

    def open_clip(scene: Scene, i: int) -> Tensor:
        text = trials.judge.t5.encode([f"something moving {scene.motion}"])
        given = GivenFrames(truths[i][:1], (0,), harmonise=2)
        return trials.keyframes(scene, i, text, given=given)

    named, scenes = trials.each("given-first", 22, clip), trials.scenes(22)
    unnamed = trials.each("given-first-open", 22, open_clip)
    rest = [read_clip(clip[1:]) for clip in unnamed]
    return {
        "clips": len(named),
        "exact": _share([torch.equal(clip[0], truth[0]) for clip, truth in zip(named, truths)]),
        "named: all right": _share(
            [read_clip(clip).matches(scene) for clip, scene in zip(named, scenes)]
        ),
        "not named: object as given": _share(
            [reading.matches(scene, "shape", "colour") for reading, scene in zip(rest, scenes)]
        ),
        "chance": 1 / (len(SHAPES) * len(COLOURS)),
        "not named: motion as prompted": _share(
            [reading.matches(scene, "motion") for reading, scene in zip(rest, scenes)]
        ),
    }


def continuation(trials: Trials, times: int = 3) -> Numbers:
    """A clip that goes on from its last four frames, again and again."""

    def clip(scene: Scene, i: int) -> Tensor:
        made = trials.keyframes(scene, i)
        for step in range(times):
            given = GivenFrames(made[-OVERLAP:], tuple(range(OVERLAP)), harmonise=2)
            made = torch.cat(
                [made, trials.keyframes(scene, i + 1000 * (step + 1), given=given)[OVERLAP:]]
            )
        return made

    made, scenes = trials.each("continuation", 23, clip), trials.scenes(23)
    windows = [range(at, at + WINDOW) for at in range(_HOP, len(made[0]) - WINDOW + 1, _HOP)]
    read = [[read_clip(clip[list(window)]) for window in windows] for clip in made]
    joins = range(WINDOW, WINDOW + times * _HOP, _HOP)

    def kept(step: int, *names: str) -> float:
        return _share([row[step].matches(scene, *names) for row, scene in zip(read, scenes)])

    return {
        "clips": len(made),
        "looks kept": kept(-1, *LOOKS),
        "direction kept": [kept(step, "motion") for step in range(times)],
        "seam": _mean([seam(clip, joins) for clip in made]),
    }


def in_between(trials: Trials) -> Numbers:
    """First and last frame given: both are met, and what lies between is near the truth."""
    truths = [drawn(scene, frame_times(WINDOW), KEYFRAME_SIZE) for scene in trials.scenes(24)]

    def clip(scene: Scene, i: int) -> Tensor:
        given = GivenFrames(truths[i][[0, -1]], (0, -1), harmonise=2)
        return trials.keyframes(scene, i, given=given)

    made, scenes = trials.each("in-between", 24, clip), trials.scenes(24)
    ends = [clip[[0, -1]].equal(truth[[0, -1]]) for clip, truth in zip(made, truths)]
    blended = [torch.lerp(t[:1], t[-1:], frame_times(WINDOW).view(-1, 1, 1, 1)) for t in truths]
    return {
        "clips": len(made),
        "ends exact": _share(ends),
        "all right": _share([read_clip(clip).matches(s) for clip, s in zip(made, scenes)]),
        "PSNR between": _mean([psnr(a[1:-1], b[1:-1]) for a, b in zip(made, truths)]),
        "PSNR of a blend": _mean([psnr(a[1:-1], b[1:-1]) for a, b in zip(blended, truths)]),
        "seam": _mean([seam(clip, (1, WINDOW - 1)) for clip in made]),
    }


def rates(trials: Trials) -> Numbers:
    """Every factor between two drawn keyframes far apart, against the drawn truth and linear
    blending: the frames between.
    """
    model, found = trials.judge.models[INTERPOLATION], {}
    scenes = trials.judge.scenes(trials.clips, 25, held_out=False, travel=FAR_APART)
    for factor in (2, 4, 8, 16):
        settings = InterpolateSettings(**SETTINGS["interpolate"], factor=factor, keep_given=True)
        rows = []
        for number, scene in enumerate(scenes):
            truth = drawn(scene, frame_times(factor + 1), KEYFRAME_SIZE)
            given = truth[[0, -1]]
            made = interpolate(model, given, *trials.judge.text("t5", scene), settings).clamp(0, 1)
            plain = torch.lerp(given[:1], given[1:], frame_times(factor + 1).view(-1, 1, 1, 1))
            rows.append([psnr(clip[1:-1], truth[1:-1]) for clip in (made, plain)])
            trials.progress(f"factor {factor} {number + 1}")
        ours, linear = (_mean([row[i] for row in rows]) for i in (0, 1))
        found[f"x{factor}"] = {"PSNR": ours, "linear": linear, "clips": len(rows)}
    return found


def masked(trials: Trials, soft: int = 8) -> Numbers:
    """Super-resolution of the left half, over a soft edge: the right one untouched, and the edge
    no steeper than it is without a mask.
    """
    rows = []
    for number, scene in enumerate(trials.scenes(26)[: max(2, trials.clips // 4)]):
        low = drawn(scene, frame_times(WINDOW), KEYFRAME_SIZE)
        columns = torch.arange(SR_SIZE)
        mask = ((SR_SIZE // 2 - columns) / soft).clamp(0, 1).expand(SR_SIZE, -1)
        whole, half = (upscaled(trials, scene, low, mask=m) for m in (None, mask))
        none = upscaled(trials, scene, low, mask=torch.zeros_like(mask))
        outside = half[:, :, SR_SIZE // 2 :].equal(none[:, :, SR_SIZE // 2 :])
        edge = slice(SR_SIZE // 2 - soft, SR_SIZE // 2 + 1)
        across = [float(clip[:, :, edge].diff(dim=2).abs().mean()) for clip in (half, whole)]
        rows.append((outside, across[0] / max(across[1], 1e-6)))
        trials.progress(f"mask {number + 1}")
    return {
        "clips": len(rows),
        "outside exact": _share([row[0] for row in rows]),
        "gradient at the edge, masked over whole": _mean([row[1] for row in rows]),
    }


def referenced(trials: Trials, frames: int = 22) -> Numbers:
    """A clean frame every eight against one at the beginning: PSNR of the other frames."""
    rows = []
    places = tuple(range(0, frames, WINDOW))
    others = torch.tensor([i for i in range(frames) if i not in places])
    for number, scene in enumerate(trials.scenes(27)[: max(2, trials.clips // 4)]):
        low, truth = (drawn(scene, frame_times(frames), size) for size in (KEYFRAME_SIZE, SR_SIZE))
        row = []
        for known in ((0,), places):
            given = GivenFrames(truth[list(known)], known)
            made = upscaled(trials, scene, low, references=given)
            row.append(psnr(made[others], truth[others]))
        rows.append(row)
        trials.progress(f"references {number + 1}")
    return {
        "clips": len(rows),
        "PSNR, frame 0 alone": _mean([row[0] for row in rows]),
        "PSNR, every eighth": _mean([row[1] for row in rows]),
    }


def upscaled(trials: Trials, scene: Scene, low: Tensor, **more: Any) -> Tensor:
    settings = PixelSRSettings(**SETTINGS["pixel_sr"], seed=trials.judge.seed)
    text = trials.judge.text("t5", scene)
    return pixel_sr(trials.judge.models[PIXEL_SR], low, *text, settings, **more).clamp(0, 1)


def loops(trials: Trials, frames: int = 16) -> Numbers:
    """Windows that wrap round: the last frame against the first as neighbours inside differ."""
    made = trials.each(
        "loop",
        28,
        lambda scene, i: trials.keyframes(
            scene, i, num_frames=frames, window=WINDOW, overlap=OVERLAP, loop=True
        ),
    )
    rolled = [torch.cat([clip, clip[:1]]) for clip in made]
    readings = [read_clip(clip[:WINDOW]) for clip in made]
    return {
        "clips": len(made),
        "seam": _mean([seam(clip, (frames,)) for clip in rolled]),
        "looks right": _share(
            [one.matches(scene, *LOOKS) for one, scene in zip(readings, trials.scenes(28))]
        ),
    }


def seam(clip: Tensor, joins: Any) -> float:
    """Mean difference from the frame before at some frames, over that at all others."""
    steps = (clip[1:] - clip[:-1]).abs().mean((1, 2, 3))
    at = torch.zeros(len(steps), dtype=torch.bool)
    at[[join - 1 for join in joins]] = True
    return float(steps[at].mean() / steps[~at].mean())


def _share(rights: list[bool]) -> float:
    return sum(map(bool, rights)) / len(rights)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


TRIALS: dict[str, Callable[[Trials], Numbers]] = {
    "long": long_clip,
    "switch": switch,
    "given": given_first,
    "continuation": continuation,
    "in-between": in_between,
    "rates": rates,
    "mask": masked,
    "references": referenced,
    "loop": loops,
}
