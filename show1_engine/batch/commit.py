"""The files of a folder of clips. A clip's sidecar is its commit: what has none is not there.

DIR/clips/000/ID.mp4, ID.json       the clip; then its sidecar
DIR/clips/000/ID.failed.json        why it could not be made
DIR/clips/000/.ID~begun             how often it was begun, while it is not done
DIR/stages/STAGE/000/ID.mp4         with --save-stages
DIR/manifest.jsonl, failed.jsonl    all sidecars, all failures: made from the above at the end
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..identity import host
from .jobs import Row

SIDECAR, FAILED = ".json", ".failed.json"
_SAME = ("prompt", "prompts", "seed", "negative_prompt", "settings", "file")
_CHUNK = 2**20


class Clips:
    """A folder of clips."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def video(self, row: Row) -> Path:
        return self.folder / row["file"]

    def write_stage(self, row: Row, name: str, suffix: str, write: Callable[[Path], None]) -> None:
        """Has the frames of a stage written as stages/NAME/000/ID.SUFFIX, whole or not at all."""
        path = self.folder / "stages" / name / self._place(row) / f"{row['id']}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{row['id']}~{host()}-{os.getpid()}{suffix}")
        write(partial)
        partial.replace(path)

    def _place(self, row: Row) -> str:
        """The folder of a row's own files below clips/: its video's, if that is there, too."""
        parts = row["file"].split("/")
        return parts[1] if len(parts) == 3 else "000"

    def _own(self, row: Row, suffix: str) -> Path:
        return self.folder / "clips" / self._place(row) / f"{row['id']}{suffix}"

    def _begun(self, row: Row) -> Path:
        return self.folder / "clips" / self._place(row) / f".{row['id']}~begun"

    def sidecars(self) -> dict[str, Row]:
        """The sidecars of all clips by id."""
        return dict(self._read(SIDECAR))

    def failures(self) -> dict[str, Row]:
        """What is known of clips that could not be made, by id."""
        return dict(self._read(FAILED))

    def _read(self, suffix: str) -> Iterator[tuple[str, Row]]:
        for path in (self.folder / "clips").glob(f"*/*{suffix}"):
            if suffix == SIDECAR and path.name.endswith(FAILED) or path.name.startswith("."):
                continue
            # One that is damaged is none: its clip is made again.
            with suppress(OSError, ValueError, RecursionError):
                facts = json.loads(path.read_text(encoding="utf-8"))
                if isinstance(facts, dict) and path.name == f"{facts.get('id')}{suffix}":
                    yield facts["id"], facts

    def sidecar(self, row: Row) -> Row | None:
        """A row's sidecar; None where it is not there, or damaged."""
        with suppress(OSError, ValueError, RecursionError):
            facts = json.loads(self._own(row, SIDECAR).read_text(encoding="utf-8"))
            return facts if isinstance(facts, dict) else None
        return None

    def is_done(self, row: Row, facts: Row | None, plan: str, verify: bool = False) -> bool:
        """Whether the clip that a sidecar speaks of is whole: its size, or (`verify`) all its
        bytes.

        InputError where it is a clip, but of another row.
        """
        if facts is None or facts.get("plan") != plan:
            return False
        for name in _SAME:
            was, now = facts.get(name), row.get(name)
            if was != now:
                raise InputError(
                    f"'{self.folder}' holds a clip '{row['id']}' whose {name} was {was!r} and is "
                    f"{now!r}; give another folder, or an id of its own to every job"
                )
        video = self.video(row)
        try:
            whole = video.stat().st_size == facts.get("bytes")
            return whole and (not verify or digest_of(video) == facts.get("file_sha256"))
        except OSError:
            return False

    def partial(self, row: Row) -> Path:
        """A name for this process's unfinished video: two attempts may overlap."""
        path = self._own(row, f"~{host()}-{os.getpid()}.mp4")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.with_name(f".{path.name}")

    def begin(self, row: Row) -> int:
        """Counts an attempt at a row, and returns which one it is, from 1."""
        path, before = self._begun(row), 0
        with suppress(OSError, ValueError):
            before = int(path.read_text(encoding="ascii"))
        self._write(path, str(before + 1))
        return before + 1

    def commit(self, row: Row, partial: Path, facts: Row) -> Row:
        """Puts a finished video in its place, then its sidecar: what that says. Nothing is left to
        do behind the sidecar, as a process may end there, and no later one looks at the row again.
        """
        facts = {**facts, "bytes": partial.stat().st_size, "file_sha256": digest_of(partial)}
        video = self.video(row)
        video.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(video)
        self._own(row, FAILED).unlink(missing_ok=True)
        self.clear(row)
        self._write(self._own(row, SIDECAR), json.dumps(facts, ensure_ascii=False))
        return facts

    def fail(self, row: Row, error: str, **more: Any) -> Row:
        """Keeps why a row could not be made: what is kept."""
        facts = {**row, **more, "status": "failed", "error": error}
        self.clear(row)
        self._write(self._own(row, FAILED), json.dumps(facts, ensure_ascii=False))
        return facts

    def forget(self, row: Row) -> None:
        """A row that failed is to be tried again."""
        self._own(row, FAILED).unlink(missing_ok=True)
        self._begun(row).unlink(missing_ok=True)

    def clear(self, row: Row) -> None:
        """Removes what attempts at a row, by whomever, have left unfinished."""
        place = self._place(row)
        for parent in (f"clips/{place}", f"stages/*/{place}"):
            # A video that is being written has one point more, a sidecar its suffix.
            for name in (f".{row['id']}", f"..{row['id']}", f".{row['id']}{SIDECAR}"):
                for path in self.folder.glob(f"{parent}/{name}~*"):
                    path.unlink(missing_ok=True)

    def write_tables(self) -> tuple[int, int]:
        """manifest.jsonl and failed.jsonl, by id: how many rows they have.

        Of several processes that end at once the last one to write has seen what all have made.
        """
        while True:
            done, failed = self.sidecars(), self.failures()
            failed = {name: facts for name, facts in failed.items() if name not in done}
            self._write(self.folder / "manifest.jsonl", _lines(done))
            self._write(self.folder / "failed.jsonl", _lines(failed))
            if self.sidecars().keys() == done.keys():
                return len(done), len(failed)

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}~{host()}-{os.getpid()}")
        try:
            partial.write_text(text, encoding="utf-8", newline="\n")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _lines(rows: dict[str, Row]) -> str:
    texts = (json.dumps(rows[name], ensure_ascii=False) for name in sorted(rows))
    return "".join(f"{text}\n" for text in texts)


def digest_of(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    found = sha256()
    with path.open("rb") as file:
        for chunk in _chunks(file):
            found.update(chunk)
    return found.hexdigest()


def _chunks(file: Any) -> Iterable[bytes]:
    return iter(lambda: file.read(_CHUNK), b"")
