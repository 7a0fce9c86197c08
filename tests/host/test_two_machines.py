"""Two ComfyUIs given the same graph, as those who have several machines do (docs/scale.md)."""

import shutil

import pytest
import torch
from comfyui_server import Server
from graphs import Graph, add_stage, keyframes_only, run_graph
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def other(comfyui, new_base):
    """A second machine's: the same models, as files of its own, and one more that sorts first."""
    base = new_base("other")
    for model in (base / "models" / "show1").iterdir():
        target = model.resolve()
        model.unlink()
        shutil.copytree(target, model)
    first = base / "models" / "show1" / "a-model-of-its-own"
    shutil.copytree(base / "models" / "show1" / "show-1-base", first)
    with Server(comfyui, base=base, args=("--cpu", "--disable-api-nodes")) as other:
        yield other


def whole() -> Graph:
    """All four stages; what the last one makes is saved as float32."""
    graph = Graph()
    images = add_stage(graph, "Show1Keyframes", seed=5, num_frames=2)
    images = add_stage(graph, "Show1Interpolate", images, seed=6)
    images = add_stage(graph, "Show1PixelSR", images, seed=7)
    images = add_stage(graph, "Show1LatentExpertSR", images, seed=8)
    graph.add("TestSaveFrames", images=images, file="whole.safetensors")
    return graph


def frames(server: Server, graph: Graph) -> torch.Tensor:
    run = run_graph(server, graph)
    assert run.status == "success", f"{run.message}\n{server.log_tail()}"
    return load_file(server.files(run)[0])["frames"]


def test_both_make_the_same_frames(server, other):
    """Bit by bit, whatever the second one has made before."""
    frames(other, keyframes_only(seed=9))
    one, two = frames(server, whole()), frames(other, whole())
    assert one.shape == two.shape and torch.equal(one, two)
    assert one.std() > 0.01


def test_what_one_of_them_lacks_is_refused_there_by_name(server, other):
    graph = keyframes_only(seed=9, model="a-model-of-its-own")
    assert frames(other, graph).isfinite().all()
    run = run_graph(server, graph)
    assert run.status in ("rejected", "error") and "a-model-of-its-own" in run.message
