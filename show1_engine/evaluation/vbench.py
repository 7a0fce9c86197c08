"""VBench: names, dimensions, totals. It runs in an environment of its own; files are shared."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, printable

_INDEX = re.compile(r"-\d+$")  # what VBench takes off a stem to get the prompt
_FORBIDDEN = re.compile(r'[/\\:*?"<>|\0]')


@dataclass(frozen=True)
class Dimension:
    """Range that a score is normalised by, weight, and which of the two totals it is part of."""

    low: float
    high: float
    quality: bool
    weight: float = 1.0


DIMENSIONS = {  # scripts/constant.py of VBench 45e79ec
    "subject_consistency": Dimension(0.1462, 1.0, quality=True),
    "background_consistency": Dimension(0.2615, 1.0, quality=True),
    "temporal_flickering": Dimension(0.6293, 1.0, quality=True),
    "motion_smoothness": Dimension(0.706, 0.9975, quality=True),
    "dynamic_degree": Dimension(0.0, 1.0, quality=True, weight=0.5),
    "aesthetic_quality": Dimension(0.0, 1.0, quality=True),
    "imaging_quality": Dimension(0.0, 1.0, quality=True),
    "object_class": Dimension(0.0, 1.0, quality=False),
    "multiple_objects": Dimension(0.0, 1.0, quality=False),
    "human_action": Dimension(0.0, 1.0, quality=False),
    "color": Dimension(0.0, 1.0, quality=False),
    "spatial_relationship": Dimension(0.0, 1.0, quality=False),
    "scene": Dimension(0.0, 0.8222, quality=False),
    "appearance_style": Dimension(0.0009, 0.2855, quality=False),
    "temporal_style": Dimension(0.0, 0.364, quality=False),
    "overall_consistency": Dimension(0.0, 0.364, quality=False),
}
PAPER = dict(  # table 3, in percent
    zip(
        DIMENSIONS,
        (95.53, 98.02, 99.12, 98.24, 44.44, 57.35, 59.75, 93.07)
        + (45.47, 95.60, 86.35, 53.5, 47.03, 23.06, 25.28, 27.46),
        strict=True,
    )
)
_QUALITY_WEIGHT = 4


def video_name(prompt: str, index: int) -> str:
    """The file name that VBench looks for; every character must match."""
    if _FORBIDDEN.search(prompt) or not prompt.strip():
        raise InputError(f"{prompt!r} cannot be a file name, and VBench wants it to be one")
    return f"{prompt}-{index}.mp4"


def prompt_of(name: str) -> str:
    """The prompt that VBench reads out of a file name."""
    return _INDEX.sub("", name.removesuffix(".mp4"))


def prompts_in(file: Path) -> dict[str, set[str]]:
    """Distinct prompts of VBench_full_info.json, in its order, with their dimensions."""
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        found: dict[str, set[str]] = {}
        for entry in entries:
            found.setdefault(entry["prompt_en"], set()).update(entry["dimension"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"'{file}' is no VBench_full_info.json: {printable(error, 200)}; it lies in VBench's "
            "repository and package"
        ) from error
    return found


def totals(scores: Mapping[str, float]) -> dict[str, float]:
    """Quality, semantic and total score in percent, from scores of all 16 dimensions in [0, 1].

    NaN where a dimension of that total was not measured.
    """

    def mean(quality: bool) -> float:
        rows = [(name, d) for name, d in DIMENSIONS.items() if d.quality == quality]
        if any(name not in scores for name, _ in rows):
            return math.nan
        weights = sum(d.weight for _, d in rows)
        parts = [d.weight * (scores[name] - d.low) / (d.high - d.low) for name, d in rows]
        return 100 * sum(parts) / weights

    quality, semantic = mean(True), mean(False)
    whole = (_QUALITY_WEIGHT * quality + semantic) / (_QUALITY_WEIGHT + 1)
    return {"quality": quality, "semantic": semantic, "total": whole}


def lay_out(clips: Mapping[str, Path], folder: Path) -> int:
    """Every clip in one folder under VBench's name for it, linked where the disk can; their number.

    clips: VBench's name -> file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = {path.name for path in folder.iterdir()}
    for name, path in clips.items():
        if name in there:
            continue
        if (folder / name).exists():  # in other letters
            raise InputError(
                f"'{name}' has a namesake in '{folder}' that differs by upper and lower case only: "
                "take a disk that tells them apart"
            )
        partial = folder / f".{len(there)}.part"
        try:
            os.link(path, partial)
        except OSError:
            shutil.copyfile(path, partial)
        partial.replace(folder / name)
    return len(clips)


def script(python: str, videos: Path, info: Path, results: Path) -> str:
    """Shell lines that run VBench dimension by dimension; a finished one is not run again.

    This pack starts no programs, so they are written to be run by hand, or by a queue. Of the 25
    videos for temporal flickering VBench's own filter first takes the static ones.
    """
    lines = ["#!/bin/sh", "set -e", f"mkdir -p {shlex.quote(str(results))}"]
    filtered = results / "static"
    start = [python, "-c", "from vbench.cli.vbench import main; main()", "static_filter"]
    start += ["--videos_path", str(videos), "--result_path", str(filtered)]
    lines.append(_once(results / "static.done", start))
    for name in DIMENSIONS:
        source = filtered / "filtered_videos" if name == "temporal_flickering" else videos
        call = [python, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
        call += ["-m", "vbench.launch.evaluate", "--dimension", name]
        call += ["--videos_path", str(source), "--full_json_dir", str(info)]
        call += ["--output_path", str(results / name)]
        lines.append(_once(results / f"{name}.done", call))
    return "\n".join(lines) + "\n"


def _once(mark: Path, call: list[str]) -> str:
    """A line that runs a command unless its mark is there, and leaves the mark."""
    done = shlex.quote(str(mark))
    return f"[ -e {done} ] || {{ {shlex.join(call)} && touch {done}; }}"


def read_results(folder: Path) -> dict[str, float]:
    """Scores by dimension from all `*_eval_results.json` below a folder."""
    scores: dict[str, float] = {}
    for path in sorted(folder.rglob("*eval_results.json")):
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            scores |= {name: float(value[0]) for name, value in found.items() if name in DIMENSIONS}
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise InputError(f"'{path}' is no result of VBench: {error}") from error
    return scores
