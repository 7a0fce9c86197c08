"""scripts/get_comfyui from a repository: a tag, the latest release, or why it cannot be had."""

import os
import subprocess
from pathlib import Path

import pytest

VERSIONS = ("0.9.1", "0.33.0", "0.4.0")


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A repository with a tag for each version, and one that is no release."""
    folder = tmp_path_factory.mktemp("repository")

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)

    git("init", "--quiet")
    for version in VERSIONS:
        (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
        git("add", ".")
        git("commit", "--quiet", "--message", version)
        git("tag", f"v{version}")
    git("tag", "v1.0.0-alpha")
    return folder


def get(pack: Path, target: Path, repository: Path | str, tag: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [pack / "scripts" / "get_comfyui", target, tag],
        capture_output=True,
        text=True,
        env=os.environ | {"COMFYUI_REPOSITORY": str(repository)},
    )


def test_a_tag(pack, tmp_path, repository):
    done = get(pack, tmp_path / "tree", repository.as_uri(), "v0.9.1")
    assert done.returncode == 0 and f"ComfyUI 0.9.1 is in {tmp_path / 'tree'}" in done.stdout
    assert '"0.9.1"' in (tmp_path / "tree" / "comfyui_version.py").read_text()
    again = get(pack, tmp_path / "tree", "file:///nowhere", "v0.9.1")
    assert (again.returncode, again.stdout) == (0, "")  # complete: left alone, nothing is asked
    other = get(pack, tmp_path / "tree", repository.as_uri(), "v0.4.0")
    assert other.returncode == 1 and "not a tree made by this script" in other.stderr


def test_the_latest_release_by_number(pack, tmp_path, repository):
    done = get(pack, tmp_path / "tree", repository.as_uri(), "latest")
    assert done.returncode == 0 and "ComfyUI 0.33.0 is in" in done.stdout


@pytest.mark.parametrize(
    "address, tag, why",
    [
        ("here", "v9.9.9", "it has no tag v9.9.9"),
        ("file:///nowhere", "v0.9.1", "nowhere"),
        ("http://127.0.0.1:9/x", "v0.9.1", "unable to access"),
    ],
)
def test_what_cannot_be_had(pack, tmp_path, repository, address, tag, why):
    done = get(pack, tmp_path / "tree", repository.as_uri() if address == "here" else address, tag)
    assert done.returncode == 3 and why in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
