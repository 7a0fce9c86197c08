"""Many clips: python benchmarks/many_clips.py [--clips 40] [--kills [WHAT ...]] [--json FILE]

The bundled cascade with few steps: `generate` in a loop, `batch` in one process, by one and by two
of Ray's workers, taking turns, and `batch` once more where all is done. CPU seconds are those of
all processes and hardly depend on what else the machine does; the others do.

--kills: instead, what is there in the end where a worker, the driver, or one of two nodes is killed
on the way (kill -9), beside the frames' hashes of one process.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
STEPS = [
    *("--keyframes-steps", "4", "--interpolate-steps", "2"),
    *("--pixel-sr-steps", "1", "--expert-steps", "5"),
]
PROMPT = "a red circle moving right on a grey background"
WARM = 4  # clips that do not count for the pace: workers start one after the other


class Command:
    """A run of the command line, watched: what it and its children take, until it ends."""

    def __init__(self, *words: str, environment: dict[str, str]):
        self.begin, self._cpu = time.time(), {}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "show1_engine", *words],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def ended(self) -> bool:
        """Whether it has; looked at often, so that little of the children's time is missed."""
        for one in (psutil.Process(), *psutil.Process().children(recursive=True)):
            try:
                times = one.cpu_times()
                self._cpu[one.pid] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
        self._cpu.pop(os.getpid(), None)
        time.sleep(0.1)
        return self.process.poll() is not None

    def watched(self) -> "Command":
        while not self.ended():
            pass
        self.seconds = time.time() - self.begin
        return self

    @property
    def cpu(self) -> float:
        return sum(self._cpu.values())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--kills", nargs="*", choices=["worker", "driver", "node"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="many") as folder:
        place = Path(folder)
        table = place / "jobs.txt"
        table.write_text(f"{PROMPT}\n")
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "RAY_TMPDIR": str(place / "r"),
            "PYTHONPATH": str(ROOT),
        }
        (place / "r").mkdir()
        how = {"clips": args.clips, "environment": environment}
        found = paces(table, **how) if args.kills is None else kills(table, args.kills, **how)
    print(json.dumps(found, indent=1))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


# Seconds


def paces(table: Path, *, clips: int, environment: dict[str, str]) -> dict[str, Any]:
    """What a clip costs, each way."""
    place, how_many = table.parent, {"clips": clips, "environment": environment}
    ways = {"one process": [], "one worker": ["--workers", "1"], "two workers": ["--workers", "2"]}
    found: dict[str, Any] = {"clips": clips, "load before": os.getloadavg()[0]}
    loop = []
    for seed in range(3):
        words = ["--prompt", PROMPT, "--seed", str(seed), *STEPS, "--out", str(place / "one.mp4")]
        loop.append(Command("generate", *words, environment=environment).watched())
    found["generate in a loop"] = {
        "seconds a clip": round(sum(one.seconds for one in loop) / len(loop), 2),
        "CPU seconds a clip": round(sum(one.cpu for one in loop) / len(loop), 2),
    }
    for name, how in ways.items():
        folder = place / name.replace(" ", "-")
        run = batch(table, folder, how, **how_many).watched()
        found[name] = {"seconds": round(run.seconds, 1), **pace(folder, run.begin)}
        found[name]["CPU seconds a clip"] = round(run.cpu / clips, 2)
    again = batch(table, folder, how, **how_many).watched()
    found["second run, seconds"] = round(again.seconds, 2)
    ratio = found["one worker"]["seconds a clip"] / found["two workers"]["seconds a clip"]
    found["two workers over one, after start-up"] = round(ratio, 2)
    found["load after"] = os.getloadavg()[0]
    return found


def batch(
    table: Path, folder: Path, options: list[str], *, clips: int, environment: dict[str, str]
) -> Command:
    seeds = ["--seeds", f"0-{clips - 1}"]
    words = [str(table), str(folder), *seeds, *STEPS, *options]
    return Command("batch", *words, environment=environment)


def pace(folder: Path, begin: float) -> dict[str, float]:
    """From when clips were committed: seconds until the first, and for each after the first few."""
    times = sorted(path.stat().st_mtime for path in committed(folder))
    each = (times[-1] - times[WARM - 1]) / (len(times) - WARM)
    return {"first clip after": round(times[0] - begin, 1), "seconds a clip": round(each, 3)}


def committed(folder: Path) -> list[Path]:
    return [path for path in folder.glob("clips/*/*.json") if path.name[0] != "."]


# Kills


def kills(
    table: Path, wanted: list[str], *, clips: int, environment: dict[str, str]
) -> dict[str, Any]:
    """What is there in the end, whatever was killed."""
    ways = {"worker": kill_worker, "driver": kill_driver, "node": kill_node}
    how = {"clips": clips, "environment": environment}
    alone = table.parent / "alone"
    batch(table, alone, [], **how).watched()
    expected = hashes(alone)
    found: dict[str, Any] = {"clips": clips}
    for name in wanted or ways:
        folder = table.parent / name
        codes = ways[name](table, folder, **how)
        made = hashes(folder)
        lines = (folder / "manifest.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        found[f"{name} killed"] = {
            "exit codes": codes,
            "rows": len(rows),
            "ids": len({row["id"] for row in rows}),
            "equal frames": sum(made.get(key) == value for key, value in expected.items()),
            "begun twice": sum(row["attempt"] > 1 for row in rows),
            "left unfinished": len(list(folder.rglob(".*"))),
        }
    return found


def hashes(folder: Path) -> dict[str, str]:
    rows = [json.loads(path.read_text()) for path in committed(folder)]
    return {row["id"]: row["frames_sha256"] for row in rows}


def some_done(folder: Path, run: Command) -> None:
    """Waits until four clips are there, and both workers are at others."""
    while not run.ended():
        if len(committed(folder)) >= 4 and len(list(folder.glob("clips/*/.*~begun"))) >= 2:
            return


def kill_worker(table: Path, folder: Path, *, clips: int, environment: dict[str, str]) -> list[int]:
    run = batch(table, folder, ["--workers", "2"], clips=clips, environment=environment)
    some_done(folder, run)
    children = psutil.Process(run.process.pid).children(recursive=True)
    next(child for child in children if child.name().startswith("ray::MapWorker"[:15])).kill()
    return [run.watched().process.returncode]


def kill_driver(table: Path, folder: Path, *, clips: int, environment: dict[str, str]) -> list[int]:
    run = batch(table, folder, ["--workers", "2"], clips=clips, environment=environment)
    some_done(folder, run)
    children = psutil.Process(run.process.pid).children(recursive=True)
    run.process.send_signal(signal.SIGKILL)
    first = run.process.wait()
    psutil.wait_procs(children, timeout=60)
    again = batch(table, folder, ["--workers", "2"], clips=clips, environment=environment)
    return [first, again.watched().process.returncode]


def kill_node(table: Path, folder: Path, *, clips: int, environment: dict[str, str]) -> list[int]:
    """Two nodes on this machine's loopback addresses, the second lost with all its processes."""
    token = table.with_name("token")
    token.touch(mode=0o600)
    token.write_text(os.urandom(32).hex())
    environment = {**environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    environment["RAY_USAGE_STATS_ENABLED"] = "0"
    head = ["--head", "--port", "6399", "--include-dashboard", "false"]
    address = "127.0.0.1:6399"
    nodes = [node(*head, ip="127.0.0.1", environment=environment)]
    try:
        time.sleep(20)
        nodes.append(node("--address", address, ip="127.0.0.2", environment=environment))
        time.sleep(20)
        run = batch(table, folder, ["--address", address], clips=clips, environment=environment)
        some_done(folder, run)
        end(nodes.pop())
        return [run.watched().process.returncode]
    finally:
        for one in nodes:
            end(one)


def node(*words: str, ip: str, environment: dict[str, str]) -> subprocess.Popen:
    ray = shutil.which("ray", path=str(Path(sys.executable).parent))
    store = ["--object-store-memory", str(128 * 2**20)]
    return subprocess.Popen(
        [ray, "start", "--block", "--num-cpus", "1", "--node-ip-address", ip, *store, *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def end(process: subprocess.Popen) -> None:
    """kill -9 for a process and all that it started."""
    for one in (*psutil.Process(process.pid).children(recursive=True), process):
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


if __name__ == "__main__":
    main()
