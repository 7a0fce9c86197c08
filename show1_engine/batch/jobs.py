"""The table of jobs: prompts times seeds times a sweep, as rows of small plain values."""

import csv
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError, printable

Row = dict[str, Any]
Settings = dict[str, dict[str, Any]]  # stage (its option) -> setting -> value
Kinds = dict[str, dict[str, Any]]  # stage -> setting -> commands.declared.Setting

FIELDS = ("id", "prompt", "prompts", "seed", "negative_prompt", "settings")
NAMES = ("id", "vbench")  # what clips may be named by
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=,+-]*")
_LONGEST_ID = 120  # characters; partial names are longer, and file systems take 255 bytes
_LONGEST_NAME = 200  # bytes
# What has a meaning of its own on Windows, or beside a clip.
_TAKEN = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*(\.failed|\.)", re.IGNORECASE)
_UNFIT = re.compile(r'[/\\:*?"<>|\0-\x1f]')
_IN_A_FOLDER = 1000
_MOST_SEEDS = 1_000_000


def read_jobs(path: Path, kinds: Kinds) -> list[Row]:
    """The lines of a .txt (a prompt each), .csv or .jsonl file as rows with some of FIELDS.

    In a .csv, and in a row of .jsonl, a field such as `keyframes.cfg` is a setting of a stage.
    InputError names the file and the line.
    """
    readers = {".txt": _text, ".csv": _csv, ".jsonl": _jsonl}
    if path.suffix.lower() not in readers:
        raise InputError(f"'{path}' is no table of jobs; give a {', '.join(readers)} file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"'{path}' cannot be read: {printable(error, 200)}") from None
    rows = []
    for line, raw in readers[path.suffix.lower()](path, text):
        try:
            rows.append(_checked(raw, kinds))
        except InputError as error:
            raise InputError(f"'{path}', line {line}: {error}") from None
    if not rows:
        raise InputError(f"'{path}' holds no jobs; write one a line")
    return rows


def _text(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    for line, prompt in enumerate(text.splitlines(), 1):
        if prompt.strip():
            yield line, {"prompt": prompt.strip()}


def _csv(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    try:
        for raw in reader:
            if None in raw or None in raw.values():
                count = len(reader.fieldnames or ())
                raise InputError(f"'{path}', line {reader.line_num} does not have {count} fields")
            yield reader.line_num, {name: value for name, value in raw.items() if value != ""}
    except csv.Error as error:
        raise InputError(f"'{path}', line {reader.line_num} is no CSV: {error}") from None


def _jsonl(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    for line, raw in enumerate(text.splitlines(), 1):
        if not raw.strip():
            continue
        try:
            row = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise InputError(f"'{path}', line {line} is no JSON: {printable(error, 200)}") from None
        if not isinstance(row, dict):
            raise InputError(f"'{path}', line {line} is no JSON object ({{...}})")
        yield line, row


def _checked(raw: Row, kinds: Kinds) -> Row:
    """A row with its values' types, and all settings of stages under `settings`."""
    row: Row = {"settings": _settings(raw.get("settings", {}), kinds)}
    for name, value in raw.items():
        if "." in name:
            stage, setting = _setting(name, kinds)
            row["settings"].setdefault(stage, {})[setting] = _value(name, value, kinds)
        elif name not in FIELDS:
            raise InputError(f"'{name}' is no field of a job; there are {', '.join(FIELDS)}")
        elif name == "seed":
            row["seed"] = _seed(value)
        elif name != "settings":
            row[name] = str(value) if isinstance(value, (str, int)) else _refused(name, value)
    if not (row.get("prompt", "") or row.get("prompts", "")).strip():
        raise InputError("the 'prompt' is missing")
    return row


def _refused(name: str, value: Any) -> str:
    raise InputError(f"'{name}' is {value!r}; it must be text")


def _seed(value: Any) -> int:
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise InputError(f"the seed is {value!r}; it must be a whole number from 0")
    return value


def _settings(given: Any, kinds: Kinds) -> Settings:
    """`{"keyframes": {"steps": 50}}`, of a .csv as text."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            given = None
    if not isinstance(given, dict) or not all(isinstance(v, dict) for v in given.values()):
        raise InputError('\'settings\' must be such as {"keyframes": {"steps": 50}}')
    found: Settings = {}
    for stage, values in given.items():
        for name, value in values.items():
            full = f"{stage}.{name}"
            stage, setting = _setting(full, kinds)
            found.setdefault(stage, {})[setting] = _value(full, value, kinds)
    return found


def _setting(name: str, kinds: Kinds) -> tuple[str, str]:
    """Stage and setting of a name such as "keyframes.cfg" or "pixel-sr.noise-level"."""
    stage, _, setting = name.partition(".")
    stage, setting = stage.replace("_", "-"), setting.replace("-", "_")
    if stage not in kinds:
        raise InputError(f"'{name}': there is no stage '{stage}'; there are {', '.join(kinds)}")
    if setting == "seed":
        raise InputError(f"'{name}': the seed is the row's, of all stages")
    if setting not in kinds[stage]:
        there = ", ".join(key for key in kinds[stage] if key != "seed")
        raise InputError(f"'{name}': the stage has no setting '{setting}'; it has {there}")
    return stage, setting


def _value(name: str, value: Any, kinds: Kinds) -> Any:
    """A setting's value as its type; of text, what the text says."""
    stage, setting = _setting(name, kinds)
    kind = kinds[stage][setting].type
    if isinstance(value, str) and kind is not str:
        value = _parsed(value.strip(), kind)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise InputError(f"'{name}' is {value!r}; it must be {wanted[kind]}")
    return value


def _parsed(text: str, kind: type) -> Any:
    try:
        return (
            {"true": True, "false": False}.get(text.lower(), text) if kind is bool else kind(text)
        )
    except ValueError:
        return text


def parsed_seeds(text: str) -> list[int]:
    """ "0-9" or "0,3,5" or both: the seeds, in order, each once."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or dash and not last.isdecimal():
            raise InputError(f"--seeds {text!r} is no list of seeds; write '0-9' or '0,3,5'")
        begin, end = int(first), int(last) if dash else int(first)
        if not begin <= end < begin + _MOST_SEEDS:
            raise InputError(f"--seeds {text!r}: '{part}' is no range from a seed to a later one")
        seeds += range(begin, end + 1)
    return list(dict.fromkeys(seeds))


def parsed_sweep(texts: Iterable[str], kinds: Kinds) -> list[Settings]:
    """All combinations of such as "keyframes.cfg=7,9"; one empty one where there is nothing."""
    axes = []
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not values:
            raise InputError(f"--sweep {text!r} must be such as keyframes.cfg=7,9")
        stage, setting = _setting(name.strip(), kinds)
        axes.append([(stage, setting, _value(name, value, kinds)) for value in values.split(",")])
    found = []
    for point in itertools.product(*axes):
        settings: Settings = {}
        for stage, setting, value in point:
            settings.setdefault(stage, {})[setting] = value
        found.append(settings)
    return found


def multiplied(jobs: list[Row], seeds: list[int], sweep: list[Settings], names: str) -> list[Row]:
    """Every job with every seed (its own one where it has one) at every point of the sweep.

    A row has `id` (unique, safe as a file name), `prompt`, `seed`, `settings`, `file` (the clip's,
    in the folder) and, where given, `prompts` and `negative_prompt`.

    names: by "id", or "vbench": `PROMPT-INDEX.mp4`, in one folder, as VBench looks for them.
    """
    rows, count = [], Counter()
    for number, job in enumerate(jobs):
        own = [job["seed"]] if "seed" in job else seeds
        for seed, point in itertools.product(own, sweep):
            base = job.get("id", f"{number:05}")
            # One that was given is kept where it is one clip.
            name = base if "id" in job and len(own) == 1 else f"{base}-s{seed}"
            name += "".join(f"-{key}={_short(value)}" for key, value in _flat(point))
            both = {**job["settings"]}
            for stage, values in point.items():
                both[stage] = {**both.get(stage, {}), **values}
            row = {**job, "id": name, "seed": seed, "settings": both}
            row.setdefault("prompt", "")
            file = f"clips/{number // _IN_A_FOLDER:03}/{name}.mp4"
            if names == "vbench":
                file = _vbench_name(row["prompt"], count)
            rows.append({**row, "file": file})
    _check_ids(rows)
    return rows


def _flat(settings: Settings) -> Iterator[tuple[str, Any]]:
    for stage, values in settings.items():
        for name, value in values.items():
            yield f"{stage}.{name}", value


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _vbench_name(prompt: str, count: Counter) -> str:
    name = f"{prompt}-{count[prompt]}.mp4"
    if _UNFIT.search(prompt) or not prompt.strip() or len(name.encode()) > _LONGEST_NAME:
        raise InputError(f"{prompt!r} cannot be a file name, which --names vbench makes of it")
    count[prompt] += 1
    return f"videos/{name}"


def _check_ids(rows: list[Row]) -> None:
    """InputError for an id that is there twice, or that is not safe as a file name anywhere."""
    seen: dict[str, str] = {}
    for row in rows:
        name = row["id"]
        if not _ID.fullmatch(name) or _TAKEN.fullmatch(name) or len(name) > _LONGEST_ID:
            raise InputError(
                f"id {name!r} is not safe as a file name; use letters, digits and _ . = , + -, at "
                f"most {_LONGEST_ID}, not beginning with a dot or dash"
            )
        # Two that differ in capitals alone are one file on some disks.
        if name.lower() in seen:
            raise InputError(f"id '{name}' is there twice; every clip needs one of its own")
        seen[name.lower()] = name


def sharded(rows: list[Row], shard: tuple[int, int]) -> list[Row]:
    """Part I of N: every N-th row, from the I-th on."""
    part, parts = shard
    return rows[part - 1 :: parts]


def parsed_shard(text: str) -> tuple[int, int]:
    """ "2/8" -> (2, 8)."""
    part, slash, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise InputError(f"--shard {text!r} must be I/N with I from 1 to N")
    return int(part), int(parts)
