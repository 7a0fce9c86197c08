"""A folder of captioned videos, looked through once: what can be read, its scenes, what cannot.

A caption lies beside its video (a.mp4, a.txt), or in the folder's metadata.jsonl or metadata.csv
(`file_name` and `text` or `caption`), as diffusers' and finetrainers' users have them; or both lie
in tar shards as webdataset's do, which are read where they are, in any order.
"""

import csv
import io
import json
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import InputError, printable
from ..progress import Report, silent
from ..sampling.cuts import change, coarse, cuts_among
from ..video import VideoReader

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif")
_METADATA = ("metadata.jsonl", "metadata.csv")
_SMALL = 64  # pixels of a side that a film is looked through at


@dataclass(frozen=True)
class Source:
    """A video that is named, and its caption. In a tar: its place there."""

    name: str
    file: Path
    caption: str
    offset: int = 0
    size: int = 0

    def open(self) -> VideoReader:
        """InputError if it cannot be read."""
        if not self.size:
            return VideoReader(self.file)
        try:
            with self.file.open("rb") as tar:
                tar.seek(self.offset)
                content = tar.read(self.size)
        except OSError as error:
            raise InputError(f"'{self.name}' cannot be read: {error.strerror}") from error
        return VideoReader(Path(self.name), io.BytesIO(content))

    def stamp(self) -> list[int]:
        """What changes when the file does."""
        try:
            found = self.file.stat()
        except OSError:
            return []
        return [found.st_size, found.st_mtime_ns, self.offset, self.size]


@dataclass(frozen=True)
class Scene:
    """A stretch of a video without a cut: times in seconds of its first and last frame."""

    source: Source
    start: float
    stop: float
    height: int
    width: int

    @property
    def name(self) -> str:
        """For errors and logs."""
        return f"{self.source.name} from {self.start:.2f} s"

    def frames(self, times: list[float]) -> Tensor:
        """Those nearest to some ascending times, (n, H, W, 3) in [0, 1]."""
        with self.source.open() as video:
            return video.frames_at(times)


@dataclass
class Footage:
    """What there is to train on. `broken`: by name, what cannot be used and why."""

    scenes: list[Scene] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    videos: int = 0

    def told(self) -> str:
        """Counts, and the first few that are left out."""
        text = f"{self.videos} videos, {len(self.scenes)} scenes"
        if not self.broken:
            return text
        named = "; ".join(f"'{name}': {why}" for name, why in list(self.broken.items())[:3])
        more = f"; and {len(self.broken) - 3} more" if len(self.broken) > 3 else ""
        return f"{text}; {len(self.broken)} left out: {named}{more}"


def sources(data: Path) -> tuple[list[Source], dict[str, str]]:
    """The captioned videos of a folder or a tar by name, and what is left out and why.

    Raises:
        InputError: there is none, or the list of captions cannot be read.
    """
    data = Path(data)
    if not data.exists():
        raise InputError(f"'{data}' does not exist; give a folder of videos with their captions")
    listed = next((data / name for name in _METADATA if (data / name).is_file()), None)
    shards = [data] if data.suffix == ".tar" else sorted(data.glob("*.tar"))
    broken: dict[str, str] = {}
    if listed is not None:
        found = list(_listed(data, listed, broken))
    elif shards:
        found = [source for shard in shards for source in _in_tar(shard, broken)]
    else:
        found = list(_beside(data, broken))
    if not found:
        raise InputError(
            f"'{data}' holds no videos with captions: put a.txt beside each a.mp4, or list them in "
            f"a metadata.jsonl (file_name, text), or give tar shards with both{_named(broken)}"
        )
    return found, broken


def _named(broken: dict[str, str]) -> str:
    return "".join(f"; '{name}': {why}" for name, why in list(broken.items())[:1])


def _beside(folder: Path, broken: dict[str, str]) -> Iterator[Source]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in VIDEOS and path.is_file():
            name, text = str(path.relative_to(folder)), path.with_suffix(".txt")
            try:
                yield Source(name, path, text.read_text(encoding="utf-8").strip())
            except (OSError, UnicodeDecodeError):
                broken[name] = f"no caption '{text.name}' beside it"


def _listed(folder: Path, file: Path, broken: dict[str, str]) -> Iterator[Source]:
    for number, row in enumerate(_rows(file), 1):
        name, caption = row.get("file_name"), row.get("text", row.get("caption"))
        if not isinstance(name, str) or not isinstance(caption, str):
            broken[f"{file.name}, entry {number}"] = "no 'file_name', or no 'text' or 'caption'"
        elif not (folder / name).resolve().is_relative_to(folder.resolve()):
            broken[name] = "it lies outside the folder"
        elif not (folder / name).is_file():
            broken[name] = "there is no such file"
        else:
            yield Source(name, folder / name, caption.strip())


def _rows(file: Path) -> list[dict[str, Any]]:
    """Of a list of captions. InputError says where it cannot be read."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix == ".csv":
            return list(csv.DictReader(io.StringIO(text)))
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise InputError(f"'{file}' cannot be read: {printable(error, 200)}") from error
    return [row if isinstance(row, dict) else {} for row in rows]


def _in_tar(shard: Path, broken: dict[str, str]) -> list[Source]:
    """webdataset's layout: members of one sample share their name up to its first dot."""
    videos: dict[str, tarfile.TarInfo] = {}
    captions: dict[str, str] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in filter(tarfile.TarInfo.isreg, tar):
                folder, _, name = member.name.rpartition("/")
                key = f"{folder}/{name.partition('.')[0]}"
                if Path(name).suffix.lower() in VIDEOS:
                    videos[key] = member
                elif name.endswith((".txt", ".json")) and member.size < 2**20:
                    text = tar.extractfile(member).read().decode("utf-8", "replace")
                    captions[key] = text if name.endswith(".txt") else _of_json(text)
    except (tarfile.TarError, OSError) as error:
        broken[shard.name] = printable(error, 200)
    out = []
    for key, member in videos.items():
        name = f"{shard.name}/{member.name}"
        if captions.get(key):
            caption = captions[key].strip()
            out.append(Source(name, shard, caption, offset=member.offset_data, size=member.size))
        else:
            broken[name] = "no caption of its name in the shard"
    return out


def _of_json(text: str) -> str:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    found = row.get("text", row.get("caption")) if isinstance(row, dict) else None
    return found if isinstance(found, str) else ""


def looked_through(data: Path, record: Path | None = None, report: Report = silent) -> Footage:
    """The footage in a folder or tar. Every video is decoded once, for its scenes and so that a
    broken one is known; `record` keeps what was found, for the next time.
    """
    found, broken = sources(data)
    known = _known(record)
    footage = Footage(broken=broken, videos=len(found) + len(broken))
    entries = {}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        looked = pool.map(lambda source: known.get(_key(source)) or _looked_at(source), found)
        for number, (source, entry) in enumerate(zip(found, looked, strict=True), 1):
            entries[_key(source)] = entry
            report(number, len(found), None)
            if "error" in entry:
                broken[source.name] = entry["error"]
            for start, stop in entry.get("scenes", []):
                scene = Scene(source, start, stop, height=entry["height"], width=entry["width"])
                footage.scenes.append(scene)
    if record is not None and entries != known:
        _write(record, entries)
    return footage


def _key(source: Source) -> str:
    return json.dumps([source.name, *source.stamp()])


def _known(record: Path | None) -> dict[str, Any]:
    if record is None or not record.is_file():
        return {}
    lines = record.read_text(encoding="utf-8").splitlines()
    return {entry.pop("key"): entry for entry in map(json.loads, lines)}


def _write(record: Path, entries: dict[str, Any]) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    part = record.with_suffix(".part")
    lines = (json.dumps({"key": key, **entry}) + "\n" for key, entry in entries.items())
    part.write_text("".join(lines), encoding="utf-8")
    part.replace(record)


def _looked_at(source: Source) -> dict[str, Any]:
    """Its size and scenes, or why it cannot be used."""
    try:
        with source.open() as video:
            height, width = video.size
            looked = [(time, coarse(picture)) for time, picture in video.timed(_SMALL)]
    except InputError as error:
        return {"error": str(error)}
    times, colours = zip(*looked, strict=True)
    changes = [change(before, after) for before, after in zip(colours, colours[1:])]
    edges = [0, *cuts_among(changes), len(times)]
    scenes = [[times[a], times[b - 1]] for a, b in zip(edges, edges[1:])]
    return {"height": height, "width": width, "scenes": scenes}


def fingerprint(footage: Footage) -> str:
    """Names, captions and scenes as a number of 16 digits: which data a model was trained on."""
    import hashlib

    rows = [
        {**asdict(scene), "source": [scene.source.name, scene.source.caption]}
        for scene in footage.scenes
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
