"""Sets of clips and prompts in their official layouts: UCF-101, MSR-VTT, VBench, any folder, a run.

A run is a folder: `jobs.jsonl` (id, prompt, seed: what `batch` reads), `set.json` (where they come
from), and, once generated, `clips/000/ID.mp4` with a sidecar `ID.json` each.
"""

from __future__ import annotations

import csv
import glob
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import InputError, printable
from ..identity import host

VIDEOS = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".gif")
FINAL = "final"  # the stage whose clips lie in clips/
_CLASSES = 101


@dataclass(frozen=True)
class Clip:
    """A video. `id`: unique in its set, safe as a relative path; `start`: of a given window."""

    id: str
    path: Path
    caption: str = ""
    label: str = ""
    start: int | None = None


@dataclass(frozen=True)
class Prompt:
    """What to generate. `about`: the class, the caption's id and the like."""

    id: str
    prompt: str
    seed: int
    about: dict[str, Any] = field(default_factory=dict)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, for the report."""
    return sha256(_bytes(path)).hexdigest()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror or error}") from error


def _lines(path: Path) -> list[str]:
    try:
        return _bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is no UTF-8 text: {error}") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_bytes(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"'{path}' is no JSON: {printable(error, 200)}") from error


# UCF-101


def official_order(classes: Iterable[str]) -> list[str]:
    """Class names as the official classInd.txt orders them: by letters, whatever their case.

    Python's own order puts HammerThrow before Hammering and JumpRope before JumpingJack: prompts
    that are matched by it go to the wrong classes.
    """
    return sorted(classes, key=lambda name: name.lower())


def ucf101_classes(root: Path) -> list[str]:
    """The classes in classInd's order, from `ucfTrainTestlist/classInd.txt`."""
    path = root / "ucfTrainTestlist" / "classInd.txt"
    rows = [line.split() for line in _lines(path) if line.strip()]
    if any(len(row) != 2 or not row[0].isdecimal() for row in rows):
        raise InputError(f"'{path}' is no classInd.txt: lines are 'NUMBER NAME'")
    return [name for _, name in sorted(rows, key=lambda row: int(row[0]))]


def ucf101(root: Path, split: str = "train") -> list[Clip]:
    """UCF-101 as published: `UCF-101/CLASS/v_*.avi` and `ucfTrainTestlist/{train,test}list01.txt`.

    split: train, test, or all.
    """
    names = ("train", "test") if split == "all" else (split,)
    clips = []
    for name in names:
        for line in _lines(root / "ucfTrainTestlist" / f"{name}list01.txt"):
            if not line.strip():
                continue
            file = line.split()[0]
            path = root / "UCF-101" / file
            if not path.is_file():
                raise InputError(f"'{path}' is in {name}list01.txt and not there; unpack UCF-101")
            clips.append(Clip(file.rpartition(".")[0], path, label=file.split("/")[0]))
    return clips


def ucf101_prompts(file: Path, number: int, seed: int) -> tuple[list[Prompt], dict[str, Any]]:
    """`number` prompts, the classes in turn, from a file of 101 lines CLASS<tab>PROMPT.

    Published lists differ, so none is built in; the file's SHA-256 goes into the report.
    """
    rows = [line.split("\t") for line in _lines(file) if line.strip()]
    table = {row[0].strip(): row[1].strip() for row in rows if len(row) == 2}
    if len(rows) != _CLASSES or len(table) != _CLASSES or not all(table.values()):
        raise InputError(
            f"'{file}' has {len(rows)} lines and {len(table)} classes; it must have {_CLASSES} "
            "lines of CLASS<tab>PROMPT, one for each class of UCF-101"
        )
    classes = official_order(table)
    prompts = []
    for i in range(number):
        name = classes[i % _CLASSES]
        prompts.append(_prompt(f"{i:05}", table[name], seed, about={"class": name}))
    return prompts, {"set": "ucf101", "source": file.name, "sha256": file_digest(file)}


def _prompt(name: str, text: str, seed: int, about: dict[str, Any] | None = None) -> Prompt:
    from .clips import number_of

    return Prompt(name, text, number_of(seed, name), about=about or {})


# MSR-VTT


def _msrvtt_captions(file: Path) -> dict[str, list[tuple[str, str]]]:
    """Video -> (caption id, caption) of the test split, in the file's order."""
    data = _json(file)
    if not isinstance(data, dict) or not {"videos", "sentences"} <= data.keys():
        raise InputError(f"'{file}' is no test_videodatainfo.json: it lacks videos or sentences")
    found: dict[str, list[tuple[str, str]]] = {
        str(video["video_id"]): []
        for video in data["videos"]
        if video.get("split", "test") == "test"
    }
    for line in data["sentences"]:
        if line["video_id"] in found:
            found[line["video_id"]].append((str(line["sen_id"]), str(line["caption"])))
    return found


def msrvtt(root: Path) -> list[Clip]:
    """The test videos, with their first caption: `test_videodatainfo.json`, `TestVideo/ID.mp4`."""
    captions = _msrvtt_captions(root / "test_videodatainfo.json")
    clips = []
    for name, texts in captions.items():
        path = root / "TestVideo" / f"{name}.mp4"
        if not path.is_file():
            raise InputError(f"'{path}' is in test_videodatainfo.json and not there")
        clips.append(Clip(name, path, caption=texts[0][1] if texts else ""))
    return clips


def msrvtt_prompts(
    file: Path, number: int | None, seed: int, each: int | None = None
) -> tuple[list[Prompt], dict[str, Any]]:
    """Captions of the test split: every one, or `each` of a video, or the first `number`.

    Videos take turns, so a first part has each video about as often. Empty captions are left out
    and counted: papers say 59,794 where the file has 59,800.
    """
    videos = _msrvtt_captions(file)
    longest = max(map(len, videos.values()), default=0)
    turns = [
        (video, *texts[turn])
        for turn in range(min(longest, each or longest))
        for video, texts in videos.items()
        if turn < len(texts)
    ]
    kept = [(video, sentence, text) for video, sentence, text in turns if text.strip()]
    prompts = [
        _prompt(f"{i:05}", text, seed, about={"video": video, "caption_id": sentence})
        for i, (video, sentence, text) in enumerate(kept[:number])
    ]
    about = {
        "set": "msrvtt",
        "source": file.name,
        "sha256": file_digest(file),
        "captions": len(kept),
        "empty": len(turns) - len(kept),
    }
    return prompts, about


# VBench and own prompts


def vbench_prompts(
    file: Path, seed: int, each: int = 5, flicker: int = 25
) -> tuple[list[Prompt], dict[str, Any]]:
    """`each` prompts of every entry of VBench_full_info.json, `flicker` for temporal flickering."""
    from .vbench import prompts_in, video_name

    prompts = []
    for i, (text, dimensions) in enumerate(prompts_in(file).items()):
        count = flicker if "temporal_flickering" in dimensions else each
        for index in range(count):
            about = {"vbench": video_name(text, index)}
            prompts.append(_prompt(f"{i:05}-{index}", text, seed, about=about))
    return prompts, {"set": "vbench", "source": file.name, "sha256": file_digest(file)}


def file_prompts(
    file: Path, number: int | None, seed: int, each: int = 1
) -> tuple[list[Prompt], dict[str, Any]]:
    """A prompt a line, `each` of them several times with other seeds."""
    lines = [line.strip() for line in _lines(file) if line.strip()][:number]
    if not lines:
        raise InputError(f"'{file}' holds no prompts; write one a line")
    names = [
        (f"{i:05}" + (f"-{k}" if each > 1 else ""), text)
        for i, text in enumerate(lines)
        for k in range(each)
    ]
    prompts = [_prompt(name, text, seed) for name, text in names]
    return prompts, {"set": file.stem, "source": file.name, "sha256": file_digest(file)}


def folder_prompts(
    folder: Path, number: int | None, seed: int
) -> tuple[list[Prompt], dict[str, Any]]:
    """The captions of a folder's videos (folder_clips), each once; those without are left out."""
    clips = [clip for clip in folder_clips(folder) if clip.caption][:number]
    if not clips:
        raise InputError(f"'{folder}' has no captions; write NAME.txt beside each NAME.mp4")
    prompts = [
        _prompt(f"{i:05}", clip.caption, seed, about={"video": clip.id})
        for i, clip in enumerate(clips)
    ]
    texts = "\n".join(clip.caption for clip in clips)
    digest = sha256(texts.encode()).hexdigest()
    return prompts, {"set": folder.name, "source": "captions of a folder", "sha256": digest}


def write_run(folder: Path, prompts: list[Prompt], about: dict[str, Any], seed: int) -> Path:
    """`jobs.jsonl` and `set.json` in a run's folder, each whole or not at all.

    The same again changes nothing; other prompts in a folder that has some are refused.
    """
    jobs = "".join(
        json.dumps({"id": p.id, "prompt": p.prompt, "seed": p.seed}, ensure_ascii=False) + "\n"
        for p in prompts
    )
    details = {p.id: p.about for p in prompts if p.about}
    whole = {**about, "prompts": len(prompts), "seed": seed, "about": details}
    file = folder / "jobs.jsonl"
    if file.exists() and file.read_text(encoding="utf-8") != jobs:
        raise InputError(f"'{file}' holds other prompts; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "set.json", json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    write_text(file, jobs)
    return file


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A partial name for a file that is to be whole or not there, put in its place at the end.

    It is this process's own, as another one may write the same. Whichever is first removes those
    of the others, killed or not.
    """
    partial = path.with_name(f".{path.name}~{host()}-{os.getpid()}")
    yield partial
    try:
        partial.replace(path)
    except FileNotFoundError:
        if not path.is_file():
            raise
    for left in path.parent.glob(f".{glob.escape(path.name)}~*"):
        with suppress(OSError):
            left.unlink()


def write_text(path: Path, text: str) -> None:
    """A file of text, whole or not there."""
    with written(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


# Folders


def jobs_of(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's jobs.jsonl."""
    path, rows = run / "jobs.jsonl", []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows.append({"id": str(row["id"]), "prompt": str(row["prompt"]), **row})
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"'{path}', line {number}: no row with id and prompt") from error
    return rows


def set_of(run: Path) -> dict[str, Any]:
    """What set.json says; empty without it."""
    path = run / "set.json"
    return _json(path) if path.is_file() else {}


def run_clips(run: Path, stage: str = FINAL) -> list[Clip]:
    """Those clips of a run that are there, in the order of its jobs."""
    folder = run / "clips" if stage == FINAL else run / "stages" / stage
    files = {path.stem: path for path in _videos(folder)} if folder.is_dir() else {}
    about = set_of(run).get("about", {})
    return [
        Clip(
            row["id"],
            files[row["id"]],
            caption=row["prompt"],
            label=about.get(row["id"], {}).get("class", ""),
        )
        for row in jobs_of(run)
        if row["id"] in files
    ]


def stages_in(folder: Path) -> list[str]:
    """The stages before the last that have a folder in one, in the cascade's order.

    folder: a run's `stages` (their clips) or `features`.
    """
    from .choices import STAGES

    found = {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()
    known = [name for name in STAGES if name in found]
    return known + sorted(found - {*known, FINAL})


def folder_clips(folder: Path, captions: Path | None = None) -> list[Clip]:
    """All videos below a folder by name; captions from a table, or from beside each video.

    captions: lines NAME<tab>TEXT (.tsv), NAME,TEXT (.csv); a name is a path without extension.
        Else `NAME.json` with "prompt", or `NAME.txt`.
    """
    if not folder.is_dir():
        raise InputError(f"'{folder}' is no folder; give one with videos")
    table = _caption_table(captions) if captions else None
    clips = []
    for path in _videos(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        text = table.get(name, "") if table is not None else _caption_beside(path)
        clips.append(Clip(name, path, caption=text))
    if not clips:
        raise InputError(f"'{folder}' holds no videos ({', '.join(VIDEOS)})")
    names = [clip.id for clip in clips]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"'{folder}' has two videos named '{twice}'; rename one")
    return clips


def _videos(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in VIDEOS and not path.name.startswith(".") and path.is_file():
            yield path


def _caption_table(file: Path) -> dict[str, str]:
    delimiter = "," if file.suffix == ".csv" else "\t"
    rows = [row for row in csv.reader(_lines(file), delimiter=delimiter) if row]
    if any(len(row) != 2 for row in rows):
        raise InputError(f"'{file}': every line must be a name and a text ({delimiter!r} between)")
    return {row[0].strip(): row[1].strip() for row in rows}


def _caption_beside(path: Path) -> str:
    sidecar, text = path.with_suffix(".json"), path.with_suffix(".txt")
    if sidecar.is_file():
        row = _json(sidecar)
        return str(row.get("prompt", "")) if isinstance(row, dict) else ""
    return " ".join(_lines(text)).strip() if text.is_file() else ""
