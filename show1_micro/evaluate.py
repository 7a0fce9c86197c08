"""Judges the micro cascade with the real stages: prompts to clips to words, and pictures against
the drawn truth.

Two kinds of numbers. `cascade`: captions of unseen scenes run through the stages, read by the
recogniser and looked at after each (`looks`: the median and the 5 % worst clip). `truth`: each
stage but the first on drawn input, compared with the drawn result (PSNR in dB, SSIM), beside the
plain method it should beat: linear blending, bicubic enlargement, the spoiled input itself.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from show1_engine.checkpoints.find import cascade_in, missing_model
from show1_engine.evaluation.measures import psnr, ssim
from show1_engine.evaluation.report import markdown_table
from show1_engine.loading import load_model, load_text_encoder
from show1_engine.models.bundle import Show1Model
from show1_engine.models.kinds import INTERPOLATION, KEYFRAMES, LATENT_EXPERT, PIXEL_SR
from show1_engine.runtime import PlainRuntime
from show1_engine.stages.interpolate import InterpolateSettings, interpolate
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.stages.latent_expert_sr import LatentExpertSettings, latent_expert_sr
from show1_engine.stages.pixel_sr import PixelSRSettings, pixel_sr

from .configs import FRAMES
from .editions import EDITIONS, Edition, Size
from .looks import Looks, as_drawn, look_at, summary
from .measured import MeasuredRun
from .preview import save_picture
from .recogniser import ATTRIBUTES, Reading, accuracy
from .world import Scene, frame_times, render

STAGES = (KEYFRAMES, INTERPOLATION, PIXEL_SR, LATENT_EXPERT)
_NEGATIVE = {"t5": "", "clip": "low resolution, blur"}
_TEXTURED = (*ATTRIBUTES, "texture")
FAR_APART = (0.32, 0.60)  # travel between two keyframes that is more than half a shape's width
Progress = Callable[[str], None]


class Judge:
    """The cascade's models and text encoders, with each stage's time and memory.

    `template`: judge with the changes that the template makes to the bundled settings. `edition`:
    which world and sizes the models were trained on.
    """

    def __init__(
        self, folder: Path, seed: int = 1_000_000, template: bool = False, *, edition: int = 1
    ):
        self.seed, self.world = seed, EDITIONS[edition]
        changes = self.world.bundle.template if template else {}
        self.settings = {
            field: {**settings, **changes.get(field, {})}
            for field, settings in self.world.bundle.settings.items()
        }
        runtime = PlainRuntime("cpu", torch.float32)
        paths = cascade_in(folder)
        self.models: dict[str, Show1Model] = {
            kind: load_model(path, runtime) for kind, path in paths.items()
        }
        self.t5 = load_text_encoder(paths[KEYFRAMES], runtime)
        self.clip = load_text_encoder(paths[LATENT_EXPERT], runtime)
        self.costs: dict[str, list[float]] = {stage: [] for stage in STAGES}
        self.memory: dict[str, float] = {}

    def scenes(self, count: int, seed: int, **kwargs: Any) -> list[Scene]:
        """Scenes of seeds that training never draws from."""
        generator = torch.Generator().manual_seed(self.seed + seed)
        return [self.world.draw(generator, **kwargs) for _ in range(count)]

    def drawn(self, scene: Scene, times: Tensor, size: Size) -> Tensor:
        """The scene as it should look, (F, H, W, 3) in [0, 1]."""
        return self.world.render([scene], times, *size)[0]

    def text(self, family: str, scene: Scene) -> tuple[Tensor, Tensor]:
        """Positive and negative text states of a scene's caption."""
        encoder = self.t5 if family == "t5" else self.clip
        states = encoder.encode([scene.caption(), _NEGATIVE[family]])
        return states[:1], states[1:]

    def run(
        self, stage: str, scene: Scene, images: Tensor | None, seed: int, **changes: Any
    ) -> Tensor:
        """One stage with its settings, timed."""
        with self._timed(stage):
            return _RUN[stage](self, scene, images, seed=seed, changes=changes)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.costs[stage].append(time.perf_counter() - start)
        self.memory[stage] = max(self.memory.get(stage, 0.0), peak_memory())


def _keyframes(
    judge: Judge, scene: Scene, images: Tensor | None, seed: int, changes: dict[str, Any]
) -> Tensor:
    settings = KeyframeSettings(**{**judge.settings["keyframes"], **changes}, seed=seed)
    return keyframes(judge.models[KEYFRAMES], *judge.text("t5", scene), settings).clamp(0, 1)


def _interpolate(
    judge: Judge, scene: Scene, images: Tensor, seed: int, changes: dict[str, Any]
) -> Tensor:
    settings = InterpolateSettings(**{**judge.settings["interpolate"], **changes}, seed=seed)
    return interpolate(
        judge.models[INTERPOLATION], images, *judge.text("t5", scene), settings
    ).clamp(0, 1)


def _pixel_sr(
    judge: Judge, scene: Scene, images: Tensor, seed: int, changes: dict[str, Any]
) -> Tensor:
    settings = PixelSRSettings(**{**judge.settings["pixel_sr"], **changes}, seed=seed)
    return pixel_sr(judge.models[PIXEL_SR], images, *judge.text("t5", scene), settings).clamp(0, 1)


def _expert(
    judge: Judge, scene: Scene, images: Tensor, seed: int, changes: dict[str, Any]
) -> Tensor:
    settings = LatentExpertSettings(**{**judge.settings["expert"], **changes}, seed=seed)
    return latent_expert_sr(
        judge.models[LATENT_EXPERT], images, *judge.text("clip", scene), settings
    ).clamp(0, 1)


_RUN = {
    KEYFRAMES: _keyframes,
    INTERPOLATION: _interpolate,
    PIXEL_SR: _pixel_sr,
    LATENT_EXPERT: _expert,
}


def evaluate(
    folder: Path,
    clips: int = 128,
    progress: Progress = lambda text: None,
    stages: tuple[str, ...] = STAGES,
    *,
    slow: int | None = None,
    run: Path | None = None,
    network: str = "",
    alone: bool = True,
    picture: Path | None = None,
    edition: int = 1,
) -> dict[str, Any]:
    """All measurements of the cascade in `folder`.

    Keyframes and interpolation are judged on `clips` captions, the two slow stages on `slow` (an
    eighth) of them; a quarter of `clips` more are of colour, shape and motion combinations that
    training never showed. `run`: a folder to keep those clips in that go through all stages, with a
    report and its page; `network`: whose features are compared there with those of the drawn truth.
    `alone`: judge unseen combinations, and each stage on drawn input, too. `picture`: a PNG of each
    stage's clip of median and of worst outline, in this order.

    Returns:
        {"keyframes": {...}, "interpolation": {...}, ...}: numbers, each with its count `n`;
        JSON-ready.
    """
    judge = Judge(Path(folder), template=True, edition=edition)
    for stage in stages:
        if stage not in judge.models:
            raise missing_model(folder, stage)
    slow = max(2, clips // 8) if slow is None else min(slow, clips)
    results: dict[str, Any] = {"settings": judge.settings}
    if KEYFRAMES in stages:
        scenes = judge.scenes(clips, 0)
        last = stages[-1]
        kept = _run(judge, scenes[:slow], run, last=last, network=network) if run else None
        results |= _cascade(
            judge, scenes, slow, progress=progress, stages=stages, run=kept, picture=picture
        )
    if KEYFRAMES in stages and alone:
        results["keyframes"]["unseen"] = _keyframe_accuracy(
            judge, max(2, clips // 4), True, progress=progress
        )
    truths = {
        INTERPOLATION: (_interpolation_truth, clips),
        PIXEL_SR: (_pixel_sr_truth, slow),
        LATENT_EXPERT: (_expert_truth, slow),
    }
    for stage, (truth, count) in truths.items():
        if stage in stages and alone:
            results.setdefault(stage, {})["truth"] = truth(judge, count, progress)
    costs = {
        stage: round(sum(times) / len(times), 2) for stage, times in judge.costs.items() if times
    }
    results["seconds a call"], results["peak MB so far"] = costs, judge.memory
    return results


def _run(
    judge: Judge, scenes: list[Scene], folder: Path, *, last: str, network: str
) -> MeasuredRun:
    """Keeps those clips that go through all stages: equally many of each."""
    seeds = [judge.seed + index for index in range(len(scenes))]
    return MeasuredRun(folder, scenes, seeds, last=last, network=network, world=judge.world)


def _cascade(
    judge: Judge,
    scenes: list[Scene],
    slow: int,
    progress: Progress,
    stages: tuple[str, ...],
    *,
    run: MeasuredRun | None,
    picture: Path | None,
) -> dict[str, Any]:
    """Accuracy and looks after each stage, every stage fed by the one before it."""
    readings: dict[str, list[Reading]] = {stage: [] for stage in stages}
    looks: dict[str, list[tuple[Looks, Tensor]]] = {stage: [] for stage in stages}
    refined: list[list[float]] = []
    for index, scene in enumerate(scenes):
        images = None
        for stage in stages:
            if stage in (PIXEL_SR, LATENT_EXPERT) and index >= slow:
                break
            before, images = images, judge.run(stage, scene, images, seed=judge.seed + index)
            if before is not None and before.shape == images.shape:  # the expert's alone
                refined.append(_refined(before, images, judge.world))
            readings[stage].append(judge.world.read(images))
            seen = look_at(images, readings[stage][-1], judge.world)
            looks[stage].append((seen, _strip(images, judge.world.large)))
            if run is not None and index < slow:
                run.add(stage, index, images)
        progress(f"cascade {index + 1}/{len(scenes)}")
    if run is not None:
        run.finish({stage: found[:slow] for stage, found in readings.items()})
    if picture is not None:
        _show_typical(looks, picture)
    results = {
        stage: _shares(
            found, scenes, _TEXTURED if stage in (PIXEL_SR, LATENT_EXPERT) else ATTRIBUTES
        )
        | {"looks": summary([one for one, _ in looks[stage]])}
        for stage, found in readings.items()
    }
    if refined:
        results[LATENT_EXPERT]["refined"] = _means(refined, "psnr", "input psnr", "closer")
    return results


def _refined(before: Tensor, after: Tensor, world: Edition) -> list[float]:
    """PSNR of the expert's result and of its input from the drawing of what the input shows, and
    whether the result is closer. Places and size are fitted to the input, which favours that.
    """
    truth = as_drawn(before, world=world)
    found = psnr(after, truth), psnr(before, truth)
    return [*found, found[0] > found[1]]


def _strip(images: Tensor, size: Size) -> Tensor:
    """Five frames of a clip beside each other, at the size of the last stage."""
    chosen = images[torch.linspace(0, len(images) - 1, 5).round().long()]
    return torch.cat(list(resized(chosen, size, "nearest")), dim=1)


def _show_typical(looks: dict[str, list[tuple[Looks, Tensor]]], picture: Path) -> None:
    """A row of each stage's clip of median outline, and one of its worst."""
    rows = []
    for found in looks.values():
        ordered = sorted(found, key=lambda one: one[0].outline)
        rows += [ordered[len(ordered) // 2][1], ordered[0][1]]
    save_picture(picture, torch.cat(rows), scale=2 if len(rows[0]) < 96 else 1)


def _keyframe_accuracy(
    judge: Judge, count: int, held_out: bool, progress: Progress
) -> dict[str, float]:
    scenes = judge.scenes(count, 1, held_out=held_out)
    readings = []
    for index, scene in enumerate(scenes):
        readings.append(
            judge.world.read(judge.run(KEYFRAMES, scene, None, seed=judge.seed + 5000 + index))
        )
        progress(f"unseen combinations {index + 1}/{count}")
    return _shares(readings, scenes, ATTRIBUTES)


def _shares(
    readings: list[Reading], scenes: list[Scene], names: tuple[str, ...]
) -> dict[str, float]:
    scenes = scenes[: len(readings)]
    shares = accuracy(readings, scenes, names)
    if "texture" in names:
        shares["all but texture"] = accuracy(readings, scenes)["all"]
    return {**{name: round(share, 4) for name, share in shares.items()}, "n": len(readings)}


def _interpolation_truth(judge: Judge, count: int, progress: Progress) -> dict[str, float]:
    """The three frames between two drawn keyframes more than half a shape apart, against linear
    blending.
    """
    rows = []
    scenes, times = _far_apart(judge, count)
    for index, scene in enumerate(scenes):
        truth = judge.drawn(scene, times, judge.world.keyframe)
        made = judge.run(INTERPOLATION, scene, truth[[0, -1]], seed=judge.seed + index)
        share = torch.linspace(0, 1, 5).view(-1, 1, 1, 1)
        linear = truth[:1] * (1 - share) + truth[-1:] * share
        kept = judge.world.read(made).motion == scene.motion
        rows.append([*_both(made[1:4], truth[1:4]), *_both(linear[1:4], truth[1:4]), kept])
        progress(f"interpolation {index + 1}/{count}")
    return _means(rows, "psnr", "ssim", "linear psnr", "linear ssim", "motion kept")


def _far_apart(judge: Judge, count: int) -> tuple[list[Scene], Tensor]:
    """Scenes and the times of five frames between which they move more than half a shape."""
    if judge.world is EDITIONS[1]:
        return judge.scenes(count, 2, travel=FAR_APART), frame_times(5)
    straight = (scene for scene in judge.scenes(4 * count, 2) if scene.motion != "jumping")
    return list(straight)[:count], 0.1 + 0.8 * frame_times(5)


def _pixel_sr_truth(judge: Judge, count: int, progress: Progress) -> dict[str, float]:
    """A window of eight drawn frames enlarged, against bicubic; and how often the texture word was
    obeyed.
    """
    rows = []
    for index, scene in enumerate(judge.scenes(count, 3)):
        times = frame_times(FRAMES) * 0.25
        world = judge.world
        truth, low = (judge.drawn(scene, times, size) for size in (world.large, world.keyframe))
        made = judge.run(PIXEL_SR, scene, low, seed=judge.seed + index)
        obeyed = world.read(made).texture == scene.texture
        rows.append([*_both(made, truth), *_both(resized(low, world.large), truth), obeyed])
        progress(f"pixel SR {index + 1}/{count}")
    return _means(rows, "psnr", "ssim", "bicubic psnr", "bicubic ssim", "texture obeyed")


def _expert_truth(judge: Judge, count: int, progress: Progress) -> dict[str, Any]:
    """Windows of eight drawn frames spoiled in three ways: how often the expert's result is closer
    to the truth.
    """
    rows: dict[str, list[list[float]]] = {name: [] for name in SPOIL}
    for index, scene in enumerate(judge.scenes(count, 4)):
        truth = judge.drawn(scene, frame_times(FRAMES) * 0.25, judge.world.large)
        for name, spoil in SPOIL.items():
            bad = spoil(truth, torch.Generator().manual_seed(judge.seed + index))
            made = judge.run(LATENT_EXPERT, scene, bad, seed=judge.seed + index)
            good, before = _both(made, truth), _both(bad, truth)
            rows[name].append([*good, *before, good[0] > before[0]])
        progress(f"expert {index + 1}/{count}")
    return {
        name: _means(found, "psnr", "ssim", "input psnr", "input ssim", "closer")
        for name, found in rows.items()
    }


def _noise(images: Tensor, generator: torch.Generator) -> Tensor:
    return (images + 0.15 * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def _blocks(images: Tensor, generator: torch.Generator) -> Tensor:
    return resized(_quarter(images), images.shape[1:3], "nearest")


def _blur(images: Tensor, generator: torch.Generator) -> Tensor:
    return resized(_quarter(images), images.shape[1:3], "bilinear")


def _quarter(images: Tensor) -> Tensor:
    height, width = images.shape[1:3]
    return resized(images, (height // 4, width // 4), "area")


SPOIL = {"noise": _noise, "blocks": _blocks, "blur": _blur}


def drawn(scene: Scene, times: Tensor, size: int) -> Tensor:
    """The first edition's scene as it should look, (F, H, W, 3) in [0, 1]."""
    return render([scene], times, size, width=size)[0]


def resized(images: Tensor, size: int | Size, mode: str = "bicubic") -> Tensor:
    """Frames (F, H, W, C) at another size, a square's side or height and width, clamped to
    [0, 1].
    """
    return F.interpolate(images.movedim(-1, 1), size=size, mode=mode).movedim(1, -1).clamp(0, 1)


def _both(images: Tensor, truth: Tensor) -> tuple[float, float]:
    return psnr(images, truth), ssim(images, truth)


def _means(rows: list[list[float]], *names: str) -> dict[str, float]:
    means = [round(sum(map(float, column)) / len(rows), 4) for column in zip(*rows, strict=True)]
    return {**dict(zip(names, means, strict=True)), "n": len(rows)}


def peak_memory() -> float:
    """Largest resident memory of this process so far, in MB."""
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale, 1)


def table(results: dict[str, Any]) -> str:
    """The results as tables to read, one for each stage."""
    parts: list[str] = []

    def walk(value: dict[str, Any], path: str) -> None:
        flat = {key: item for key, item in value.items() if not isinstance(item, dict)}
        if flat:
            parts.append(f"{path}\n" + markdown_table(list(flat), [list(flat.values())]))
        for key, item in value.items():
            if isinstance(item, dict):
                walk(item, f"{path} {key}".strip())

    walk({key: value for key, value in results.items() if key != "settings"}, "")
    return "\n\n".join(parts)
