"""What it takes until a model is ready: python benchmarks/loading.py [--repeats 5] [--json FILE]

A keyframe model of the published size, of random weights in half precision (3.5 GB), is written to
a temporary folder and read once, so that it lies in the system's cache. Then it is loaded in turns,
each time in a process of its own, in which everything is imported before the clock starts: by
safetensors alone, which only maps the file, with every value looked at, with every value cast; and
by the engine, kept in half precision and cast to float32. Peaks are those of the resident memory,
of which pages of the file are a part; seconds are the processor's, of one thread.

At last `generate` makes two small frames with that keyframe model and, to compare, goes on to an
interpolation model of the same size: the first is gone before the second one comes.
"""

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

LOAD = "load_file"
READ = "load_file, every value looked at"
CAST = "load_file, cast to float32"
HALF = "ready in half precision"
FLOAT = "ready in float32"
WAYS = (LOAD, READ, CAST, HALF, FLOAT)
BESIDE = {HALF: READ, FLOAT: CAST}  # what the same work costs without an engine
STAGES = ("keyframes", "interpolation")
_STEM = "diffusion_pytorch_model.safetensors"
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.one:
        print(json.dumps(one(args.one[0], Path(args.one[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = measured(Path(folder), args.repeats)
    print(table(results))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


def measured(folder: Path, repeats: int) -> dict[str, Any]:
    """Every way of loading in turns, then both runs of `generate`."""
    write_models(folder)
    file = folder / "show-1-base" / "unet" / _STEM
    rows = {way: [] for way in WAYS}
    for turn in range(repeats):
        for way in WAYS:
            print(f"turn {turn + 1} of {repeats}: {way}", file=sys.stderr, flush=True)
            rows[way].append(in_a_process(way, folder))
    return {
        "machine": f"{platform.machine()}, {torch.__version__}, one thread",
        "file": file.stat().st_size,
        "ways": {way: middle(found) for way, found in rows.items()},
        "generate": {stage: in_a_process(stage, folder) for stage in STAGES},
    }


def middle(rows: list[Row]) -> Row:
    """The median of each number, of the peak the highest; every turn's seconds."""
    found = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    found["peak"] = max(row["peak"] for row in rows)
    return {**found, "turns": [row["seconds"] for row in rows]}


def table(results: dict[str, Any]) -> str:
    """What is printed, with ratios to the plain way and to the file."""
    ways, size = results["ways"], results["file"]
    lines = [
        "| | CPU seconds | beside the plain way | wall | peak GB | x the file |",
        "|---|---|---|---|---|---|",
    ]
    for way, row in ways.items():
        plain = BESIDE.get(way)
        ratio = f"{row['seconds'] / ways[plain]['seconds']:.2f} x" if plain else ""
        lines.append(
            f"| {way} | {row['seconds']:.2f} | {ratio} | {row['wall']:.2f} | "
            f"{row['peak'] / 1e9:.2f} | "
            f"{row['peak'] / size:.2f} |"
        )
    lines += [
        f"| generate --until {stage} | {row['seconds']:.1f} | | {row['wall']:.1f} | "
        f"{row['peak'] / 1e9:.2f} | {row['peak'] / size:.2f} |"
        for stage, row in results["generate"].items()
    ]
    return "\n".join(lines)


def in_a_process(way: str, folder: Path) -> Row:
    words = [sys.executable, __file__, "--one", way, str(folder)]
    return json.loads(
        subprocess.run(words, check=True, text=True, stdout=subprocess.PIPE).stdout.splitlines()[-1]
    )


def one(way: str, folder: Path) -> Row:
    """Seconds of one way in this process, and its resident memory before and at the peak."""
    work = generate(way, folder) if way in STAGES else load(way, folder / "show-1-base")
    before = status("VmRSS")
    start, wall = time.process_time(), time.perf_counter()
    kept = work()  # held while the peak is read
    row = {"seconds": time.process_time() - start, "wall": time.perf_counter() - wall}
    row |= {"before": before, "peak": status("VmHWM")}
    del kept
    return row


def status(name: str) -> int:
    """A number of bytes the system keeps of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def load(way: str, folder: Path) -> Callable[[], Any]:
    """A way of loading with its imports done."""
    from safetensors.torch import load_file

    from show1_engine.checkpoints.read import read_checkpoint
    from show1_engine.loading import load_model
    from show1_engine.runtime import PlainRuntime
    from show1_engine.sampling.schedules import make_scheduler

    file = folder / "unet" / _STEM
    make_scheduler(read_checkpoint(folder).scheduler_config)  # diffusers is imported for it
    return {
        LOAD: lambda: load_file(file),
        READ: lambda: [(value, value.aminmax()) for value in load_file(file).values()],
        CAST: lambda: {name: value.float() for name, value in load_file(file).items()},
        HALF: lambda: load_model(folder, PlainRuntime("cpu", torch.float16)),
        FLOAT: lambda: load_model(folder, PlainRuntime("cpu", torch.float32)),
    }[way]


def generate(stage: str, folder: Path) -> Callable[[], Any]:
    """`generate` up to a stage, with as little to compute as there is."""
    from show1_engine.cascade import Cascade, run
    from show1_engine.models.kinds import INTERPOLATION, KEYFRAMES
    from show1_engine.progress import silent
    from show1_engine.runtime import PlainRuntime
    from show1_engine.stages.interpolate import InterpolateSettings
    from show1_engine.stages.keyframes import KeyframeSettings
    from show1_engine.stages.registry import STAGES as TABLE

    settings = {
        KEYFRAMES: KeyframeSettings(width=8, height=8, num_frames=2, steps=1),
        INTERPOLATION: InterpolateSettings(steps=1),
    }
    until = {"keyframes": KEYFRAMES, "interpolation": INTERPOLATION}[stage]
    asked = Cascade(folder, "a cat", settings=settings, until=TABLE[until].option)
    return lambda: list(run(asked, PlainRuntime(), lambda name: silent))


def write_models(folder: Path) -> None:
    """A keyframe and an interpolation model of the published sizes, and a T5 of the published width
    with a single layer and micro's tokenizer.
    """
    from safetensors.torch import save_file

    from benchmarks.full_size import UNETS, random_weights, unet
    from show1_engine.bundled import WEIGHTS

    for name in ("show-1-base", "show-1-interpolation"):
        print(f"{name} is written", file=sys.stderr, flush=True)
        (folder / name / "unet").mkdir(parents=True)
        shutil.copytree(WEIGHTS / name / "scheduler", folder / name / "scheduler")
        (folder / name / "unet" / "config.json").write_text(json.dumps(UNETS[name]))
        save_file(random_weights(unet(name)), folder / name / "unet" / _STEM)
    write_text_encoder(folder / "show-1-base")


def write_text_encoder(folder: Path) -> None:
    from safetensors.torch import save_file

    from benchmarks.full_size import random_weights
    from show1_engine.bundled import WEIGHTS
    from show1_engine.models.text import T5, TransformersText

    source = WEIGHTS / "show-1-base"
    shutil.copytree(source / "tokenizer", folder / "tokenizer")
    config = json.loads((source / "text_encoder" / "config.json").read_text())
    config |= {"d_model": 4096, "num_layers": 1}
    (folder / "text_encoder").mkdir()
    (folder / "text_encoder" / "config.json").write_text(json.dumps(config))
    weights = random_weights(TransformersText(T5, config).model)
    weights.pop("encoder.embed_tokens.weight", None)  # another name of shared.weight
    save_file(weights, folder / "text_encoder" / "model.safetensors")


if __name__ == "__main__":
    main()
