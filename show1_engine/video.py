"""Video files (PyAV), frame by frame, and pictures."""

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import InputError
from .frames import contact_sheet


class VideoReader:
    """Frames of a video file in order; `fps` is its average rate."""

    def __init__(self, path: Path):
        import av

        try:
            self._container = av.open(str(path))
            self._stream = self._container.streams.video[0]
        except (av.error.FFmpegError, IndexError) as error:
            raise InputError(f"'{path}' cannot be read as a video: {error}") from error
        self._stream.thread_type = "AUTO"
        self.fps = float(self._stream.average_rate or 8)
        self.path = path

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[Tensor]:
        """(H, W, 3) float32 in [0, 1]."""
        for frame in self._container.decode(self._stream):
            yield torch.from_numpy(frame.to_ndarray(format="rgb24")).float() / 255


class VideoWriter:
    """An H.264 mp4, written frame by frame. The file appears when it is complete.

    Odd sizes lose their last row or column, as yuv420p needs even ones. `audio_from` names a file
    whose first audio stream is copied.
    """

    def __init__(self, path: Path, fps: float, audio_from: Path | None = None):
        self._path, self._partial = path, path.with_name(f".{path.name}.part")
        self._fps, self._audio_from = Fraction(fps).limit_denominator(1001), audio_from
        self._stream: Any = None
        self._stack = ExitStack()

    def __enter__(self) -> "VideoWriter":
        import av

        self._container = self._stack.enter_context(av.open(str(self._partial), "w", format="mp4"))
        return self

    def write(self, images: Tensor) -> None:
        """Appends (F, H, W, 3) frames."""
        import av

        height, width = (max(2, side - side % 2) for side in images.shape[1:3])
        if self._stream is None:
            self._open(height, width)
        for image in images:
            pixels = (image[:height, :width, :3].clamp(0, 1) * 255).round().byte().numpy()
            self._container.mux(
                self._stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
            )

    def _open(self, height: int, width: int) -> None:
        self._stream = self._container.add_stream("libx264", rate=self._fps, options={"crf": "12"})
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._audio = (
            _AudioCopy(self._container, self._audio_from, self._stack) if self._audio_from else None
        )

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None and self._stream is not None:
                self._container.mux(self._stream.encode())
                if self._audio is not None:
                    self._audio.copy()
            self._stack.close()
            if kind is None and self._stream is not None:
                self._partial.replace(self._path)
        finally:
            self._partial.unlink(missing_ok=True)


class _AudioCopy:
    """The packets of a file's first audio stream, as they are."""

    def __init__(self, target: Any, source: Path, stack: ExitStack):
        import av

        container = stack.enter_context(av.open(str(source)))
        self._target, self._source = target, container.streams.audio[:1]
        self._stream = target.add_stream_from_template(self._source[0]) if self._source else None
        self._container = container

    def copy(self) -> None:
        if self._stream is None:
            return
        for packet in self._container.demux(self._source[0]):
            if packet.dts is not None:
                packet.stream = self._stream
                self._target.mux(packet)


def write_mp4(path: Path, images: Tensor, fps: float) -> None:
    """Frames (F, H, W, 3) as an H.264 mp4."""
    with VideoWriter(path, fps) as video:
        video.write(images)


def write_sheet(path: Path, images: Tensor, columns: int | None = None) -> None:
    """All frames in one PNG."""
    from PIL import Image

    Image.fromarray(contact_sheet(images, columns).numpy()).save(path)
