"""Weights and JSON out of files, safely: safetensors, or torch's weights-only reader,
memory-mapped.

Every function raises CheckpointError, naming the file, what is wrong with it and what to do.
"""

import io
import json
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError
from . import damage
from .header import read_header

Weights = dict[str, Tensor]

# Published files stay far below: configs of 4 kB, indices of 300 kB, tensor headers of 300 kB,
# pickles of 500 kB.
JSON_LIMIT = 4 * 2**20
_MAPPED = 64 * 2**20  # bytes of a file that are mapped, and let go again, together
_REPEATED = 64 * 2**20  # bytes that a tensor may have of a smaller storage, over and over
_PICKLE_LIMIT = 16 * 2**20  # bytes of a pickle beside its tensors
_PICKLE_STEPS = 500_000  # of the machine that reads pickles; a tensor takes about 25

# What safetensors and a look at the header raise on bytes that are no such file.
_BROKEN_SAFETENSORS = (SafetensorError, RuntimeError, LookupError, ValueError, TypeError)
# What the weights-only reader raises on bytes that are no pickle, or a broken one.
_BROKEN_PICKLE = (
    pickle.UnpicklingError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    ArithmeticError,
    RecursionError,
    NotImplementedError,
    struct.error,
    zipfile.BadZipFile,
)


def read_json(path: Path, limit: int = JSON_LIMIT) -> dict[str, Any]:
    """A JSON object of at most `limit` bytes. -Infinity and NaN are allowed: diffusers
    writes them.
    """
    require(path, limit)
    try:
        value = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"'{path}' {damage.of_json(path, error)}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"'{path}' holds no JSON object ({{...}}). Download it again.")
    return value


def read_weights(
    folder: Path, stems: tuple[str, ...], prefer_fp16: bool = False
) -> tuple[Weights, Path]:
    """Name -> memory-mapped tensor, and the file (or shard index) they came from.

    Looks in `folder` for each stem as .safetensors, then as .bin, each whole or in shards, plain
    before .fp16 (`prefer_fp16`: after).
    """
    path = weights_file(folder, stems, prefer_fp16)
    return (read_shards(path) if path.suffix == ".json" else read_file(path)), path


def weights_file(folder: Path, stems: tuple[str, ...], prefer_fp16: bool = False) -> Path:
    """The file (or shard index) that `read_weights` reads. CheckpointError if there is none, or if
    it is of a form that this PyTorch cannot read safely.
    """
    for name in _candidates(stems, prefer_fp16):
        path = folder / name
        if path.is_file():
            if ".safetensors" not in name:
                require_safe_pickles(path)
            return path
    raise CheckpointError(
        f"'{folder}' holds no weights{_instead(folder)}. Copy {stems[0]}.safetensors (or .bin, or "
        "all shards and their index) into it."
    )


def read_file(path: Path) -> Weights:
    """The weights of one .safetensors or .bin file."""
    return read_safetensors(path) if path.suffix == ".safetensors" else read_pickle(path)


def read_safetensors(path: Path, prefix: str = "") -> Weights:
    """The tensors whose names begin with `prefix`, which is taken off, as they lie in the file.

    They are mapped stretch by stretch, so that a stretch's memory is free again as soon as nobody
    holds a tensor of it.
    """
    require(path)
    weights: Weights = {}
    try:
        for names in _stretches(read_header(path)[0], prefix):
            with safe_open(path, framework="pt", device="cpu") as file:
                weights.update((name[len(prefix) :], file.get_tensor(name)) for name in names)
    except OSError as error:
        raise unreadable(path, error) from error
    except _BROKEN_SAFETENSORS as error:
        raise CheckpointError(f"'{path}' {damage.of_safetensors(path)}.") from error
    return weights


def _stretches(header: dict[str, Any], prefix: str) -> list[list[str]]:
    """The names that begin with `prefix`, in the order of the file and by stretches of it."""
    found: dict[int, list[str]] = {}
    starts = {name: header[name]["data_offsets"][0] for name in header if name != "__metadata__"}
    for name in sorted(starts, key=starts.get):
        if name.startswith(prefix):
            found.setdefault(starts[name] // _MAPPED, []).append(name)
    return list(found.values()) or [[]]  # a file without any is looked at, too


def read_pickle(path: Path) -> Weights:
    """The tensors of a torch pickle, by torch's weights-only reader: code inside is refused, never
    run.
    """
    content = read_any_pickle(path)
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and is_plain(value) for name, value in content.items()
    ):
        raise CheckpointError(
            f"'{path}' holds no weights by name, but something else. Use the model's own file."
        )
    return content


def read_any_pickle(path: Path) -> Any:
    """What a torch pickle holds, by the weights-only reader: tensors and plain values in any
    arrangement.
    """
    require(path)
    require_safe_pickles(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=_bounded(path))
    except CheckpointError:
        raise
    except PermissionError as error:
        raise unreadable(path, error) from error
    except _BROKEN_PICKLE as error:
        # torch's own message ends in the advice to switch the safety off: not passed on.
        raise CheckpointError(f"'{path}' {damage.of_pickle(path, error)}.") from None


def pickles_are_safe() -> bool:
    """False for a PyTorch whose weights-only reader can be made to run code (CVE-2025-32434)."""
    return torch.__version__ >= (2, 6)


def require_safe_pickles(path: Path) -> None:
    """CheckpointError, naming the file, unless this PyTorch reads pickles safely."""
    if not pickles_are_safe():
        raise CheckpointError(
            f"'{path}' was not opened: PyTorch {torch.__version__} cannot read pickles safely. "
            "Update to PyTorch 2.6 or later, or get the model as .safetensors."
        )


def is_plain(value: object) -> bool:
    """Whether a value out of a file is a tensor of real numbers, of about the size its file has.

    Tensors may share a storage, and small ones may repeat it; a few bytes that claim to be
    gigabytes are refused.
    """
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    held = max(value.untyped_storage().nbytes(), _REPEATED)
    return (
        value.device.type == "cpu"
        and not value.is_quantized
        and not value.is_complex()
        and value.numel() * value.element_size() <= held
    )


def _bounded(path: Path) -> bool:
    """Whether a pickle is an archive, after a look at how much work it is to read: a few megabytes
    of brackets would take minutes, and a compressed archive may unfold to anything. Raises what the
    readers of such files raise.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"  # the format before PyTorch 1.6 cannot be mapped
        file.seek(0)
        if not zipped:
            _count_steps(path, file, 5)
            return False
    with zipfile.ZipFile(path) as archive:
        inside = archive.infolist()
        if any(item.compress_type != zipfile.ZIP_STORED for item in inside):
            raise CheckpointError(
                f"'{path}' is compressed, which torch's own files are not. Get the model as "
                ".safetensors."
            )
        for item in inside:
            if item.filename.endswith("data.pkl"):
                if item.file_size > _PICKLE_LIMIT:
                    raise _too_much(path)
                _count_steps(path, io.BytesIO(archive.read(item)), 1)
    return True


def _count_steps(path: Path, file: IO[bytes], pickles: int) -> None:
    """The older format holds five pickles in a row, the newer one."""
    steps = chain.from_iterable(pickletools.genops(file) for _ in range(pickles))
    if next(islice(steps, _PICKLE_STEPS, None), None) is not None:
        raise _too_much(path)


def _too_much(path: Path) -> CheckpointError:
    return CheckpointError(
        f"'{path}' was not opened: what it holds beside tensors is more than any model has. Get "
        "the model as .safetensors, from a source you trust."
    )


def read_shards(index: Path) -> Weights:
    """The weights of all shards that a *.index.json names; shards lie beside it."""
    places = _shards_of(index)
    missing = sorted({name for name in places.values() if not (index.parent / name).is_file()})
    if missing:
        raise CheckpointError(
            f"'{index}' needs {first_few(missing)} beside it. Download the missing shards."
        )
    weights: Weights = {}
    for name in sorted(set(places.values())):
        shard = read_file(index.parent / name)
        wanted = {key for key, place in places.items() if place == name}
        absent = sorted(wanted - shard.keys())
        if absent:
            raise CheckpointError(
                f"'{index}' says that {first_few(absent)} is in '{name}', but it is not. "
                "Index and shards are of different models: download both again."
            )
        weights.update((key, value) for key, value in shard.items() if key in wanted)
    return weights


def _shards_of(index: Path) -> dict[str, str]:
    """Tensor name -> file name. Only plain names of the index's own kind are let through: an index
    cannot reach out of its folder, nor lead from a .safetensors index to a pickle.
    """
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"'{index}' has no weight_map. Download it again.")
    kind = ".safetensors" if ".safetensors." in index.name else ".bin"
    for name in places.values():
        if not isinstance(name, str) or not name.endswith(kind) or any(c in name for c in "/\\:\0"):
            raise CheckpointError(
                f"'{index}' names the shard {name!r}, which is not a {kind} file in its own "
                "folder. Get the index from a source you trust."
            )
    return places


def _candidates(stems: tuple[str, ...], prefer_fp16: bool) -> Iterator[str]:
    for kind in (".safetensors", ".bin"):
        for variant in (".fp16", "") if prefer_fp16 else ("", ".fp16"):
            for stem in stems:
                yield f"{stem}{variant}{kind}"
                yield f"{stem}{variant}{kind}.index.json"
                # diffusers' and transformers' place for the variant
                yield f"{stem}{kind}.index{variant}.json"


def require(path: Path, limit: int | None = None) -> None:
    """CheckpointError unless there is a file, of at most `limit` bytes."""
    if path.is_dir():
        raise CheckpointError(f"'{path}' is a folder; a file was expected.")
    if not path.is_file():
        raise CheckpointError(
            f"'{path}' is missing. Download it, or copy the whole model folder again."
        )
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise CheckpointError(
            f"'{path}' cannot be read: its name is no valid UTF-8. Rename the file or folder."
        ) from None
    if limit is not None and path.stat().st_size > limit:
        raise CheckpointError(
            f"'{path}' has {path.stat().st_size:,} bytes; such a file has at most {limit:,}. It is "
            "not the model's own: download it again."
        )


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """The error for a file that the system does not let us read."""
    return CheckpointError(f"'{path}' cannot be read: {error.strerror or error}.")


def _instead(folder: Path) -> str:
    """What a folder without weights holds, for the message: a half-finished download has a telling
    name.
    """
    if not folder.is_dir():
        return " (there is no such folder)"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name != "config.json")
    return f" (only {first_few(names)})" if names else ""


def first_few(names: list[str], most: int = 3) -> str:
    """The first few names and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
