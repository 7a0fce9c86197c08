"""What the registry hands out: let in by its scanner, complete, and each command in it works or
says what it needs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from archive import findings, packed, tracked, unpack

import show1_engine.__main__ as command_line
from show1_engine.commands.arguments import COMMANDS
from show1_engine.commands.laboratory import PACKAGES
from show1_engine.video import write_mp4

# Read as UTF-8 by whoever reads them: the Chinese locale, tokenizers, prose.
_WORDS = ("locales/", "show1_engine/weights/", "show1_engine/weights2/")
_CODE = (".py", ".toml", ".txt", ".json", ".comfyignore", ".yml")

# These end with exit code 0; the other commands have to be in REPOSITORY_ONLY.
WORKING = {
    "generate": [
        "--prompt",
        "a red circle",
        "--until",
        "pixel-sr",
        "--keyframes-num-frames",
        "2",
        "--keyframes-steps",
        "2",
        "--interpolate-steps",
        "2",
        "--first-frame-steps",
        "2",
        "--pixel-sr-steps",
        "2",
        "--out",
        "out.mp4",
    ],
    "batch": [
        "{folder}/prompts.txt",
        "{folder}/clips",
        "--until",
        "keyframes",
        "--keyframes-steps",
        "2",
    ],
    "upscale": ["clip.mp4", "large.mp4", "--steps", "2"],
    "refine": ["clip.mp4", "fine.mp4", "--steps", "2"],
    "interpolate": ["clip.mp4", "smooth.mp4", "--steps", "2"],
    "train": [
        "clip.mp4",
        "motion.safetensors",
        "--prompt",
        "a red circle",
        "--steps",
        "1",
        "--window",
        "2",
    ],
    "download": ["--list"],
    "convert": ["{pack}/show1_engine/weights/show-1-interpolation", "one.safetensors"],
    "evaluate": ["weights"],
    "encode": ["{folder}", "{folder}/encoded"],
    "train-stage": [
        "keyframes",
        "{folder}",
        "{folder}/run",
        "--steps",
        "1",
        "--frames",
        "2",
        "--train",
        "all",
    ],
}
REPOSITORY_ONLY = {
    "bench": [],
    "micro": ["evaluate", "--clips", "1"],
}


@pytest.fixture(scope="module")
def archive(pack, tmp_path_factory) -> Path:
    return unpack(pack, tmp_path_factory.mktemp("archive"))


def run(archive: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """`python -m show1_engine` of the archive, as a user calls it: from its folder."""
    words = [
        str(folder / word) if word.endswith((".mp4", ".safetensors")) else word
        for word in arguments
    ]
    places = {"{pack}": archive, "{folder}": folder}
    for name, place in places.items():
        words = [word.replace(name, str(place)) for word in words]
    return subprocess.run(
        [sys.executable, "-m", "show1_engine", *words], cwd=archive, capture_output=True, text=True
    )


def test_nothing_in_it_is_flagged(pack):
    found = {
        name: findings((pack / name).read_bytes().decode("latin-1"))
        for name in packed(pack)
        if not name.endswith((".safetensors", ".jpg", ".png", ".webp", ".model"))
    }
    assert {name: words for name, words in found.items() if words} == {}


@pytest.mark.parametrize(
    "text",
    [
        "node.connect(0)",
        "# .bind (",
        "import subprocess",
        "os.environ.get(1)",
        "os.getenv(1)",
        "urllib.request.urlopen",
        "x = eval(y)",
        "mx.eval(y)",
        "sock.recv(1)",
        "requests.get(url)",
        "see https://raw.githubusercontent.com/",
    ],
)
def test_the_words_are_found(text):
    assert findings(text)


@pytest.mark.parametrize(
    "text", ["model.eval()", "from .sockets import texts", "re.compile(1)", "requests for bytes"]
)
def test_harmless_words_are_not(text):
    assert findings(text) == []


def test_no_more_than_is_needed(pack):
    """Everything that a host or the command line reads, and no tests, scripts, benchmarks or
    laboratory.
    """
    names = packed(pack)
    tops = {name.split("/")[0] for name in names}
    assert tops == {
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "__init__.py",
        "docs",
        "locales",
        "nodes",
        "pyproject.toml",
        "requirements-scale.txt",
        "requirements-train.txt",
        "requirements.txt",
        "show1_engine",
        "subgraphs",
        "workflows",
    }
    weights = ("show1_engine/weights/", "show1_engine/weights2/")
    assert {name for name in names if name.startswith(weights)} == {
        name for name in tracked(pack) if name.startswith(weights)
    }
    assert sum((pack / name).stat().st_size for name in names) < 54e6


def test_its_pages_lead_nowhere_that_is_missing(archive):
    dead = [
        f"{page.relative_to(archive)}: {target}"
        for page in archive.rglob("*.md")
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists() and "nodes/web" not in str(page)
    ]
    assert dead == []


def test_sources_are_plain_ascii(pack):
    """Some hosts and tools read them in the system's encoding."""
    odd = [
        name
        for name in tracked(pack)
        if name.endswith(_CODE)
        and not name.startswith(_WORDS)
        and not (pack / name).read_bytes().isascii()
    ]
    assert odd == []


def test_every_command_is_accounted_for():
    commands = set(re.findall(r"^([\w-]+)  +", command_line.__doc__, re.MULTILINE))
    assert commands == WORKING.keys() | REPOSITORY_ONLY.keys()
    assert commands == COMMANDS.keys() | PACKAGES.keys()


@pytest.mark.parametrize("command", WORKING)
def test_commands_work_from_it(archive, tmp_path, command):
    write_mp4(tmp_path / "clip.mp4", torch.rand(3, 16, 16, 3), 4.0)
    for name in ("clip", "prompts"):
        (tmp_path / f"{name}.txt").write_text("a red circle\n")
    done = run(archive, tmp_path, command, *WORKING[command])
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", REPOSITORY_ONLY)
def test_commands_say_that_they_need_the_repository(archive, tmp_path, command):
    done = run(archive, tmp_path, command, *REPOSITORY_ONLY[command])
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: '{command}") and done.stderr.count("\n") == 1
    assert "git clone of the repository" in done.stderr
