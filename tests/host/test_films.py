"""Films from file to file, in the real host."""

from itertools import count

import av
import numpy as np
import pytest
import torch
from graphs import FAST, MODELS, TEXT_ENCODERS, Graph

seeds = count(4000)
STAGES = {
    "Show1UpscaleVideo": "Show1PixelSR",
    "Show1InterpolateVideo": "Show1Interpolate",
    "Show1RefineVideo": "Show1LatentExpertSR",
}


@pytest.fixture
def film(server):
    """A function that writes a film of two shots, with two sound tracks: its name."""

    def film(frames: int, cut: int, name: str = "film.mp4") -> str:
        with av.open(str(server.base / "input" / name), "w") as out:
            video = out.add_stream("libx264", rate=6)
            video.width, video.height, video.pix_fmt = 12, 8, "yuv420p"
            sounds = [out.add_stream("aac", rate=16000, layout="mono") for _ in range(2)]
            for i in range(frames):
                pixels = np.full((8, 12, 3), 30 if i < cut else 200, np.uint8)
                out.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            out.mux(video.encode())
            for sound in sounds:
                for start in range(0, 16000 * frames // 6, 1024):
                    tone = np.sin(np.arange(start, start + 1024) / 5)[None].astype(np.float32)
                    frame = av.AudioFrame.from_ndarray(tone, "fltp", "mono")
                    frame.rate, frame.pts = 16000, start
                    out.mux(sound.encode(frame))
                out.mux(sound.encode())
        return name

    return film


def graph(node: str, file: str, **settings) -> Graph:
    """LoadVideo -> a film's node -> SaveVideo."""
    graph, stage = Graph(), STAGES[node]
    encoder = graph.add("Show1LoadTextEncoder", name=TEXT_ENCODERS[stage])
    video = graph.add(
        node,
        model=graph.add("Show1LoadModel", model_name=MODELS[stage]),
        video=graph.add("LoadVideo", file=file),
        positive=graph.add("Show1TextEncode", text_encoder=encoder, text="a red circle"),
        **(FAST[stage] | {"seed": next(seeds)} | settings),
    )
    graph.add("SaveVideo", video=video, filename_prefix="film", format="auto", codec="auto")
    return graph


def facts(path) -> dict:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        rate, sound = float(video.average_rate), len(container.streams.audio)
        frames = [(frame.width, frame.height) for frame in container.decode(video)]
    return {"frames": len(frames), "size": frames[0], "rate": rate, "audio": sound}


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("Show1UpscaleVideo", {"frames": 20, "size": (48, 32), "rate": 6.0, "audio": 2}),
        ("Show1InterpolateVideo", {"frames": 77, "size": (12, 8), "rate": 24.0, "audio": 2}),
        ("Show1RefineVideo", {"frames": 20, "size": (72, 48), "rate": 6.0, "audio": 2}),
    ],
)
def test_from_file_to_file(server, succeed, film, node, expected):
    (path,) = succeed(graph(node, film(20, 11), steps=1))
    assert facts(path) == expected
    assert not (server.base / "output" / "show1").exists()  # the parts are gone


def test_frames_in_memory_are_a_film_too(succeed, put_frames):
    work = graph("Show1UpscaleVideo", "none.mp4", steps=1)
    (key,) = (k for k, node in work.prompt.items() if node["class_type"] == "LoadVideo")
    images = work.add("TestLoadFrames", file=put_frames(torch.rand(5, 16, 16, 3)))
    work.prompt[key] = {"class_type": "CreateVideo", "inputs": {"images": images, "fps": 8.0}}
    (path,) = succeed(work)
    assert facts(path) == {"frames": 5, "size": (64, 64), "rate": 8.0, "audio": 0}


def test_a_cancelled_film_goes_on(server, run, film):
    """Cancelled in its second shot: the first plays, and the next run makes only what is left."""
    name = film(16, 8, "long.mp4")
    work = graph("Show1UpscaleVideo", name, steps=8)

    def interrupt(kind: str, data: dict) -> None:
        if kind == "progress" and data["value"] >= 10:
            server.request("POST", "/interrupt", {})

    assert run(work, on_event=interrupt).status == "interrupted"
    (parts,) = (server.base / "output" / "show1").iterdir()
    assert facts(parts / "so-far.mp4")["frames"] == 8
    result = run(work)
    assert result.status == "success", result.message
    assert any("8 of 16 frames are there already" in text for _, text in result.texts)
    assert facts(server.files(result)[0])["frames"] == 16
    assert not parts.exists()


def test_a_spoiled_film_is_one_line(server, run, film):
    path = server.base / "input" / film(40, 8, "spoiled.mp4")
    data = bytearray(path.read_bytes())
    data[len(data) // 4 : len(data) // 2] = bytes(len(data) // 4)
    path.write_bytes(data[: len(data) // 2])
    result = run(graph("Show1UpscaleVideo", "spoiled.mp4", steps=1))
    assert result.status in ("error", "rejected") and "spoiled.mp4" in result.message
