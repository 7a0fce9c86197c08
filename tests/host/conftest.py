"""A real ComfyUI server with the pack in it, and a real browser."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from comfyui_server import BASE_FOLDERS, PACK, Run, Server, link_pack
from graphs import Graph, run_graph
from reference import reference_root
from safetensors.torch import load_file, save_file

collect_ignore = ["frames_pack"]
HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """ComfyUI's source tree: COMFYUI_PATH, else what scripts/test has fetched."""
    path = Path(os.environ.get("COMFYUI_PATH") or PACK / ".test-env" / "ComfyUI")
    if not (path / "main.py").is_file():
        pytest.skip(f"there is no ComfyUI in {path}: use scripts/test, which provides one")
    return path.resolve()


@pytest.fixture(scope="session")
def cascade(tmp_path_factory) -> Path:
    """A folder with the tiny cascade of the goldens, in the published layout."""
    folder = tmp_path_factory.mktemp("cascade")
    for name in ("show-1-base", "show-1-interpolation", "show-1-sr1", "IF-II-L-v1.0", "show-1-sr2"):
        (folder / name).symlink_to(reference_root() / "models" / name)
    return folder


@pytest.fixture(scope="session")
def new_base(cascade, tmp_path_factory):
    """A function that makes a base directory with the pack, the tests' frame nodes and the tiny
    cascade in it.
    """

    def new_base(name: str) -> Path:
        base = tmp_path_factory.mktemp(name)
        for folder in BASE_FOLDERS:
            (base / folder).mkdir()
        link_pack(base / "custom_nodes")
        (base / "custom_nodes" / "frames_pack").symlink_to(HERE / "frames_pack")
        (base / "models" / "show1").mkdir()
        for model in cascade.iterdir():
            (base / "models" / "show1" / model.name).symlink_to(model)
        settings = base / "user" / "default" / "comfy.settings.json"
        settings.parent.mkdir()
        settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}))
        return base

    return new_base


@pytest.fixture(scope="session")
def server(comfyui, new_base) -> Server:
    """One server for all tests on a base directory of its own."""
    with Server(comfyui, base=new_base("comfyui"), args=("--cpu", "--disable-api-nodes")) as server:
        yield server


@pytest.fixture
def model_copy(server, cascade):
    """A function that copies a model of the cascade to another name, to be spoiled; removed after
    the test.
    """
    made = []

    def copy(source: str, name: str) -> Path:
        made.append(server.base / "models" / "show1" / name)
        shutil.copytree(cascade / source, made[-1])
        return made[-1]

    yield copy
    for path in made:
        shutil.rmtree(path)


@pytest.fixture
def run(server):
    """A function that runs a graph: what a client saw of it."""

    def run(graph: Graph, **options) -> Run:
        return run_graph(server, graph, **options)

    return run


@pytest.fixture
def succeed(server, run):
    """A function that runs a graph that has to succeed: the files it saved."""

    def succeed(graph: Graph) -> list[Path]:
        result = run(graph)
        assert result.status == "success", f"{result.status}: {result.message}\n{server.log_tail()}"
        return server.files(result)

    return succeed


@pytest.fixture
def frames_of(succeed):
    """A function that runs a graph ending in TestSaveFrames: the frames (F,H,W,C)."""

    def frames_of(graph: Graph) -> torch.Tensor:
        return load_file(succeed(graph)[0])["frames"]

    return frames_of


@pytest.fixture
def put_frames(server):
    """A function that puts frames (F,H,W,C) into the input folder and returns the file's name."""

    def put_frames(frames: torch.Tensor, name: str = "frames.safetensors") -> str:
        save_file({"frames": frames.contiguous()}, server.base / "input" / name)
        return name

    return put_frames


@pytest.fixture(scope="session")
def browser(server, chromium):
    """A browser without any page."""
    from browser import Browser

    return Browser(server, chromium)


@pytest.fixture
def page(browser):
    """ComfyUI's frontend in a fresh page."""
    with browser.page() as page:
        yield page
