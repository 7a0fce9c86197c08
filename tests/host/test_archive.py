"""The registry's archive in a ComfyUI: its nodes are there, and the template runs from it."""

import json

import av
import pytest
from archive import unpack
from comfyui_server import BASE_FOLDERS, Server, run_prompt, ui_to_api

NODES = ("Show1Keyframes", "Show1Interpolate", "Show1PixelSR", "Show1LatentExpertSR")


@pytest.fixture(scope="module")
def installed(comfyui, pack, tmp_path_factory) -> Server:
    """A ComfyUI whose only pack is the unpacked archive."""
    base = tmp_path_factory.mktemp("installed")
    for folder in BASE_FOLDERS:
        (base / folder).mkdir()
    unpack(pack, base / "custom_nodes" / "show-1")
    with Server(comfyui, base=base, args=("--cpu", "--disable-api-nodes")) as server:
        yield server


def test_its_nodes_are_there(installed):
    boot = installed.log_text().partition("Starting server")[0]
    assert "/custom_nodes/show-1" in boot and "(IMPORT FAILED)" not in boot
    info = installed.object_info()
    assert [name for name in NODES if name not in info] == []
    assert not any(name.startswith("Test") and "Frames" in name for name in info)
    assert installed.get("/api/i18n")["zh"]["nodeDefs"].keys() >= set(NODES)
    assert installed.request("GET", "/extensions/show-1/docs/Show1Keyframes.md")[0] == 200
    assert len(installed.get("/api/workflow_templates")["show-1"]) >= 5


def test_the_template_runs_from_it(installed):
    """As it is served, with the bundled models; fewer steps than it has."""
    address = "/api/workflow_templates/show-1/Show-1%20Text%20to%20Video.json"
    prompt = ui_to_api(json.loads(installed.request("GET", address)[1]), installed.object_info())
    for node in prompt.values():
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = 2
    run = run_prompt(installed, prompt)
    assert run.status == "success", f"{run.message}\n{installed.log_tail()}"
    video = next(path for path in installed.files(run) if path.suffix == ".mp4")
    with av.open(str(video)) as container:
        assert len(list(container.decode(video=0))) == 29
