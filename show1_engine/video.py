"""Video files (PyAV), frame by frame, and pictures."""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from .errors import InputError, Show1Error
from .frames import contact_sheet
from .identity import host

_FASTEST, _USUAL = 1000.0, 8.0  # frames per second: what is believed, and taken where it is not
_FAR = 2.0  # seconds that are sooner decoded than jumped over


def _unheard() -> None:
    """FFmpeg's messages reach no Python, as PyAV has it unless somebody asks for them (torchvision
    does): a decoder's thread would wait for Python, and who closes the file for the thread.
    """
    import av.logging

    av.logging.set_level(None)


class VideoReader:
    """Frames of a video file in order, turned as players turn them; `fps` is its average rate.

    `file`: its bytes, where they do not lie at `path`, which is then only a name.

    Raises InputError, here or on the way, naming the file and how far it could be read.
    """

    def __init__(self, path: Path, file: IO[bytes] | None = None):
        import av

        _unheard()
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
                f"'{path}' cannot be read as a video: {reason(error)}. Convert it, "
                "or give another file"
            ) from error
        self._stream.thread_type = "AUTO"
        rate = float(self._stream.average_rate or 0)
        self.fps = rate if 0 < rate <= _FASTEST else _USUAL
        self.path = path

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[Tensor]:
        """(H, W, 3) float32 in [0, 1]."""
        return map(pixels_of, self._frames())

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
                found.append(pixels_of(nearer[1]))
            if len(found) == len(times):
                break
            before = now
        found += [pixels_of(before[1])] * (len(times) - len(found)) if before else []
        return torch.stack(found)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as its header says, before it is turned."""
        return self._stream.height, self._stream.width

    def _timed(self) -> Iterator[tuple[float, Any]]:
        """Frames with their times; by the average rate where the file tells none."""
        for number, frame in enumerate(self._frames()):
            yield (number / self.fps if frame.time is None else frame.time), frame

    def _frames(self) -> Iterator[Any]:
        """Decoded, the file's first to its last."""
        return self._checked(self._container.decode(self._stream))

    def _checked(self, frames: Iterable[Any]) -> Iterator[Any]:
        """Decoded frames; InputError, with how many there were, where they break off."""
        import av

        count = 0
        try:
            for frame in frames:
                yield frame
                count += 1
        except (av.error.FFmpegError, ValueError) as error:
            if isinstance(error, Show1Error):
                raise
            raise InputError(
                f"'{self.path}' is damaged after {count} frames: {reason(error)}. "
                "Convert it, or give another file"
            ) from error
        if not count:
            raise InputError(f"'{self.path}' holds no frames. Convert it, or give another file")


def pixels_of(frame: Any) -> Tensor:
    """A decoded frame (H, W, 3) in [0, 1]; what has more than 8 bits keeps them."""
    deep = any(component.bits > 8 for component in frame.format.components)
    values = frame.to_ndarray(format="rgb48le" if deep else "rgb24")
    turned = np.rot90(values, round(getattr(frame, "rotation", 0) / 90))
    pixels = torch.from_numpy(turned.astype(np.float32) if deep else turned.copy()).float()
    return pixels / (65535 if deep else 255)


def reason(error: Exception) -> str:
    """FFmpeg's own words, without its number and the file's name."""
    return getattr(error, "strerror", None) or str(error)


class VideoWriter:
    """An H.264 mp4, written frame by frame. The file appears when it is complete.

    Odd sizes lose their last row or column, as yuv420p needs even ones.

    Args:
        rate: frames per second.
        ticks: where frames do not come at an even rate: ticks in a second, in which `write` is told
            when each is shown.
        aspect: width of a pixel over its height.

    Raises InputError, naming the file, where it cannot be written; OSError where the disk is full.
    """

    def __init__(
        self,
        path: Path,
        rate: float | Fraction,
        *,
        ticks: int | None = None,
        aspect: Fraction = Fraction(1),
    ):
        self._path = path
        # Two processes may write the same file, each whole: the later one stands.
        name = f".{path.name}.{host()}-{os.getpid()}.part"
        self._partial = path.with_name(name)
        self._rate = Fraction(rate).limit_denominator(1001)
        self._tick = None if ticks is None else Fraction(1, ticks)
        self._aspect, self._stream, self._count = aspect, None, 0
        self._stack = ExitStack()

    def __enter__(self) -> "VideoWriter":
        import av

        try:
            file = self._stack.enter_context(self._partial.open("wb"))
            self._container = av.open(file, "w", format="mp4")
        except (av.error.FFmpegError, ValueError, OSError) as error:
            self._stack.close()
            raise InputError(
                f"'{self._path}' cannot be written: {reason(error)}. Give another file name"
            ) from error
        self._file = file
        return self

    def write(self, images: Tensor, times: Iterable[int] | None = None) -> None:
        """Appends (F, H, W, 3) frames; with `ticks`, each at its time from 0 on."""
        self.write_bytes(picture_bytes(images), times)

    def write_bytes(self, pictures: np.ndarray, times: Iterable[int] | None = None) -> None:
        """Appends (F, H, W, 3) frames as `picture_bytes` makes them."""
        import av

        if self._stream is None and len(pictures):
            self._open(*pictures.shape[1:3])
        shown = count(self._count) if times is None else times
        for picture, time in zip(pictures, shown):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, self._tick or 1 / self._rate
            self._container.mux(self._stream.encode(frame))
            self._count += 1

    def _open(self, height: int, width: int) -> None:
        # Without mbtree the same small frames always give the same file.
        options = {"crf": "12", "x264-params": "mbtree=0"}
        stream = self._container.add_stream("libx264", rate=self._rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.sample_aspect_ratio = self._aspect
        if self._tick is not None:
            stream.codec_context.time_base = stream.time_base = self._tick
        self._stream = stream

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None and self._stream is not None:
                self._container.mux(self._stream.encode())
                self._container.close()
                self._file.flush()
                os.fsync(self._file.fileno())  # before it gets the name that says it is whole
                self._stack.close()
                self._partial.replace(self._path)
        finally:
            self._abandoned()
            self._partial.unlink(missing_ok=True)

    def _abandoned(self) -> None:
        """Closes what is open. Of a file that is not to be, no fault in its end is of interest."""
        import av

        with suppress(av.error.FFmpegError, ValueError, OSError):
            self._container.close()
        with suppress(OSError):
            self._stack.close()


def picture_bytes(images: Tensor) -> np.ndarray:
    """Frames (F, H, W, C) about [0, 1] as a file holds them: 8 bits, of even size."""
    height, width = (max(2, side - side % 2) for side in images.shape[1:3])
    pixels = images[:, :height, :width, :3]
    return np.stack([(image.clamp(0, 1) * 255).round().byte().numpy() for image in pixels])


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
