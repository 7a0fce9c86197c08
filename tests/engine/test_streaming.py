"""Video files, piece by piece."""

import av
import numpy as np
import pytest
import reference
import torch

from show1_engine.__main__ import main
from show1_engine.streaming import chained, pieces
from show1_engine.video import VideoReader, VideoWriter


@pytest.fixture
def clip(tmp_path):
    """A function that writes a clip with a tone beside it: its path."""

    def clip(frames: int, width: int = 12, height: int = 8, audio: bool = True, fps: int = 6):
        path = tmp_path / f"clip{frames}.mp4"
        with av.open(str(path), "w") as container:
            video = container.add_stream("libx264", rate=fps)
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            sound = container.add_stream("aac", rate=16000, layout="mono") if audio else None
            for i in range(frames):
                pixels = np.full((height, width, 3), 40 + 3 * (i % 50), np.uint8)
                pixels[:, i % width] = 220
                container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(video.encode())
            if sound is not None:
                tone = np.sin(np.arange(16000 * frames // fps) / 5)[None].astype(np.float32)
                for start in range(0, tone.shape[1], 1024):
                    frame = av.AudioFrame.from_ndarray(
                        tone[:, start : start + 1024].copy(), "fltp", "mono"
                    )
                    frame.rate, frame.pts = 16000, start
                    container.mux(sound.encode(frame))
                container.mux(sound.encode())
        return path

    return clip


def facts(path) -> dict:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        sound = [packet for stream in container.streams.audio for packet in container.demux(stream)]
        out = {
            "size": (video.width, video.height),
            "rate": float(video.average_rate),
            "audio": len(sound),
        }
    with VideoReader(path) as frames:
        return {**out, "frames": sum(1 for _ in frames)}


@pytest.mark.parametrize("count", [1, 2, 6, 7, 8, 12, 13])
def test_pieces_share_one_frame_and_cover_all(count):
    frames = [torch.full((2, 2, 3), float(i)) for i in range(count)]
    parts = list(pieces(frames, 6))
    assert (
        all(torch.equal(a[-1], b[0]) for a, b in zip(parts, parts[1:]))
        and max(map(len, parts)) <= 6
    )
    seen = []
    out = torch.cat(list(chained(lambda piece, last: seen.append(last) or piece, frames)))
    assert torch.equal(out, torch.stack(frames))
    assert seen[0] is None and all(last is not None for last in seen[1:])


def test_upscale_keeps_rate_audio_and_every_frame(clip, tmp_path):
    source, target = clip(70), tmp_path / "out.mp4"
    models = reference.reference_root() / "models"
    assert main(["upscale", str(source), str(target), "--models", str(models), "--steps", "1"]) == 0
    assert facts(target) == {**facts(source), "size": (48, 32)}


def test_upscale_by_another_factor(clip, tmp_path):
    target = tmp_path / "out.mp4"
    models = reference.reference_root() / "models"
    assert (
        main(
            [
                "upscale",
                str(clip(9, audio=False)),
                str(target),
                "--models",
                str(models),
                "--steps",
                "1",
                "--scale",
                "2",
            ]
        )
        == 0
    )
    assert facts(target) == {"size": (24, 16), "rate": 6.0, "frames": 9, "audio": 0}


def test_interpolate_multiplies_the_rate(clip, tmp_path):
    target = tmp_path / "out.mp4"
    models = reference.reference_root() / "models"
    assert (
        main(["interpolate", str(clip(9)), str(target), "--models", str(models), "--steps", "1"])
        == 0
    )
    out = facts(target)
    assert (out["frames"], out["rate"]) == (33, 24.0) and out["audio"] > 0


def test_pieces_give_what_the_whole_gives(clip, monkeypatch, tmp_path):
    """113 frames are two pieces of eight windows: the same frames as in one go."""
    from show1_engine.commands.arguments import UPSCALE
    from show1_engine.loading import load_model
    from show1_engine.runtime import PlainRuntime
    from show1_engine.stages.pixel_sr import PixelSRSettings, pixel_sr

    model = load_model(reference.reference_root() / "models" / "show-1-sr1", PlainRuntime())
    text = torch.zeros(1, 77, model.network.text_width)
    frames = torch.rand(113, 2, 4, 3, generator=torch.Generator().manual_seed(0))
    s = PixelSRSettings(steps=1, cfg=1.0)
    whole = pixel_sr(model, frames, text, text, s)
    parts = torch.cat(
        list(chained(lambda piece, last: pixel_sr(model, piece, text, text, s, last), frames))
    )
    assert (parts - whole).abs().max() < 1e-4 and UPSCALE["cuts"]


def test_a_failed_run_leaves_no_file(clip, tmp_path):
    target = tmp_path / "out.mp4"
    with pytest.raises(RuntimeError), VideoWriter(target, 8) as video:
        video.write(torch.rand(2, 8, 8, 3))
        raise RuntimeError
    assert {path.name for path in tmp_path.iterdir()} == set()


@pytest.mark.parametrize("content", [b"", b"not a video", None])
def test_what_is_no_video_is_one_line(content, tmp_path, capsys):
    source = tmp_path / "clip.mp4"
    if content is not None:
        source.write_bytes(content)
    assert main(["upscale", str(source), str(tmp_path / "out.mp4")]) == 2
    error = capsys.readouterr().err
    assert "clip.mp4" in error and error.count("\n") == 1
