"""scripts/quickstart on an existing ComfyUI. (What it installs on a fresh machine is what
scripts/test installs.)
"""

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

import av
import pytest
from comfyui_server import PACK_NAME, ServerError, link_pack
from PIL import Image


@pytest.fixture(scope="module")
def install(comfyui, tmp_path_factory) -> Path:
    """A ComfyUI of a user."""
    target = tmp_path_factory.mktemp("quickstart") / "ComfyUI"
    shutil.copytree(comfyui, target, ignore=shutil.ignore_patterns("__pycache__", PACK_NAME))
    return target


def start(pack: Path, *arguments: str, **environment) -> subprocess.Popen:
    env = os.environ | {name: str(value) for name, value in environment.items()}
    return subprocess.Popen(
        [pack / "scripts" / "quickstart", *arguments],
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def refused(*arguments, **environment) -> str:
    process = start(*arguments, **environment)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and text.startswith("error: "), text
    return text


def test_makes_a_video_and_stays(pack, install):
    """The template with a prompt; then the server goes on until Ctrl+C."""
    process = start(
        pack, "a green square", "--ui", COMFYUI_PATH=install, COMFYUI_PYTHON=sys.executable
    )
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if "open http://" in line:
            break
    else:
        pytest.fail("\n".join(lines))
    try:
        said = dict(
            line.split(": ", 1) for line in lines if line.startswith(("video: ", "frames: "))
        )
        with av.open(said["video"]) as video:
            assert len(list(video.decode(video=0))) == 29
        with Image.open(said["frames"]) as sheet:
            assert min(sheet.size) > 200
        url = lines[-1].split("open ")[1]
        assert urllib.request.urlopen(f"{url}/system_stats").status == 200
        assert "'a green square'" in "\n".join(lines)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(url)
    assert [
        entry.resolve() for entry in (install / "custom_nodes").iterdir() if entry.is_symlink()
    ] == [pack]


def test_other_copies_of_the_pack(pack, tmp_path):
    link = link_pack(tmp_path)
    assert link.resolve() == pack.resolve() and link_pack(tmp_path) == link
    link.unlink()
    link.symlink_to(tmp_path / "gone")  # a checkout that was deleted
    assert link_pack(tmp_path).resolve() == pack.resolve()
    link.unlink()
    link.mkdir()
    with pytest.raises(ServerError, match="another copy of this pack; remove it"):
        link_pack(tmp_path)


def test_no_comfyui_there(pack, tmp_path):
    assert str(tmp_path) in refused(pack, COMFYUI_PATH=tmp_path)


def test_says_what_is_missing(pack, install, tmp_path):
    """It never installs into somebody's ComfyUI."""
    venv.create(tmp_path / "bare")
    text = refused(pack, COMFYUI_PATH=install, COMFYUI_PYTHON=tmp_path / "bare" / "bin" / "python")
    assert "diffusers>=" in text and "pip install -r" in text


def test_unknown_option(pack, install):
    process = start(pack, "--no-such-option", COMFYUI_PATH=install, COMFYUI_PYTHON=sys.executable)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 2 and "--no-such-option" in text
