"""What fewer steps, kept features and less guidance cost and save: python benchmarks/tradeoff.py
[--clips 8] [--stages ...] [--json FILE] [--figure FILE.svg]

Every stage of the bundled cascade on scenes that no training saw, by every mix. Seconds are CPU
seconds over those of the reference preset; dB are of its frames to the reference run's, and to the
drawn truth; `right` is the share of clips that the recogniser reads as asked for.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import svg  # noqa: E402
from show1_engine.bundled import WEIGHTS  # noqa: E402
from show1_engine.evaluation.measures import psnr  # noqa: E402
from show1_engine.models.kinds import (  # noqa: E402
    INTERPOLATION,
    KEYFRAMES,
    LATENT_EXPERT,
    PIXEL_SR,
)
from show1_engine.sampling import presets  # noqa: E402
from show1_engine.sampling.presets import Preset  # noqa: E402
from show1_micro.configs import FRAMES, KEYFRAME_SIZE, SR_SIZE  # noqa: E402
from show1_micro.evaluate import FAR_APART, SPOIL, Judge, drawn  # noqa: E402
from show1_micro.recogniser import read_clip  # noqa: E402
from show1_micro.world import Scene, frame_times  # noqa: E402

SHARES = (1.0, 0.75, 0.5, 0.375, 0.3, 0.25, 0.17)
REUSES = (1, 2, 3)
COLOURS = ("#888", "#2a7de1", "#d95f02")
GUIDED = {KEYFRAMES: (1.0, 0.8, 0.6, 0.45)}  # the other stages' templates are not guided
STARTS = {kind: (None, presets.FROM_CONDITION) for kind in (INTERPOLATION, PIXEL_SR)}
REFERENCE = Preset(1.0, (0.0, 1.0), "default")
Row = dict[str, Any]


def mixes(kind: str) -> Iterator[Preset]:
    yield REFERENCE
    ends, starts = GUIDED.get(kind, (1.0,)), STARTS.get(kind, (None,))
    choices = SHARES, REUSES, ends, starts
    for steps, reuse, end, start in itertools.product(*choices):
        yield Preset(steps, (0.0, end), reuse=reuse, least=1, start=start)


def cases(judge: Judge, kind: str, count: int) -> list[tuple[Scene, Tensor | None, Tensor | None]]:
    """Scenes with what a stage is given of them, and what it should make of that."""
    if kind == KEYFRAMES:
        return [(scene, None, None) for scene in judge.scenes(count, 31)]
    if kind == INTERPOLATION:
        scenes = judge.scenes(count, 32, travel=FAR_APART)
        truths = [drawn(scene, frame_times(5), KEYFRAME_SIZE) for scene in scenes]
        return [(scene, truth[[0, -1]], truth) for scene, truth in zip(scenes, truths)]
    scenes, times = judge.scenes(count, 33), frame_times(FRAMES) * 0.25
    truths = [drawn(scene, times, SR_SIZE) for scene in scenes]
    if kind == PIXEL_SR:
        given = [drawn(scene, times, KEYFRAME_SIZE) for scene in scenes]
    else:
        noise = torch.Generator().manual_seed(judge.seed)
        given = [SPOIL["noise"](truth, noise) for truth in truths]
    return list(zip(scenes, given, truths))


def measured(judge: Judge, kind: str, count: int) -> list[Row]:
    """Every mix on every case, in turns."""
    found = cases(judge, kind, count)
    seconds: dict[Preset, float] = {}
    clips: dict[Preset, list[Tensor]] = {}
    for number, (scene, images, _) in enumerate(found):
        for mix in mixes(kind):
            presets.PRESETS["mix"] = mix
            start = time.process_time()
            made = judge.run(kind, scene, images, seed=judge.seed + number, preset="mix")
            seconds[mix] = seconds.get(mix, 0.0) + time.process_time() - start
            clips.setdefault(mix, []).append(made)
        print(f"{kind} {number + 1}/{count}", file=sys.stderr, flush=True)
    return [
        {
            "kind": kind,
            "steps": mix.steps,
            "reuse": mix.reuse,
            "guided": mix.guided[1],
            "start": mix.start,
            "times as fast": seconds[REFERENCE] / seconds[mix],
            "dB to the reference run": _mean_psnr(made, clips[REFERENCE]),
            "dB to the truth": _mean_psnr(made, [truth for *_, truth in found]),
            "right": sum(read_clip(clip).matches(scene) for clip, (scene, *_) in zip(made, found))
            / len(made),
        }
        for mix, made in clips.items()
    ]


def _mean_psnr(clips: list[Tensor], others: list[Tensor | None]) -> float | None:
    if others[0] is None:
        return None
    values = [min(psnr(a, b), 99.0) for a, b in zip(clips, others)]
    return sum(values) / len(values)


def best(rows: list[Row]) -> list[Row]:
    """Those that none is both faster and nearer than, the slowest first."""
    found: list[Row] = []
    for row in sorted(rows, key=lambda row: -row["times as fast"]):
        if not found or row["dB to the reference run"] > found[-1]["dB to the reference run"]:
            found.append(row)
    return found[::-1]


def figure(rows: list[Row]) -> str:
    """An SVG: for every stage, how near each mix stays to the reference run at which speed."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    names = ("fewer steps alone", "reuse 2", "reuse 3")
    key = svg.key(dict(zip(names, COLOURS, strict=True)), apart=190) + (
        '<circle cx="640" cy="252" r="4" stroke="#444" fill="#fff"/>'
        '<text x="650" y="256">begun where the condition shows the picture</text>'
    )
    return svg.page([_panel(kind, rows) for kind in kinds], key)


def _panel(kind: str, rows: list[Row]) -> str:
    told = "dB to the truth" if kind in STARTS else "dB to the reference run"
    shown = [row for row in rows if row["kind"] == kind and row[told] < 99]
    most = max(row["times as fast"] for row in shown)
    low, high, step = (14, 32, 4) if kind in STARTS else (15, 60, 10)

    def height(dB: float) -> float:
        return 180 - 180 * (min(dB, high) - low) / (high - low)

    def place(row: Row) -> tuple[float, float]:
        across = 200 * (row["times as fast"] - 1) / (most - 1)
        return max(0.0, across), height(row[told])

    marks = [svg.line(height(dB), dB) for dB in range(low + step - low % step, high + 1, step)]
    marks += [
        svg.mark(200 * (times - 1) / (most - 1), f"{times}x") for times in range(1, int(most) + 1)
    ]
    marks += [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" stroke="{colour}" '
        f'fill="{colour if row["start"] is None else "#fff"}"/>'
        for row in shown
        for x, y in [place(row)]
        for colour in [COLOURS[row["reuse"] - 1]]
    ]
    return svg.title(f"{kind}, {told}") + "".join(marks)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stages = (KEYFRAMES, INTERPOLATION, PIXEL_SR, LATENT_EXPERT)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--stages", nargs="+", choices=stages, default=stages)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path, metavar="SVG")
    args = parser.parse_args()
    torch.set_num_threads(1)
    judge = Judge(WEIGHTS)
    rows = [row for kind in args.stages for row in measured(judge, kind, args.clips)]
    for kind in args.stages:
        print(
            f"\n{kind}\n| steps | reuse | guided | as fast | dB to reference | to truth | right |"
        )
        print("|---|---|---|---|---|---|---|")
        for row in best([row for row in rows if row["kind"] == kind]):
            truth = row["dB to the truth"]
            print(
                f"| {row['steps']:g} | {row['reuse']} | {row['guided']:g} | "
                f"{row['times as fast']:.2f} | {row['dB to the reference run']:.1f} | "
                f"{'' if truth is None else f'{truth:.1f}'} | {row['right']:.0%} |"
            )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    if args.figure:
        args.figure.write_text(figure(rows))


if __name__ == "__main__":
    main()
