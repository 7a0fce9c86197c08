"""Video files (PyAV), frame by frame, and pictures."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from .errors import InputError, Show1Error, printable
from .frames import contact_sheet

log = logging.getLogger(__name__)


_FASTEST, _USUAL = 1000.0, 8.0  # frames per second: what is believed, and taken where it is not
_FAR = 2.0  # seconds that are sooner decoded than jumped over


class VideoReader:
    """Frames of a video file in order, turned as players turn them; `fps` is its average rate.

    `file`: its bytes, where they do not lie at `path`, which is then only a name.

    Raises InputError, here or on the way, naming the file and how far it could be read.
    """

    def __init__(self, path: Path, file: IO[bytes] | None = None):
        import av

        self._stack = ExitStack()
        try:
            # Opened here: a name may be of any bytes, and is no address.
            file = self._stack.enter_context(file or path.open("rb"))
            # Tags of any encoding: nobody reads them here.
            opened = av.open(file, metadata_errors="ignore")
            self._container = self._stack.enter_context(opened)
            self._stream = self._container.streams.video[0]
        except (av.error.FFmpegError, LookupError, ValueError, OSError) as error:
            self._stack.close()
            raise InputError(
                f"'{path}' cannot be read as a video: {_reason(error)}. Convert it, "
                "or give another file"
            ) from error
        self._stream.thread_type = "AUTO"
        rate = float(self._stream.average_rate or 0)
        self.fps = rate if 0 < rate <= _FASTEST else _USUAL
        self.path = path

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[Tensor]:
        """(H, W, 3) float32 in [0, 1]."""
        return self._decoded(_pixels)

    def timed(self, small: int) -> Iterator[tuple[float, Tensor]]:
        """Every frame's time in seconds, and a picture (small, small, 3) of it in [0, 1]."""
        for time, frame in self._timed():
            tiny = frame.reformat(width=small, height=small, format="rgb24", interpolation="AREA")
            yield time, torch.from_numpy(tiny.to_ndarray()).float() / 255

    def frames_at(self, times: list[float]) -> Tensor:
        """The frames nearest to some ascending times in seconds, (len(times), H, W, 3); of a time
        past the end the last frame. What lies far before the first time is not decoded.
        """
        if times[0] > _FAR and self._stream.time_base:
            self._container.seek(int((times[0] - 1) / self._stream.time_base), stream=self._stream)
        found: list[Tensor] = []
        before: tuple[float, Any] | None = None
        for now in self._timed():
            while len(found) < len(times) and now[0] >= times[len(found)]:
                wanted = times[len(found)]
                nearer = before if before and wanted - before[0] < now[0] - wanted else now
                found.append(_pixels(nearer[1]))
            if len(found) == len(times):
                break
            before = now
        found += [_pixels(before[1])] * (len(times) - len(found)) if before else []
        return torch.stack(found)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as its header says, before it is turned."""
        return self._stream.height, self._stream.width

    def _timed(self) -> Iterator[tuple[float, Any]]:
        """Frames with their times; by the average rate where the file tells none."""
        for count, frame in enumerate(self._decoded()):
            yield (count / self.fps if frame.time is None else frame.time), frame

    def _decoded(self, made: Callable[[Any], Any] = lambda frame: frame) -> Iterator[Any]:
        """What is `made` of every frame."""
        import av

        count = 0
        try:
            for frame in self._container.decode(self._stream):
                yield made(frame)
                count += 1
        except (av.error.FFmpegError, ValueError) as error:
            if isinstance(error, Show1Error):
                raise
            raise InputError(
                f"'{self.path}' is damaged after {count} frames: {_reason(error)}. "
                "Convert it, or give another file"
            ) from error
        if not count:
            raise InputError(f"'{self.path}' holds no frames. Convert it, or give another file")


def _pixels(frame: Any) -> Tensor:
    """A decoded frame (H, W, 3) in [0, 1]; what has more than 8 bits keeps them."""
    deep = any(component.bits > 8 for component in frame.format.components)
    values = frame.to_ndarray(format="rgb48le" if deep else "rgb24")
    turned = np.rot90(values, round(getattr(frame, "rotation", 0) / 90))
    pixels = torch.from_numpy(turned.astype(np.float32) if deep else turned.copy()).float()
    return pixels / (65535 if deep else 255)


def _reason(error: Exception) -> str:
    """FFmpeg's own words, without its number and the file's name."""
    return getattr(error, "strerror", None) or str(error)


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

        try:
            opened = av.open(str(self._partial), "w", format="mp4")
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise InputError(
                f"'{self._path}' cannot be written: {_reason(error)}. Give another file name"
            ) from error
        self._container = self._stack.enter_context(opened)
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

        file = stack.enter_context(source.open("rb"))
        container = stack.enter_context(av.open(file, metadata_errors="ignore"))
        self._target, self._source = target, container.streams.audio[:1]
        self._container, self._stream = container, None
        try:
            if self._source:
                self._stream = target.add_stream_from_template(self._source[0])
        except (av.error.FFmpegError, ValueError) as error:
            log.warning(
                "The sound of '%s' is left out: an mp4 cannot hold it (%s).",
                printable(source, 300),
                _reason(error),
            )

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


def read_frames(path: Path) -> Tensor:
    """All frames of a video file or picture, (F, H, W, 3) in [0, 1]."""
    with VideoReader(path) as video:
        return torch.stack(list(video))
