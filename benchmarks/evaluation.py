"""What measuring costs: python benchmarks/evaluation.py [--clips 100 1000] [--json FILE]

Seconds of a Frechet distance from features to the number, the least of three, beside those of its
root alone by scipy's sqrtm, which the field's scripts take (OMP_NUM_THREADS=2: on two cores). Then
the peak memory of a process that computes features (lite0, drawn clips as files), after so many
clips.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SHAPES = ((2048, 400), (4096, 2048))  # clips of each kind, and features: I3D's, Inception's
REPEATS = 3
FRAMES = 2  # that the network sees of a clip
DRAWN = 10  # different clips
Row = dict[str, Any]


def distance(count: int, width: int) -> Row:
    """Of two sets of clips; and that scipy's comes to the same."""
    from scipy.linalg import sqrtm

    from show1_engine.evaluation.metrics import Moments, frechet_distance

    r = np.random.RandomState(0)
    mix = r.randn(width, width) / width**0.5
    sides = [(r.randn(count, width) @ mix + i / 10).astype(np.float32) for i in range(2)]
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        found = frechet_distance(*sides)
        seconds.append(time.perf_counter() - begin)
    a, b = (Moments.of(side) for side in sides)
    begin = time.perf_counter()
    root = sqrtm(a.covariance() @ b.covariance())
    theirs = time.perf_counter() - begin
    traces = np.trace(a.covariance()) + np.trace(b.covariance())
    wanted = np.square(a.mean - b.mean).sum() + traces - 2 * np.trace(root).real
    return {
        "clips": count,
        "features": width,
        "seconds": round(min(seconds), 3),
        "seconds of sqrtm alone": round(theirs, 3),
        "relative difference": abs(found / wanted - 1),
    }


def memory(counts: list[int]) -> list[Row]:
    """Seconds and peak of this process after so many files."""
    import torch

    from show1_engine.evaluation.choices import Sampling
    from show1_engine.evaluation.features import Job, measure
    from show1_engine.evaluation.networks import load_network
    from show1_engine.evaluation.sets import folder_clips
    from show1_micro.footage import write_footage

    torch.set_num_threads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "clips"
        write_footage(folder, DRAWN)
        for i in range(DRAWN, max(counts)):
            os.link(folder / f"{i % DRAWN:04}.mp4", folder / f"{i:04}.mp4")
        job = Job.into(
            Path(place) / "features",
            "fid_frames",
            load_network("lite0", []),
            sampling=Sampling(frames=FRAMES),
            seed=0,
        )
        begin = time.perf_counter()

        def note(done: int, total: int) -> None:
            if done in counts:
                seconds = round(time.perf_counter() - begin, 1)
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                rows.append({"clips": done, "seconds": seconds, "peak MB": round(peak, 1)})

        measure(folder_clips(folder), [job], progress=note)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        print(json.dumps(memory(args.clips)))
        return
    distances = [distance(*shape) for shape in SHAPES]
    words = [sys.executable, __file__, "--memory", "--clips", *map(str, args.clips)]
    done = subprocess.run(words, check=True, text=True, stdout=subprocess.PIPE)
    rows = json.loads(done.stdout.splitlines()[-1])
    print(table(distances), table(rows), sep="\n\n")
    if args.json:
        numbers = {"cores": os.cpu_count(), "distances": distances, "features": rows}
        args.json.write_text(json.dumps(numbers, indent=1) + "\n")


def table(rows: list[Row]) -> str:
    from show1_engine.evaluation.report import markdown_table

    return markdown_table(list(rows[0]), [list(row.values()) for row in rows])


if __name__ == "__main__":
    main()
