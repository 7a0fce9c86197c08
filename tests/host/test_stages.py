"""Each stage node alone on frames from a video file."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from graphs import FAST, Graph, add_stage, keyframes_only, out, stage_on_frames, stage_on_video

# Neither is a multiple of 4 or 8. Hosts from 0.27 on cannot read a video of less than 16 lines that
# is this narrow.
WIDTH, HEIGHT = 22, 18
COUNTS = [1, 2, 5, 8, 13, 29, 30]


def write_video(path, count: int, fps: int = 6) -> None:
    """Frames of a drifting gradient."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        for i in range(count):
            picture = np.stack([x * 10 + 3 * i, y * 15, x * 0 + 8 * i], -1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def read_video(path) -> tuple[int, int, int, Fraction]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return (
            len(frames),
            frames[0].width,
            frames[0].height,
            container.streams.video[0].average_rate,
        )


@pytest.fixture
def video(server):
    def video(count: int) -> str:
        path = server.base / "input" / f"clip{count}.mp4"
        if not path.exists():
            write_video(path, count)
        return path.name

    return video


@pytest.mark.parametrize("count", COUNTS)
def test_interpolate(succeed, video, count):
    (path,) = succeed(stage_on_video("Show1Interpolate", video(count)))
    assert read_video(path)[:3] == (4 * (count - 1) + 1, WIDTH, HEIGHT)


@pytest.mark.parametrize("count", COUNTS)
def test_pixel_sr(succeed, video, count):
    (path,) = succeed(stage_on_video("Show1PixelSR", video(count)))
    assert read_video(path)[:3] == (count, 4 * WIDTH, 4 * HEIGHT)


@pytest.mark.parametrize("count", COUNTS)
def test_latent_expert_sr(succeed, video, count):
    (path,) = succeed(stage_on_video("Show1LatentExpertSR", video(count), width=76, height=50))
    assert read_video(path)[:3] == (count, 76, 50)


@pytest.mark.parametrize("count", [1, 2, 5, 8, 13])
def test_keyframes(frames_of, count):
    graph = Graph()
    images = add_stage(graph, "Show1Keyframes", num_frames=count, width=WIDTH, height=HEIGHT)
    graph.add("TestSaveFrames", images=images, file="out.safetensors")
    assert frames_of(graph).shape == (count, HEIGHT, WIDTH, 3)


def test_interpolation_multiplies_the_rate(succeed, video):
    """Keyframes at 6 fps become a video of the same length in seconds: F - 1 intervals of four
    steps each.
    """
    graph = Graph()
    parts = graph.add("GetVideoComponents", video=graph.add("LoadVideo", file=video(5)))
    images = add_stage(graph, "Show1Interpolate", parts, fps=out(parts, 2))
    video_link = graph.add("CreateVideo", images=images, fps=out(images, 1))
    graph.add("SaveVideo", video=video_link, filename_prefix="video", format="auto", codec="auto")
    (path,) = succeed(graph)
    assert read_video(path)[3] == 24


@pytest.mark.parametrize("stage", list(FAST)[1:])
def test_same_seed_gives_the_same_frames(frames_of, put_frames, stage):
    """Also after another seed ran in between, so that nothing comes out of a cache."""
    file = put_frames(torch.rand(3, 16, 24, 3, generator=torch.Generator().manual_seed(0)))
    first = frames_of(stage_on_frames(stage, file, seed=11))
    other = frames_of(stage_on_frames(stage, file, seed=12))
    again = frames_of(stage_on_frames(stage, file, seed=11))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("stage", list(FAST)[1:])
def test_alpha_is_kept(frames_of, put_frames, stage):
    frames = torch.rand(3, 16, 24, 4, generator=torch.Generator().manual_seed(0))
    assert frames_of(stage_on_frames(stage, put_frames(frames, "rgba.safetensors"))).shape[-1] == 4


def test_a_second_queue_loads_nothing(run):
    """Another seed: the stage works again, on the models and texts that are there."""
    first, again = keyframes_only(seed=901), keyframes_only(seed=902)
    assert run(first).status == "success"
    seen = run(again)
    kinds = {key: node["class_type"] for key, node in again.prompt.items()}
    anew = {kinds[key] for key in kinds.keys() - set(seen.cached)}
    assert seen.status == "success" and anew == {"Show1Keyframes", "TestSaveFrames"}


def test_first_frame_by_a_model(run, server, put_frames):
    """IF-II makes the first frame; one progress bar runs over both models' steps."""
    file = put_frames(torch.rand(3, 4, 8, 3, generator=torch.Generator().manual_seed(0)))
    graph = stage_on_frames("Show1PixelSR", file, first_frame_steps=3, seed=21)
    node = next(key for key, value in graph.prompt.items() if value["class_type"] == "Show1PixelSR")
    graph.prompt[node]["inputs"]["first_frame_model"] = graph.add(
        "Show1LoadModel", model_name="IF-II-L-v1.0"
    )
    result = run(graph)
    assert result.status == "success", result.message
    assert [value for value, total in result.progress[node] if total == 5] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "fp8_e4m3fn"])
def test_weight_dtypes(frames_of, dtype):
    """Stored so, the keyframes stay close to fp32's: far closer than another seed's."""

    def frames(dtype: str, seed: int) -> torch.Tensor:
        graph = Graph()
        images = add_stage(graph, "Show1Keyframes", seed=seed, steps=4, cfg=1.0)
        loader = next(
            value for value in graph.prompt.values() if value["class_type"] == "Show1LoadModel"
        )
        loader["inputs"]["weight_dtype"] = dtype
        graph.add("TestSaveFrames", images=images, file="out.safetensors")
        return frames_of(graph)

    exact, stored, other = frames("fp32", 31), frames(dtype, 31), frames("fp32", 32)
    assert (stored - exact).abs().mean() < 0.25 * (other - exact).abs().mean()
