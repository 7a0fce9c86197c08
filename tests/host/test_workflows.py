"""Every template and blueprint of the pack, as a user meets it in the editor."""

import json
import urllib.parse
from pathlib import Path

import av
import PIL.Image
import pytest
import torch
from comfyui_server import PACK, ui_to_api
from layout import BOXES, in_the_way

from show1_engine.video import write_mp4

TEMPLATES = sorted((PACK / "workflows").glob("*.json"))
BLUEPRINTS = sorted((PACK / "subgraphs").glob("*.json"))
SHOWN = {  # frames, width and height of the saved video; the clip put in has 5 frames of 16x16
    "Show-1 Text to Video": (29, 160, 96),
    "Show-1 Upscale Any Video": (5, 64, 64),
    "Show-1 Upscale x4": (5, 64, 64),
    "Show-1 Interpolate Any Video": (17, 16, 16),
    "Show-1 Train and Use a Motion LoRA": (29, 16, 16),
    "Show-1 Long Video with a Prompt Schedule": (93, 160, 96),
    "Show-1 Image to Video and Extend": (45, 160, 96),
    "Show-1 Draft Many, Keep One": (29, 160, 96),
}
LOADERS = {"Show1LoadModel", "Show1LoadTextEncoder"}
WIRE = """() => {
    const graph = window.app.graph, stage = graph.nodes[0], add = (type) => {
        const node = window.LiteGraph.createNode(type); graph.add(node); return node };
    const save = add('SaveVideo');
    if (stage.outputs[0].type === 'VIDEO') { stage.connect(0, save, 0); return }
    const load = add('LoadVideo'), parts = add('GetVideoComponents'), create = add('CreateVideo');
    load.connect(0, parts, 0); parts.connect(0, stage, 0);
    stage.connect(0, create, 0); create.connect(0, save, 0) }"""


# In Nodes 2.0 the editor says so by itself, and that a video has not been chosen yet.
EDITORS_OWN = ("legacy design", "Video failed to load")
# What a person reads beside each widget of the first node.
LABELS = "() => window.app.graph.nodes[0].widgets.map((widget) => widget.label ?? widget.name)"
ENTER = """() => window.app.canvas.openSubgraph(
    window.app.graph.nodes[0].subgraph, window.app.graph.nodes[0])"""


def named(files: list[Path]) -> dict:
    return {"argvalues": files, "ids": [file.stem for file in files]}


@pytest.fixture(scope="module")
def clip(server) -> str:
    """A video in the input folder; and ComfyUI's own picture, which a source tree brings along."""
    PIL.Image.new("RGB", (32, 32), "grey").save(server.base / "input" / "example.png")
    write_mp4(server.base / "input" / "clip.mp4", torch.rand(5, 16, 16, 3), 2.0)
    return "clip.mp4"


@pytest.fixture(scope="module")
def editor(browser, clip):
    with browser.page() as page:
        yield page


@pytest.fixture
def page(editor):
    """One page for all of this file: it takes seconds to open."""
    editor.blank()
    return editor


def linked_models(workflow: dict) -> set[str]:
    """The files that the editor offers to download if they are missing."""
    return {
        model["name"]
        for node in workflow["nodes"]
        for model in node["properties"].get("models", [])
    }


def runs_here(workflow: dict) -> bool:
    return all(
        node["widgets_values"][0].startswith(("micro/", "micro2/"))
        for node in workflow["nodes"]
        if node["type"] in LOADERS
    )


def run_from_the_editor(server, page, clip: str, picture: Path) -> list[av.VideoFrame]:
    """Run pressed, with few steps: no complaint, and a video that plays."""
    page.set_widgets("steps", 2)
    page.set_widgets("file", clip)
    entry = page.wait_for(page.press_run())
    page.picture(picture)
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    assert [node for node in page.nodes() if node["errors"]] == []
    assert page.dialogs() == [] and page.complaints == []
    (saved,) = [
        item
        for output in entry["outputs"].values()
        for item in output.get("images", [])
        if item["type"] == "output" and item["filename"].endswith(".mp4")
    ]
    with av.open(str(server.base / "output" / saved["subfolder"] / saved["filename"])) as video:
        return list(video.decode(video=0))


def shown(frames: list[av.VideoFrame]) -> tuple[int, int, int]:
    return len(frames), frames[0].width, frames[0].height


@pytest.mark.parametrize("file", **named(TEMPLATES))
def test_template(server, page, clip, file, tmp_path):
    """Opened, compared with its API form, run: no red node, no complaint, no dialog but the one for
    linked models.
    """
    workflow = json.loads(file.read_text())
    page.load(workflow)
    missing = linked_models(workflow)
    # Newer editors mark the node of a file that is to be downloaded, beside the dialog.
    marked = {str(node["id"]) for node in workflow["nodes"] if node["properties"].get("models")}
    red = {str(node["id"]) for node in page.nodes() if not node["known"] or node["errors"]}
    assert red <= marked
    for dialog in page.dialogs():
        assert missing and "Missing Models" in dialog, dialog  # some editors name them elsewhere
    assert page.complaints == []
    assert without_file(page.api_prompt()) == without_file(
        ui_to_api(workflow, server.object_info())
    )
    if runs_here(workflow):
        assert page.dialogs() == []
        assert (
            shown(run_from_the_editor(server, page, clip, tmp_path / "after.png"))
            == SHOWN[file.stem]
        )


def without_file(prompt: dict) -> dict:
    """The video is the user's; the editor adds its own preview of it."""
    for node in prompt.values():
        if node["class_type"] == "LoadVideo":
            node["inputs"] = {}
    return prompt


@pytest.mark.parametrize("file", **named(TEMPLATES))
def test_template_is_offered(server, file):
    """Listed, served, with a thumbnail; only core's nodes and ours; notes inside."""
    workflow, info = json.loads(file.read_text()), server.object_info()
    assert file.stem in server.get("/api/workflow_templates")["show-1"]
    address = f"/api/workflow_templates/show-1/{urllib.parse.quote(file.stem)}"
    assert server.get(f"{address}.json") == workflow
    status, picture = server.request("GET", f"{address}.jpg")
    assert status == 200 and picture.startswith(b"\xff\xd8")
    types = {node["type"] for node in workflow["nodes"]}
    assert "MarkdownNote" in types
    for kind in types - {"MarkdownNote", "Note"}:
        assert kind.startswith("Show1") or info[kind]["python_module"].split(".")[0] in (
            "nodes",
            "comfy_extras",
        ), kind


def inner_prompt(file: Path, object_info: dict) -> dict:
    """The graph inside a blueprint in API form; what comes in from outside is left as it is
    saved.
    """
    (graph,) = json.loads(file.read_text())["definitions"]["subgraphs"]
    outside = {link["id"] for link in graph["links"] if link["origin_id"] < 0}
    for node in graph["nodes"]:
        for entry in node["inputs"]:
            entry["link"] = None if entry["link"] in outside else entry["link"]
    links = [[link["id"], link["origin_id"], link["origin_slot"]] for link in graph["links"]]
    return ui_to_api({"nodes": graph["nodes"], "links": links}, object_info)


def constants(prompt: dict) -> dict:
    """Every node's values that are not links. A node inside a subgraph is called OUTER:INNER."""
    return {
        key.split(":")[-1]: {
            name: value for name, value in node["inputs"].items() if not isinstance(value, list)
        }
        for key, node in prompt.items()
    }


@pytest.mark.parametrize("file", **named(BLUEPRINTS))
def test_blueprint_is_described(file):
    """On a shelf of the library, found by what it does; every input called the same by every
    frontend.
    """
    blueprint = json.loads(file.read_text())
    (graph,) = blueprint["definitions"]["subgraphs"]
    assert graph["category"].startswith("Video generation and editing/")
    assert (
        graph["description"] == blueprint["extra"]["BlueprintDescription"]
    )  # older frontends read the latter
    (outside,) = blueprint["nodes"]
    for part in (graph, outside):
        slots = part["inputs"] + part["outputs"]
        assert [slot["name"] for slot in slots] == [slot["label"] for slot in slots]


@pytest.mark.parametrize("file", **named(BLUEPRINTS))
def test_blueprint(server, page, clip, file, tmp_path):
    """Found by the node search, put into an empty graph, wired to a video and run."""
    assert file.stem in {entry["name"] for entry in server.get("/api/global_subgraphs").values()}
    assert file.read_text().isascii()  # 0.3.75 reads it in the system's encoding
    page.add_by_search(file.stem)
    assert constants(page.api_prompt()) == constants(inner_prompt(file, server.object_info()))
    (outside,) = json.loads(file.read_text())["nodes"]
    expected = [slot["name"] for slot in outside["inputs"] if "widget" in slot]
    assert [label for label in page.page.evaluate(LABELS) if "control" not in label] == expected
    page.page.evaluate(WIRE)
    nodes = page.nodes()
    assert len(nodes) > 1 and all(node["known"] and not node["errors"] for node in nodes)
    assert (
        shown(run_from_the_editor(server, page, clip, tmp_path / "after.png")) == SHOWN[file.stem]
    )


@pytest.fixture
def look(page):
    """A function that switches between the canvas editor and Nodes 2.0, which draws nodes
    as HTML.
    """
    yield lambda newer: page.setting("Comfy.VueNodes.Enabled", newer)
    page.setting("Comfy.VueNodes.Enabled", False)


def complaints(page) -> list[str]:
    return page.complaints + [
        text for text in page.dialogs() if not any(known in text for known in EDITORS_OWN)
    ]


@pytest.mark.parametrize("newer", [False, True], ids=["canvas", "newer"])
@pytest.mark.parametrize("file", **named(TEMPLATES))
def test_nothing_is_in_the_way(page, look, file, newer):
    """No template's nodes overlap, and every node is inside its group, in either look of the
    editor.
    """
    look(newer)
    page.load(json.loads(file.read_text()))
    assert in_the_way(page) == []
    drawn = page.page.evaluate(BOXES)
    assert drawn["elements"] == (len(drawn["nodes"]) if newer else 0)


@pytest.mark.parametrize("newer", [False, True], ids=["canvas", "newer"])
@pytest.mark.parametrize("file", **named(BLUEPRINTS))
def test_nothing_is_in_the_way_inside(page, look, file, newer):
    """The same of the graph that opens when a blueprint's node is entered."""
    look(newer)
    page.load(json.loads(file.read_text()))
    page.page.evaluate(ENTER)
    page.page.wait_for_timeout(1000)
    (graph,) = json.loads(file.read_text())["definitions"]["subgraphs"]
    assert len(page.page.evaluate(BOXES)["nodes"]) == len(graph["nodes"])
    assert in_the_way(page) == []


def test_newer_look_after_a_run(server, page, look, clip, tmp_path):
    """The pictures that a run leaves on the nodes have room there too."""
    look(True)
    page.load(json.loads((PACK / "workflows" / "Show-1 Text to Video.json").read_text()))
    page.set_widgets("steps", 2)
    entry = page.wait_for(page.press_run())
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    assert in_the_way(page) == [] and complaints(page) == []
    page.picture(tmp_path / "newer.png")
