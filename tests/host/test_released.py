"""What a release has promised stays: the nodes' interface, and the graphs that were shipped with
it.

SHOW1_RECORD=1 freezes what is there now: new nodes and appended inputs go into interface.json, the
templates, in API form, into released/VERSION. To be done once for a release, and never for a
version that is out.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from comfyui_server import PACK, ui_to_api
from graphs import Graph

from show1_engine.video import write_mp4

HERE = Path(__file__).resolve().parent
# SHOW1_INTERFACE: an earlier state of interface.json, to compare with that.
INTERFACE, RELEASED = (
    Path(os.environ.get("SHOW1_INTERFACE") or HERE / "interface.json"),
    HERE / "released",
)
ON_THIS_MACHINE = ("model_name", "name", "lora_name")  # combos of what lies on the disk
recording = pytest.mark.skipif("SHOW1_RECORD" not in os.environ, reason="SHOW1_RECORD is not set")


def frozen(info: dict) -> dict:
    """What saved graphs and scripts rely on in a node of /object_info."""
    inputs = {
        kind: {
            name: frozen_input(name, *spec) for name, spec in info["input"].get(kind, {}).items()
        }
        for kind in ("required", "optional")
    }
    return inputs | {
        "outputs": [list(pair) for pair in zip(info["output"], info["output_name"])],
        "output_node": info["output_node"],
    }


def frozen_input(name: str, kind: str | list, about: dict | None = None) -> dict:
    about = dict(about or {})
    if isinstance(kind, list):
        kind, about["options"] = "COMBO", kind
    kept = ("options", "default", "min", "max") if name not in ON_THIS_MACHINE else ()
    return {"type": kind} | {key: about[key] for key in kept if key in about}


def changes(old: dict, new: dict) -> list[str]:
    """What in a node's frozen form is not as it was; optional inputs, combo options, types and
    wider ranges may be added."""
    found = [key for key in ("outputs", "output_node") if old[key] != new[key]]
    if list(old["required"]) != list(new["required"]):
        found.append("required inputs")
    if list(old["optional"]) != list(new["optional"])[: len(old["optional"])]:
        found.append("optional inputs")
    now = new["required"] | new["optional"]
    return found + [
        name
        for name, spec in (old["required"] | old["optional"]).items()
        if name not in now or not accepts(now[name], spec)
    ]


def accepts(new: dict, old: dict) -> bool:
    """Whether every value that the old input took is taken by the new one, and none given means the
    same.
    """
    types = [set(spec["type"].split(",")) for spec in (old, new)]  # "IMAGE,VIDEO" takes either
    return (
        types[0] <= types[1]
        and new.get("default") == old.get("default")
        and set(old.get("options", ())) <= set(new.get("options", ()))
        and new.get("min", 0) <= old.get("min", 0)
        and new.get("max", 0) >= old.get("max", 0)
    )


@pytest.fixture(scope="module")
def current(server) -> dict:
    return {
        name: frozen(info)
        for name, info in server.object_info().items()
        if name.startswith("Show1")
    }


@recording
def test_record(server, current):
    interface = json.loads(INTERFACE.read_text()) if INTERFACE.exists() else {}
    assert [
        (name, found) for name, node in interface.items() if (found := changes(node, current[name]))
    ] == []
    INTERFACE.write_text(written(current))
    version = next(
        line.split('"')[1]
        for line in (PACK / "pyproject.toml").read_text().splitlines()
        if line.startswith("version")
    )
    (RELEASED / version).mkdir(parents=True, exist_ok=True)
    for file in (PACK / "workflows").glob("*.json"):
        prompt = ui_to_api(json.loads(file.read_text()), server.object_info())
        (RELEASED / version / file.name).write_text(json.dumps(prompt, indent=1) + "\n")


def written(interface: dict) -> str:
    """JSON with a line for each input."""

    def lines(items: dict) -> str:
        return (
            "{"
            + ",".join(
                f"\n   {json.dumps(key)}: {json.dumps(value)}" for key, value in items.items()
            )
            + "}"
        )

    nodes = [
        f' {json.dumps(name)}: {{\n  "required": {lines(node["required"])},\n  "optional": '
        f'{lines(node["optional"])},\n  "outputs": {json.dumps(node["outputs"])},'
        '\n  "output_node": '
        f"{json.dumps(node['output_node'])}}}"
        for name, node in sorted(interface.items())
    ]
    return "{\n" + ",\n".join(nodes) + "\n}\n"


@pytest.mark.parametrize("name", json.loads(INTERFACE.read_text()) if INTERFACE.exists() else [])
def test_interface(current, name):
    assert name in current, f"the node {name} is gone"
    assert changes(json.loads(INTERFACE.read_text())[name], current[name]) == []


def test_what_counts_as_a_change(current):
    node = current["Show1PixelSR"]

    def altered(kind: str, name: str, **about) -> dict:
        return node | {
            kind: {key: spec | about if key == name else spec for key, spec in node[kind].items()}
        }

    appended = node | {"optional": node["optional"] | {"more": {"type": "INT"}}}
    assert (
        changes(node, node)
        == changes(node, appended)
        == changes(node, altered("required", "steps", max=2000))
        == []
    )
    assert changes(appended, node) == ["optional inputs", "more"]
    assert changes(node, altered("required", "images", type="IMAGE,VIDEO")) == []
    assert changes(altered("required", "images", type="IMAGE,VIDEO"), node) == ["images"]
    assert changes(node, altered("required", "steps", max=10)) == ["steps"]
    assert changes(node, altered("optional", "scale", default=2.0)) == ["scale"]
    assert changes(node, altered("optional", "color_match", options=["none"])) == ["color_match"]
    assert changes(node, node | {"required": dict(reversed(node["required"].items()))}) == [
        "required inputs"
    ]
    assert changes(node, node | {"outputs": []}) == ["outputs"]


@pytest.mark.parametrize(
    "file", sorted(RELEASED.glob("*/*.json")), ids=lambda file: f"{file.parent.name}-{file.stem}"
)
def test_shipped_graph_still_runs(server, succeed, file):
    """Few steps, few and small frames; the tests' tiny T5 stands in for the full-size one."""
    write_mp4(server.base / "input" / "clip.mp4", torch.rand(5, 16, 16, 3), 2.0)
    graph = Graph()
    graph.prompt = json.loads(file.read_text())
    less = {"steps": 2, "num_frames": 2, "file": "clip.mp4"}
    for key, node in graph.prompt.items():
        node["inputs"] |= {name: value for name, value in less.items() if name in node["inputs"]}
        if node["inputs"].get("width", 0) > 100:
            node["inputs"] |= {"width": 144, "height": 80}
        if node["class_type"] == "CLIPLoader":
            graph.prompt[key] = {
                "class_type": "Show1LoadTextEncoder",
                "inputs": {"name": "show-1-base"},
            }
    assert any(path.suffix == ".mp4" and path.stat().st_size > 1000 for path in succeed(graph))
