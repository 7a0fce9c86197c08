"""What all clips of a folder have in common: written once, and compared before any is made.

`plan.json` is what was asked for. `place.json` is what only a worker knows (torch, kind of device,
dtype, models, the memory that tiles are planned for): the first one writes it, the others compare.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError, printable
from ..identity import engine, host

PLAN, PLACE = "plan.json", "place.json"
_ENDS = 2**20  # bytes at either end of a large file that its digest is made of
_WHOLE = 64 * 2**20  # bytes up to which all of a file is

Fields = dict[str, Any]


def fingerprint(fields: Fields) -> str:
    """Sixteen characters that stay the same as long as the fields do."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def settle(folder: Path, name: str, fields: Fields, taken: tuple[str, ...] = ()) -> Fields:
    """Keeps the fields in the folder, or compares them with those that are there: those that are
    there then.

    Of several processes that begin at once one writes, and the others compare. InputError names
    every field that differs, but for those `taken` as they are there.
    """
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{name}.{host()}-{os.getpid()}"
        partial.write_text(json.dumps(fields, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        try:
            os.link(partial, path)  # unlike a rename, never over another's
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return compared(folder, name, fields, taken=taken)


def compared(folder: Path, name: str, fields: Fields, taken: tuple[str, ...] = ()) -> Fields:
    """The fields that are there; InputError where any but those `taken` are others."""
    there = read_fields(folder, name)
    mine = {**fields, **{name: there.get(name) for name in taken}}
    found = changed(there, json.loads(json.dumps(mine)))
    if found:
        raise InputError(
            f"'{folder}' holds clips of another plan: {'; '.join(found)}. Give another folder, or "
            "what it was begun with"
        )
    return there


def read_fields(folder: Path, name: str) -> Fields:
    """The fields that are kept under a name; InputError if there are none."""
    path = folder / name
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{path}' cannot be read: {printable(error, 200)}") from None
    if not isinstance(fields, dict):
        raise InputError(f"'{path}' is no plan; give another folder")
    return fields


def changed(old: Fields, new: Fields) -> list[str]:
    """In words, which fields of two plans differ."""
    was, now = dict(_flat(old)), dict(_flat(new))
    return [
        f"{name} was {printable(was.get(name, 'not there'), 100)} and is "
        f"{printable(now.get(name, 'not there'), 100)}"
        for name in sorted(was.keys() | now.keys())
        if was.get(name) != now.get(name)
    ]


def _flat(fields: Fields, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, prefix=f"{prefix}{name}.")
        else:
            yield prefix + name, value


def plan_of(asked: Fields) -> Fields:
    """What goes into plan.json of what is asked for: values as they are, files as digests.

    asked: `values`; `files`: name -> path or None; `loras`: stage -> [path, strength] each; and
        `models`, `text_encoder` and `device`, which only a worker can tell about.
    """
    files = {name: path and digest(Path(path)) for name, path in asked["files"].items()}
    loras = {
        stage: [f"{digest(Path(path))} x {strength:g}" for path, strength in given]
        for stage, given in asked["loras"].items()
    }
    return {"engine": engine(), **asked["values"], **files, "loras": loras}


def digest(path: Path) -> str:
    """Twelve characters for a file or all files of a folder; of large files, both ends and the
    size.
    """
    found = hashlib.sha256()
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    try:
        for file in files:
            relative = file.relative_to(path).as_posix() if path.is_dir() else ""
            if file.is_file() and not f"/{relative}".count("/."):
                found.update(f"{relative}:{file.stat().st_size}:".encode())
                _add_file(found, file)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {printable(error, 200)}") from None
    return found.hexdigest()[:12]


def _add_file(found: Any, path: Path) -> None:
    with path.open("rb") as file:
        if path.stat().st_size <= _WHOLE:
            found.update(file.read())
            return
        found.update(file.read(_ENDS))
        file.seek(-_ENDS, 2)
        found.update(file.read())
