"""Fetch a published model, only when asked: resumable, checked byte for byte, never half a model
that looks whole.

Files come into a hidden folder beside the target, which the finders ignore. It takes the target's
name when every file is there and has the published checksum.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import BinaryIO

import torch

from ..errors import Show1Error
from ..progress import duration
from .files import pickles_are_safe
from .hub import Interrupted, RemoteFile, Repository
from .read import read_checkpoint, read_text_encoder
from .registry import (
    SCORER,
    TEXT_ENCODER,
    TOKENIZER,
    DownloadError,
    Published,
    needed_files,
    published,
)

__all__ = ["DownloadError", "Report", "download"]

# report(bytes done, bytes in all, text) is called about ten times a second while bytes come, and
# while waiting. What it raises ends the download; what has come so far is kept for the next time.
Report = Callable[[int, int, str], None]

WAITS = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds before each new try
_HEADWAY = (
    1 << 16
)  # bytes since the first failure that start that row again: fewer, and a broken line has no end
_LONGEST_WAIT = 300.0  # seconds; a hub that asks for more gets none
_ROOM = 200_000_000  # bytes left free on the disk
_LOCK = ".lock"


def silent(done: int, total: int, text: str) -> None:
    """A report() nobody listens to."""


def download(
    name: str,
    into: Path,
    accept_license: bool = False,
    report: Report = silent,
    *,
    endpoint: str | None = None,
    waits: Sequence[float] = WAITS,
) -> Path:
    """The folder `into`/`name` with the published model of that name; fetched if it is not there.

    Args:
        name: one of registry.PUBLISHED.
        into: the folder of models, such as models/show1; made if needed.
        accept_license: the user knows the licence and accepts it. Without it nothing is fetched.
        endpoint: address of the hub; HF_ENDPOINT or huggingface.co by default.

    Raises:
        DownloadError: unknown name, licence not accepted, refused, network, disk, wrong bytes. Run
            again to go on.
    """
    item = published(name)
    target = Path(into) / item.name
    if target.exists():
        return _whole(item, target)
    if not accept_license:
        raise DownloadError(
            f"{item.terms} Nothing was downloaded: to go on, accept the licence by ticking "
            "accept_license (on the command line: --accept-license)."
        )
    try:
        return _Download(item, target, Repository(item, endpoint), report=report, waits=waits).run()
    except OSError as error:  # the network's are translated: this is the disk
        raise DownloadError(
            f"'{target.parent}' cannot be written: {error.strerror or error}. What has come so far "
            "is kept; make room or choose another folder, and run it again."
        ) from error


def _whole(item: Published, folder: Path) -> Path:
    try:
        _verify(item, folder)
    except Show1Error as error:
        raise DownloadError(
            f"'{folder}' is there but is no whole {item.name}: {error} Move it away or delete it, "
            "then run the download again."
        ) from error
    return folder


def _verify(item: Published, folder: Path) -> None:
    """Raises Show1Error unless the folder holds what the cascade reads."""
    needed_files(
        item, (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    )
    if "text_encoder" in item.parts:
        read_text_encoder(folder)
    if (
        item.kind not in (TEXT_ENCODER, TOKENIZER, SCORER)
        and (kind := read_checkpoint(folder).kind) != item.kind
    ):
        raise DownloadError(f"it is a model of kind {kind}, not {item.kind}.")


class _Download:
    def __init__(
        self,
        item: Published,
        target: Path,
        repository: Repository,
        report: Report,
        waits: Sequence[float],
    ):
        self._item, self._target, self._repository, self._waits = item, target, repository, waits
        self._partial = target.with_name(f".partial-{item.name}")
        self._progress = _Progress(report)

    def run(self) -> Path:
        listing = self._listing()
        files = [listing[path] for path in needed_files(self._item, listing)]
        self._check_readable(files)
        self._progress.total = sum(file.size for file in files)
        self._partial.mkdir(parents=True, exist_ok=True)
        with self._alone():
            self._check_room(files)
            for file in files:
                self._fetch(file)
            self._remove_others(files)
            _verify(self._item, self._partial)
        self._progress.tell("complete", now=True)
        (self._partial / _LOCK).unlink(missing_ok=True)
        self._partial.rename(self._target)
        return self._target

    def _listing(self) -> dict[str, RemoteFile]:
        self._progress.tell("asking the hub for its files", now=True)
        for failures in count(1):
            try:
                return self._repository.files()
            except Interrupted as fault:
                self._wait(fault, failures)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps a second download of the same model, in any process, out of the folder."""
        from filelock import FileLock, Timeout

        lock = FileLock(self._partial / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise DownloadError(
                f"{self._item.name} is being downloaded already, by another program"
            ) from error
        except (OSError, NotImplementedError):
            pass  # some network drives have no locks: go on without one
        try:
            yield
        finally:
            lock.release()

    def _check_readable(self, files: list[RemoteFile]) -> None:
        """Gigabytes that nothing here could open are not fetched."""
        if not pickles_are_safe() and any(file.path.endswith(".bin") for file in files):
            raise DownloadError(
                f"{self._item.repo} is published as .bin files, which PyTorch {torch.__version__} "
                "cannot read safely. Update to PyTorch 2.6 or later first"
            )

    def _check_room(self, files: list[RemoteFile]) -> None:
        missing = sum(
            file.size - min(file.size, max(map(_size, self._places(file)))) for file in files
        )
        free = shutil.disk_usage(self._partial).free
        if missing + _ROOM > free:
            raise DownloadError(
                f"{self._item.name} needs {_gigabytes(missing + _ROOM)} of room in "
                f"'{self._target.parent}', where {_gigabytes(free)} are free"
            )

    def _places(self, file: RemoteFile) -> tuple[Path, Path]:
        """Where a file lies when it is complete, and while it comes. The latter names the content,
        so that bytes of an earlier version are never continued.
        """
        path = self._partial / file.path
        return path, path.with_name(f"{path.name}.{file.digest[:12]}.part")

    def _fetch(self, file: RemoteFile) -> None:
        path, part = self._places(file)
        path.parent.mkdir(exist_ok=True)
        if not self._matches(path, file):
            for _ in range(2):  # bytes that were damaged on the disk or the way get a second chance
                self._fill(part, file)
                if self._matches(part, file):
                    break
                part.unlink()
            else:
                raise DownloadError(
                    f"{file.path} of {self._item.repo} came with wrong bytes, twice (its checksum "
                    f"is not {file.digest}); they were thrown away. Something between here and the "
                    "hub alters them: try again, or from another network"
                )
            part.replace(path)
        self._progress.complete(file.size)

    def _matches(self, path: Path, file: RemoteFile) -> bool:
        if not path.is_file() or _size(path) != file.size:
            return False
        hasher = file.hasher()
        with path.open("rb") as data:
            while chunk := data.read(1 << 20):
                hasher.update(chunk)
                self._progress.tell(f"checking {file.path}", file.size)
        return hasher.hexdigest() == file.digest

    def _fill(self, part: Path, file: RemoteFile) -> None:
        """Fetches until the file has its size, over as many connections as it takes."""
        part.touch()
        if _size(part) > file.size:
            part.write_bytes(b"")
        reached, failures = _size(part), 0
        while _size(part) < file.size:
            try:
                self._append(part, file)
            except Interrupted as fault:
                failures += 1
                if _size(part) >= reached + _HEADWAY:
                    reached, failures = _size(part), 1
                self._wait(fault, failures)

    def _append(self, part: Path, file: RemoteFile) -> None:
        """Fetches over one connection, from where the file ends."""
        self._progress.connection_begins()
        with (
            part.open("r+b", buffering=0) as out,
            closing(self._repository.read(file.path, _size(part))) as chunks,
        ):
            end = out.seek(0, os.SEEK_END)
            for position, chunk in chunks:
                if position != end:  # the hub begins anew
                    out.truncate(out.seek(position))
                end = position + _write(out, chunk[: file.size - position])
                self._progress.received(end, len(chunk), file.path)
                if end == file.size:
                    break
            os.fsync(
                out.fileno()
            )  # a checksum of what the system has cached says nothing about a power cut
        if end < file.size:
            raise Interrupted(f"the connection for {file.path} ended early")

    def _wait(self, fault: Interrupted, failures: int) -> None:
        """Waits before try number `failures`, or gives up."""
        if failures > len(self._waits) or fault.wait > _LONGEST_WAIT:
            asked = (
                f", and asks to wait {fault.wait / 60:.0f} min"
                if fault.wait > _LONGEST_WAIT
                else ""
            )
            raise DownloadError(
                f"{self._item.name}: {fault}{asked}. What has come so far is kept: run it again "
                "later to go on from there"
            ) from fault
        until = time.monotonic() + max(self._waits[failures - 1], fault.wait)
        while (left := until - time.monotonic()) > 0:
            self._progress.tell(f"trying again in {left:.0f} s: {fault}")
            time.sleep(min(left, 0.1))

    def _remove_others(self, files: list[RemoteFile]) -> None:
        """Removes what an earlier version of the repository has left in the folder."""
        keep = {self._partial / file.path for file in files} | {self._partial / _LOCK}
        for path in sorted(self._partial.rglob("*"), reverse=True):
            if path.is_file() and path not in keep:
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()


class _Progress:
    """Counts bytes, and tells report() of them at most ten times a second."""

    def __init__(self, report: Report):
        self.total = 1
        self._report, self._told = report, 0.0
        self._before, self._here = (
            0,
            0,
        )  # bytes of the files that are complete, and of the current one
        self._came, self._since = 0, 0.0

    def connection_begins(self) -> None:
        """The speed is measured from here on."""
        self._came, self._since = 0, time.monotonic()

    def received(self, here: int, size: int, path: str) -> None:
        """`size` more bytes of the current file have come, `here` in all."""
        self._came, self._here = self._came + size, here
        if not self._due():
            return
        speed = self._came / max(time.monotonic() - self._since, 1e-3)
        done = self._before + here
        self.tell(
            f"{done / 1e9:.2f} of {self.total / 1e9:.2f} GB, {speed / 1e6:.1f} MB/s, "
            f"{duration((self.total - done) / speed)} left\n{path}"
        )

    def complete(self, size: int) -> None:
        """The current file is complete."""
        self._before, self._here = self._before + size, 0

    def tell(self, text: str, here: int | None = None, now: bool = False) -> None:
        """What is going on. What report() raises goes through."""
        self._here = self._here if here is None else here
        if now or self._due():
            self._told = time.monotonic()
            self._report(self._before + self._here, self.total, text)

    def _due(self) -> bool:
        return time.monotonic() - self._told >= 0.1


def _write(out: BinaryIO, chunk: bytes) -> int:
    rest = memoryview(chunk)
    while rest:
        rest = rest[out.write(rest) :]
    return len(chunk)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"
