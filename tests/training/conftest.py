"""Footage of the synthetic world, written to files once."""

import shutil
from pathlib import Path

import pytest

from show1_micro.footage import write_footage


@pytest.fixture(scope="session")
def footage(tmp_path_factory) -> Path:
    """Eight clips of 3.6 seconds with captions beside them."""
    folder = tmp_path_factory.mktemp("footage") / "clips"
    write_footage(folder, 8)
    return folder


@pytest.fixture
def damaged(footage, tmp_path) -> Path:
    """The same, and two more that cannot be read: one cut off, one no video at all."""
    folder = tmp_path / "damaged"
    shutil.copytree(footage, folder)
    whole = (folder / "0000.mp4").read_bytes()
    for name, content in (("cut off", whole[: len(whole) // 3]), ("a text", b"no video" * 99)):
        (folder / f"{name}.mp4").write_bytes(content)
        (folder / f"{name}.txt").write_text("a circle")
    return folder
