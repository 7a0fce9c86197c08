"""The bundled template: in the editor, through the API, and against the engine alone."""
import json
import subprocess
import sys
import urllib.parse

import av
import pytest
from comfyui_server import PACK, ui_to_api
from graphs import Graph
from safetensors.torch import load_file

NAME = "Show-1 Text to Video"
# Stage node -> the engine's name for its frames, the prefix of its options on the command line.
STAGES = {"Show1Keyframes": ("keyframes", "keyframes"), "Show1Interpolate": ("interpolated", "interpolate"),
          "Show1PixelSR": ("pixel_sr", "pixel-sr"), "Show1LatentExpertSR": ("latent_expert_sr", "expert")}
# One level of an 8-bit picture: the host's text encoder rounds otherwise than ours, and sampling amplifies that.
TOLERANCE = 1 / 255


@pytest.fixture(scope="module")
def workflow(pack) -> dict:
    return json.loads((pack / "workflows" / f"{NAME}.json").read_text())


@pytest.fixture
def graph(server, workflow) -> Graph:
    """The template in API format."""
    graph = Graph()
    graph.prompt = ui_to_api(workflow, server.object_info())
    return graph


def test_template_is_offered(server, workflow):
    packs = server.get("/api/workflow_templates")
    assert NAME in packs["show-1"]
    assert server.get(f"/api/workflow_templates/show-1/{urllib.parse.quote(NAME)}.json") == workflow


def test_only_core_nodes_and_ours(server, graph):
    info = server.object_info()
    for node in graph.prompt.values():
        assert info[node["class_type"]]["python_module"].split(".")[0] in ("nodes", "comfy_extras") or \
            node["class_type"].startswith("Show1")


def test_its_models_are_there(server, graph):
    info = server.object_info()
    for node in graph.prompt.values():
        for name in {"model_name", "name"} & set(node["inputs"]) if node["class_type"].startswith("Show1Load") else ():
            kind, about = info[node["class_type"]]["input"]["required"][name]
            assert node["inputs"][name] in (kind if isinstance(kind, list) else about["options"])


def test_api_format_is_the_editors(page, workflow, graph):
    page.load(workflow)
    assert page.api_prompt() == graph.prompt


def test_runs_from_the_editor(server, page, workflow, tmp_path):
    """Opened, looked at, Run pressed: no red node, no complaint, a playable mp4."""
    page.load(workflow)
    assert [node for node in page.nodes() if not node["known"] or node["errors"]] == []
    assert page.dialogs() == []
    entry = page.wait_for(page.press_run())
    page.picture(tmp_path / "after.png")
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    assert [node for node in page.nodes() if node["errors"]] == []
    assert page.dialogs() == [] and page.complaints == []
    saved, = [item for output in entry["outputs"].values() for item in output.get("images", [])]
    with av.open(str(server.base / "output" / saved["subfolder"] / saved["filename"])) as video:
        assert video.streams.video[0].average_rate == 8
        frames = list(video.decode(video=0))
    assert (len(frames), frames[0].width, frames[0].height) == (29, 64, 64)


def test_frames_equal_the_engines(server, succeed, graph, tmp_path):
    """Every stage's frames against `python -m show1_engine generate`; fewer frames and steps than the template's."""
    arguments = ["--seed", "7"]
    saved = {}
    for key, node in list(graph.prompt.items()):
        if node["class_type"] not in STAGES:
            continue
        frames, prefix = STAGES[node["class_type"]]
        node["inputs"] |= {"steps": 4, "seed": 7} | ({"num_frames": 5} if frames == "keyframes" else {})
        for name, value in node["inputs"].items():
            if name in ("width", "height", "num_frames", "steps", "cfg", "noise_level", "strength"):
                arguments += [f"--{prefix}-{name.replace('_', '-')}", str(value)]
        graph.prompt[f"save-{frames}"] = {"class_type": "TestSaveFrames",
                                          "inputs": {"images": [key, 0], "file": f"{frames}.safetensors"}}
        saved[frames] = server.base / "output" / f"{frames}.safetensors"
    texts = {node["_meta"]["title"]: node["inputs"] for node in graph.prompt.values() if "_meta" in node}
    succeed(graph)

    file = tmp_path / "frames.safetensors"
    subprocess.run([sys.executable, "-m", "show1_engine", "generate", "--prompt", texts["Prompt"]["value"],
                    "--negative-prompt", texts["Negative prompt: expert"]["text"], "--device", "cpu",
                    "--frames-out", file, *arguments], cwd=PACK, check=True)
    expected = load_file(file)
    differences = {name: (load_file(path)["frames"] - expected[name]).abs().max() for name, path in saved.items()}
    assert max(differences.values()) < TOLERANCE, differences
