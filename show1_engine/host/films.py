"""Films in ComfyUI: the file behind a VIDEO, and where a film is made."""

import logging
import os
import re
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..films.film import Film, make
from ..films.identity import digest
from ..films.source import identity
from ..films.steps import Step
from .ui import ComfyReport, show_text

log = logging.getLogger(__name__)

_FOLDER = "show1"  # below the output folder: parts outlive the host, whose temp folder does not
_SHORTER = 0.02  # seconds
_LONGEST = 80  # characters of a film's name


def source_file(stage: str, video: Any) -> Path:
    """The file of a VIDEO. One that is in memory, or a part of a file, is written to temp."""
    from comfy_api.latest import InputImpl

    source = None
    if isinstance(video, InputImpl.VideoFromFile) and not _trimmed(video):
        source = video.get_stream_source()
    if isinstance(source, (str, os.PathLike)):
        return Path(source)
    partial = temp_file("source.part.mp4")
    try:
        if source is None:
            video.save_to(str(partial))
        else:
            partial.write_bytes(source.getbuffer())
        name = digest(identity(partial))
        path = partial.with_name(f"show1-source-{name}.mp4")
        partial.replace(path)
    except OSError as error:
        raise InputError(
            f"{stage}: 'video' cannot be kept in '{partial.parent}': {error}"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def made(stage: str, video: Any, steps: list[Step], **how: Any) -> Path:
    """Makes a film of a VIDEO by the steps, with the running node's progress: the mp4 in temp.

    `how`: cuts, stretch, fps of films.film.Film. Where it is cancelled, what there is stays in
    output/show1, and the same node goes on from there.
    """
    import folder_paths

    source = source_file(stage, video)
    stem = re.sub(r"[^\w .()-]", "_", source.stem)[:_LONGEST]
    name = f"{stem}-{'-'.join(step.name for step in steps)}"
    parts = f"{name}-{digest(str(source))[:6]}.mp4.parts"
    folder = Path(folder_paths.get_output_directory()) / _FOLDER
    film = Film(
        source=source,
        target=temp_file(f"{name}.mp4"),
        folder=folder / parts,
        say=_say,
        **how,
    )
    make(film, steps, ComfyReport(unit="frame"))
    if not any(folder.iterdir()):
        folder.rmdir()
    return film.target


def temp_file(name: str) -> Path:
    """A file of that name, with a number of its own, in the host's temp folder."""
    import folder_paths

    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"show1-{os.urandom(4).hex()}-{name}"


def _say(text: str) -> None:
    """On the node, and in the log, where it stays."""
    log.warning("%s", text)
    show_text(text)


def _trimmed(video: Any) -> bool:
    """Whether a VIDEO is only a part of its file. Newer hosts say so; those between can make such
    a one, and tell it by its length alone.
    """
    window = getattr(video, "get_active_trim_window", None)
    if window is not None:
        return any(window())
    source = video.get_stream_source() if hasattr(video, "as_trimmed") else None
    if not isinstance(source, str):
        return False
    import av

    with av.open(source, metadata_errors="ignore") as whole:
        length = (whole.duration or 0) / 1e6
    return video.get_duration() < length - _SHORTER
