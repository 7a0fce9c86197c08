"""What few steps cost: python benchmarks/students.py --runs DIR [--clips 8] [--stages ...]
[--json FILE] [--figure FILE.svg]

Every stage of the bundled cascade by its evaluations of the network a window: the teacher as it was
released, the teacher in steps of DPM-Solver++ begun where the presets begin, and students
(`train-stage --teacher`), which are trained into --runs where they are not there yet. dB to the
drawn truth; where there is none, of keyframes, to the drawing of what the recogniser saw.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import svg  # noqa: E402
from benchmarks.tradeoff import cases  # noqa: E402
from show1_engine.__main__ import main as engine  # noqa: E402
from show1_engine.bundled import SETTINGS, STAGE_SIZES, WEIGHTS  # noqa: E402
from show1_engine.evaluation.measures import psnr  # noqa: E402
from show1_engine.loading import load_model  # noqa: E402
from show1_engine.models.kinds import (  # noqa: E402
    INTERPOLATION,
    KEYFRAMES,
    LATENT_EXPERT,
    PIXEL_SR,
)
from show1_engine.runtime import PlainRuntime  # noqa: E402
from show1_engine.sampling import presets  # noqa: E402
from show1_engine.sampling.presets import Preset  # noqa: E402
from show1_micro.evaluate import Judge  # noqa: E402
from show1_micro.footage import write_footage  # noqa: E402
from show1_micro.looks import as_drawn  # noqa: E402
from show1_micro.recogniser import read_clip  # noqa: E402

RELEASED, BEGUN, STUDENT = "released", "begun later", "student"
COLOURS = {RELEASED: "#888", BEGUN: "#2a7de1", STUDENT: "#d95f02"}
NAMES = {
    KEYFRAMES: "keyframes",
    INTERPOLATION: "interpolation",
    PIXEL_SR: "pixel-sr",
    LATENT_EXPERT: "expert",
}
# Steps of each student, and of the teacher; the training's batch and steps.
STUDENTS = {
    KEYFRAMES: ((2, 4), (3, 4, 6, 8, 12, 16), 8, 100),
    INTERPOLATION: ((1, 2), (1, 2, 3, 5, 10), 8, 120),
    PIXEL_SR: ((2,), (1, 2, 3, 5, 12), 2, 120),
    LATENT_EXPERT: ((5,), (5, 10, 15, 20), 4, 120),
}
RATE = 5e-4
Row = dict[str, Any]


def student(runs: Path, kind: str, steps: int) -> Path:
    """The model folder of a student, trained if it is not there."""
    run = runs / f"{NAMES[kind]}-{steps}"
    if not (run / "ema").is_dir():
        clips = runs / "clips"
        if not clips.is_dir():
            write_footage(clips, 128)
        *_, batch, length = STUDENTS[kind]
        settings = {
            "models": WEIGHTS,
            "teacher": WEIGHTS,
            "student-steps": steps,
            "train": "all",
            "text-drop": 0,
            "teacher-cfg": 3 if kind == KEYFRAMES else 1,
            "teacher-steps": 4,
            "batch-size": batch,
            "steps": length,
            "learning-rate": RATE,
            "decay": "cosine",
            "warm-up": 20,
            "ema": 0.98,
            "sample-every": 0,
            "held-out": 0,
            "sizes": STAGE_SIZES[NAMES[kind]],
        }
        options = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
        options.append("--no-gradient-checkpointing")
        if code := engine(["train-stage", NAMES[kind], str(clips), str(run), *options]):
            raise SystemExit(code)
    (folder,) = (run / "ema").iterdir()
    return folder


def ways(kind: str, runs: Path) -> Iterator[tuple[str, int, Path | None]]:
    """(way, steps, the student's folder)."""
    few, many, *_ = STUDENTS[kind]
    yield from ((RELEASED, steps, None) for steps in many)
    if kind in (INTERPOLATION, PIXEL_SR):
        yield from ((BEGUN, steps, None) for steps in many)
    yield from ((STUDENT, steps, student(runs, kind, steps)) for steps in few)


def measured(judge: Judge, kind: str, runs: Path, count: int) -> list[Row]:
    teacher, rows = judge.models[kind], []
    for way, steps, folder in ways(kind, runs):
        own = {} if folder else {"steps": steps, "preset": "mix"}
        start = presets.FROM_CONDITION if way == BEGUN else None
        presets.PRESETS["mix"] = Preset(1.0, (0.0, 1.0), reuse=1, least=1, start=start)
        runtime = PlainRuntime("cpu", torch.float32)
        judge.models[kind] = load_model(folder, runtime) if folder else teacher
        found, right = [], 0
        for number, (scene, images, truth) in enumerate(cases(judge, kind, count)):
            made = judge.run(kind, scene, images, seed=judge.seed + number, **own)
            reading = read_clip(made)
            right += reading.matches(scene)
            found.append(psnr(made, as_drawn(made, reading) if truth is None else truth))
        rows.append(
            {
                "kind": kind,
                "way": way,
                "steps": steps,
                "evaluations a window": evaluations(kind, way, steps),
                "dB": round(sum(found) / len(found), 2),
                "right": right / len(found),
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    judge.models[kind] = teacher
    return rows


def evaluations(kind: str, way: str, steps: int) -> int:
    """Of one window: guided steps count twice, the expert's by its strength."""
    if kind == LATENT_EXPERT:
        return max(1, int(steps * SETTINGS["expert"]["strength"]))
    return steps * (2 if kind == KEYFRAMES and way != STUDENT else 1)


def figure(rows: list[Row]) -> str:
    """An SVG: dB over evaluations, a panel a stage, a line a way."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    names = ("the model as released", "begun where it is shown the picture", "a student")
    key = svg.key(dict(zip(names, COLOURS.values(), strict=True)), apart=240)
    key += '<text x="760" y="256">dB by evaluations of the network a window</text>'
    return svg.page([_panel(kind, rows) for kind in kinds], key)


def _panel(kind: str, rows: list[Row]) -> str:
    shown = [row for row in rows if row["kind"] == kind]
    most = max(row["evaluations a window"] for row in shown)
    low = int(min(row["dB"] for row in shown)) - 1
    high = int(max(row["dB"] for row in shown)) + 2

    def place(row: Row) -> tuple[float, float]:
        return across(row["evaluations a window"]), height(row["dB"])

    def across(count: int) -> float:
        return 200 * (count - 1) / max(1, most - 1)

    def height(dB: float) -> float:
        return 180 - 180 * (dB - low) / (high - low)

    marks = [svg.line(height(dB), dB) for dB in range(low, high + 1, max(1, (high - low) // 5))]
    marks += [
        svg.mark(across(count), count)
        for count in sorted({1, *(row["evaluations a window"] for row in shown)})
        if count in (1, most) or most < 8 or count % 4 == 0
    ]
    for way, colour in COLOURS.items():
        points = sorted(place(row) for row in shown if row["way"] == way)
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        marks.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
        marks += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points]
    return svg.title(kind.replace("_", " ")) + "".join(marks)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--stages", nargs="+", choices=list(STUDENTS), default=list(STUDENTS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path, metavar="SVG")
    args = parser.parse_args()
    torch.set_num_threads(1)
    judge = Judge(WEIGHTS)
    rows = [
        row for kind in args.stages for row in measured(judge, kind, args.runs, count=args.clips)
    ]
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    if args.figure:
        args.figure.write_text(figure(rows))


if __name__ == "__main__":
    main()
