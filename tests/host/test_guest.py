"""What newer hosts offer is used where they offer it: memory, folded inputs, pictures, float16."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from comfyui_server import Server
from graphs import FAST, Graph, add_stage, keyframes_only, run_graph, stage_on_frames
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parent
NODES = list(json.loads((HERE / "interface.json").read_text()))
ADVANCED = {
    "Show1LoadModel": {"weight_dtype", "compile"},
    "Show1LoadTextEncoder": {"weight_dtype"},
    "Show1TextEncode": {"clean_caption"},
    "Show1Keyframes": {"sampler", "motion_mix"},
    "Show1Interpolate": {"sampler", "tiling", "cut_aware"},
    "Show1PixelSR": {
        "first_frame_steps",
        "first_frame_cfg",
        "first_frame_noise_level",
        "sampler",
        "tiling",
        "color_match",
        "cut_aware",
    },
    "Show1LatentExpertSR": {"sampler", "window", "overlap", "tiling", "color_match", "cut_aware"},
    "Show1TrainMotionLoRA": {
        "batch_size",
        "width",
        "height",
        "window",
        "targets",
        "timesteps",
        "gradient_checkpointing",
        "mixed_precision",
        "recolour",
    },
}


@pytest.fixture(scope="module")
def found(comfyui, cascade, pack, tmp_path_factory) -> dict:
    """What tracked.py found."""
    file = tmp_path_factory.mktemp("tracked") / "found.json"
    path = os.pathsep.join(map(str, (comfyui, HERE, pack)))  # its nodes.py before our nodes/
    done = subprocess.run(
        [sys.executable, HERE / "tracked.py", cascade, file],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(file.read_text())


def on_this_host(found: dict, key: str):
    if key not in found:
        pytest.skip("this ComfyUI does not look for it")
    return found[key]


def test_all_networks_are_shown_to_the_host(found):
    assert found["models"] == [[True, True], [True]]  # the expert's UNet and VAE; a text encoder
    assert found["plain"] == [None, []]  # without a host there is nobody to show
    assert found["ram"] == found["weights"] > 100_000 and not found["dynamic"]


def test_link_objects_count_as_models(found):
    assert on_this_host(found, "recognised") == [True, True]


def test_paged_weights_are_told(found):
    assert on_this_host(found, "all_dynamic") == [True, True]


def test_a_running_prompt_holds_its_models(found):
    assert on_this_host(found, "tracked") == {"during": 3, "after": 0}


def test_paged_models_stay_in_the_cache(found):
    assert on_this_host(found, "kept_by_the_cache") == [False, True]


def test_old_models_leave_the_cache_first(found):
    assert on_this_host(found, "let_go_first") == ["model", "clip"]


def test_inputs_few_change_are_folded_away(server):
    info = {name: node for name, node in server.object_info().items() if name in NODES}
    folded = {}
    for name, node in info.items():
        inputs = node["input"].get("required", {}) | node["input"].get("optional", {})
        if names := {key for key, (_, about) in inputs.items() if about.get("advanced")}:
            folded[name] = names
    assert folded == (ADVANCED if "advanced" in read_api(server) else {})


def read_api(server) -> str:
    """The source of the host's own inputs."""
    text = (server.comfyui / "comfy_api" / "latest" / "_io.py").read_text()
    return text[text.index("class Input(_IO_V3)") : text.index("class WidgetInput")]


def test_stage_pictures_outlive_the_page(server, run):
    """Sent again when nothing is computed anew, one small file a stage; else there is no file."""
    known = server.object_info()["Show1Keyframes"].get("has_intermediate_output", False)
    before = set((server.base / "temp").glob("*"))
    graph = keyframes_only(seed=811)
    first, again = run(graph), run(graph)
    (stage,) = (key for key, node in graph.prompt.items() if node["class_type"] == "Show1Keyframes")
    written = set((server.base / "temp").glob("*")) - before
    assert first.status == again.status == "success" and stage in again.cached
    if not known:
        assert stage not in first.outputs and not written
        return
    (picture,) = first.outputs[stage]["images"]
    assert first.outputs[stage] == again.outputs[stage] and picture["type"] == "temp"
    assert [file.name for file in written] == [picture["filename"]]
    assert written.pop().stat().st_size < 600_000


@pytest.fixture(scope="module")
def half_server(comfyui, server) -> Server:
    """A second server on the same folders, which hands float16 along its links."""
    flag = "--fp16-intermediates"
    if flag not in (comfyui / "comfy" / "cli_args.py").read_text():
        pytest.skip("this ComfyUI hands float32 along its links only")
    options = {"base": server.base, "log": server.base / "half.log"}
    with Server(comfyui, args=("--cpu", "--disable-api-nodes", flag), **options) as half:
        yield half


@pytest.mark.parametrize("stage", list(FAST))
def test_float16_along_the_links(server, half_server, put_frames, stage):
    """What comes out is float16 and else the same: frames that come in are made float32 first."""
    frames = torch.rand(4, 16, 24, 3, generator=torch.Generator().manual_seed(7)).half()
    name = put_frames(frames, "half.safetensors")
    if stage == "Show1Keyframes":
        graph = keyframes_only(seed=1)
    else:
        graph = stage_on_frames(stage, name, seed=1)
    if stage == "Show1PixelSR":
        add_first_frame(graph, name)
    made = []
    for host in (server, half_server):
        result = run_graph(host, graph)
        assert result.status == "success", f"{result.message}\n{host.log_tail()}"
        made.append(load_file(host.files(result)[0])["frames"])
    assert made[0].dtype == torch.float32 and made[1].dtype == torch.float16
    assert torch.isfinite(made[1]).all() and torch.equal(made[0].half(), made[1])


def add_first_frame(graph: Graph, file: str) -> None:
    """The first frame too comes as float16."""
    stage = next(node for node in graph.prompt.values() if node["class_type"] == "Show1PixelSR")
    stage["inputs"]["first_frame"] = graph.add("TestLoadFrames", file=file)


def test_float16_through_the_whole_cascade(half_server):
    graph = Graph()
    images = add_stage(graph, "Show1Keyframes")
    for stage in ("Show1Interpolate", "Show1PixelSR", "Show1LatentExpertSR"):
        images = add_stage(graph, stage, images)
    graph.add("TestSaveFrames", images=images, file="cascade.safetensors")
    result = run_graph(half_server, graph)
    assert result.status == "success", f"{result.message}\n{half_server.log_tail()}"
    frames = load_file(half_server.base / "output" / "cascade.safetensors")["frames"]
    assert frames.shape == (13, 48, 72, 3) and frames.dtype == torch.float16
    assert torch.isfinite(frames).all()
