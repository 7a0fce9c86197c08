"""The text-to-video template through the API, against the engine alone. (In the editor:
test_workflows.py.)
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from comfyui_server import PACK, ui_to_api
from graphs import Graph
from safetensors.torch import load_file

from show1_engine.bundled import EDITIONS

NAME = "Show-1 Text to Video"
# Stage node -> the engine's name for its frames, the prefix of its options on the command line.
STAGES = {
    "Show1Keyframes": ("keyframes", "keyframes"),
    "Show1Interpolate": ("interpolated", "interpolate"),
    "Show1PixelSR": ("pixel_sr", "pixel-sr"),
    "Show1LatentExpertSR": ("latent_expert_sr", "expert"),
}
# One level of an 8-bit picture: the host's text encoder rounds otherwise than ours, and sampling
# amplifies that.
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


def test_its_models_are_there(server, graph):
    info = server.object_info()
    for node in graph.prompt.values():
        for name in (
            {"model_name", "name"} & set(node["inputs"])
            if node["class_type"].startswith("Show1Load")
            else ()
        ):
            kind, about = info[node["class_type"]]["input"]["required"][name]
            assert node["inputs"][name] in (kind if isinstance(kind, list) else about["options"])


def test_its_settings_are_those_that_are_measured(graph):
    """`show1_micro evaluate` judges the cascade as the template runs it."""
    own = EDITIONS["micro2"]
    fields = dict(zip(STAGES, ("keyframes", "interpolate", "pixel_sr", "expert"), strict=True))
    for node in graph.prompt.values():
        if node["class_type"] in STAGES:
            field = fields[node["class_type"]]
            wanted = {"preset": "reference"} | own.settings[field] | own.template[field]
            assert {name: node["inputs"][name] for name in wanted} == wanted


def generated(arguments: list[str], file: Path) -> dict[str, torch.Tensor]:
    """Frames of every stage, by the engine's command with the template's models."""
    command = [sys.executable, "-m", "show1_engine", "generate", "--models", "micro2"]
    command += ["--device", "cpu", "--frames-out", str(file), *arguments]
    subprocess.run(command, cwd=PACK, check=True)
    return load_file(file)


def test_frames_equal_the_engines(server, succeed, graph, tmp_path):
    """Every stage's frames against `python -m show1_engine generate`; fewer frames and steps than
    the template's.
    """
    arguments = ["--seed", "7"]
    saved = {}
    for key, node in list(graph.prompt.items()):
        if node["class_type"] not in STAGES:
            continue
        frames, prefix = STAGES[node["class_type"]]
        node["inputs"] |= {"steps": 4, "seed": 7} | (
            {"num_frames": 5} if frames == "keyframes" else {}
        )
        for name, value in node["inputs"].items():
            if name in (
                "width",
                "height",
                "num_frames",
                "steps",
                "cfg",
                "noise_level",
                "strength",
                "preset",
                "sampler",
                "color_match",
            ):
                arguments += [f"--{prefix}-{name.replace('_', '-')}", str(value)]
        graph.prompt[f"save-{frames}"] = {
            "class_type": "TestSaveFrames",
            "inputs": {"images": [key, 0], "file": f"{frames}.safetensors"},
        }
        saved[frames] = server.base / "output" / f"{frames}.safetensors"
    texts = {
        node["_meta"]["title"]: node["inputs"] for node in graph.prompt.values() if "_meta" in node
    }
    succeed(graph)

    arguments += ["--prompt", texts["Prompt"]["value"]]
    arguments += ["--negative-prompt", texts["Negative prompt: expert"]["text"]]
    expected = generated(arguments, tmp_path / "frames.safetensors")
    differences = {
        name: (load_file(path)["frames"] - expected[name]).abs().max()
        for name, path in saved.items()
    }
    assert max(differences.values()) < TOLERANCE, differences
