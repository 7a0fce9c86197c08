"""Pack the full recorded reference set into this folder, and prove that the packed one equals it.

    python -m goldens.pack REFERENCE            write the archives and check them (in tests/)
    python -m goldens.pack REFERENCE --check    only check

REFERENCE is the folder with models/, models-variants/, goldens/ and keys/ (README.md says what it
is); the set sr2, of the same layout, lies in it and has an archive of its own.
"""

import argparse
import io
import json
import lzma
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from reference import INDEX, SETS, SHARED, index_of, unpack
from safetensors.torch import load_file, save

HERE = Path(__file__).parent

# Not carried (README.md says why). Case ids of models that are not carried follow from MODELS.
MODELS = ("unet-transformer-in", "unet-crossattn")
FOLDERS = ("safety_checker", "watermarker")
CASES = ("d_base_train_mode_INFO",)
TENSORS = {"e_cascade_dpm": ("out.sr2_input_uint8", "out.sr2")}

# Archive -> lzma's literal coding. lp is the width of the numbers inside: 2 bytes, 4 bytes.
ARCHIVES = {
    "float16": {"lc": 0, "lp": 1, "pb": 1},
    "float32": {"lc": 0, "lp": 2, "pb": 2},
    "text": {},
    "sr2": {"lc": 0, "lp": 2, "pb": 2},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reference", type=Path)
    parser.add_argument("--check", action="store_true", help="do not write, only check")
    options = parser.parse_args()
    if not options.check:
        pack(options.reference)
    with tempfile.TemporaryDirectory() as folder:
        unpack(Path(folder))
        print(check(options.reference, Path(folder)))


def pack(reference: Path) -> None:
    """Write the archives, reproducibly."""
    contents: dict[str, dict[str, bytes]] = {kind: {} for kind in ARCHIVES}
    for name, path in carried_files(reference):
        kind = (
            "text"
            if path.suffix not in (".safetensors", ".bin")
            else "float32"
            if name.startswith("goldens/")
            else "float16"
        )
        contents[kind][name] = packed_bytes(name, path)
    for part in SETS:
        contents[part] = {
            name: packed_bytes(name, path)
            for name, path in files_of_set(reference, part)
            if not is_shared(name)
        }
    for kind, files in contents.items():
        data = archive(files, ARCHIVES[kind])
        (HERE / f"{kind}.tar.xz").write_bytes(data)
        print(
            f"{kind}.tar.xz: {len(data):,} bytes, {len(files)} files of "
            f"{sum(map(len, files.values())):,}"
        )


def carried_files(reference: Path) -> Iterator[tuple[str, Path]]:
    """(relative name, path) of every file of the reference that is carried, weights beside
    weights.
    """
    dropped = set(CASES) | {
        case["id"] for case in read_index(reference)["cases"] if case["model"] in MODELS
    }
    for path in sorted(reference.rglob("*")):
        parts = path.relative_to(reference).parts
        if parts[0] in SETS:
            continue
        weights = path.suffix in (".safetensors", ".bin")
        if (
            path.is_file()
            and len(parts) > 1
            and not (
                set(parts) & set(FOLDERS)
                or weights
                and set(parts) & set(MODELS)
                or parts[0] == "goldens"
                and path.stem in dropped
            )
        ):
            yield "/".join(parts), path


def files_of_set(reference: Path, part: str) -> Iterator[tuple[str, Path]]:
    """(name when unpacked, path) of the files of the set `part`, but those that the main
    set has.
    """
    for path in sorted((reference / part).rglob("*")):
        name = path.relative_to(reference / part).as_posix()
        if name == INDEX:
            yield index_of(part), path
        elif path.is_file() and "/" in name and not (reference / name).is_file():
            yield name, path


def is_shared(name: str) -> bool:
    """True for a file that unpacking copies from a model of the main set."""
    return any(
        name.startswith(f"models/{model}/{part}/")
        for model, (_, parts) in SHARED.items()
        for part in parts
    )


def packed_bytes(name: str, path: Path) -> bytes:
    """A file as it is carried: weights as float16, goldens without TENSORS, the index without what
    is left out.
    """
    if name == "goldens/INDEX.json":
        return json.dumps(packed_index(json.loads(path.read_text("utf-8"))), indent=1).encode()
    if name.startswith("goldens/") and path.suffix == ".safetensors":
        left_out = TENSORS.get(path.stem, ())
        return (
            save({k: v for k, v in load_file(path).items() if k not in left_out})
            if left_out
            else path.read_bytes()
        )
    if path.suffix in (".safetensors", ".bin"):
        weights = {
            key: value.half() if value.is_floating_point() else value
            for key, value in load(path).items()
        }
        return (
            save(weights, {"format": "pt"}) if path.suffix == ".safetensors" else pickled(weights)
        )
    return path.read_bytes()


def packed_index(index: dict) -> dict:
    """The index with TENSORS moved from `tensors` to `left_out`, so that it describes the carried
    files.
    """
    for case in index["cases"]:
        gone = TENSORS.get(case["id"], ())
        if gone:
            case["left_out"] = list(gone)
            case["tensors"] = {
                key: value for key, value in case["tensors"].items() if key not in gone
            }
    return index


def read_index(root: Path) -> dict:
    return json.loads((root / "goldens" / "INDEX.json").read_text("utf-8"))


def load(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".bin":
        return torch.load(path, map_location="cpu", weights_only=True)
    return load_file(path)


def pickled(weights: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    return buffer.getvalue()


def archive(files: dict[str, bytes], coding: dict[str, int]) -> bytes:
    """A .tar.xz of the files without times and owners. One stream: what several models share is
    stored once.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    filters = [
        {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 25, **coding}
    ]
    return lzma.compress(
        buffer.getvalue(), format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=filters
    )


def check(reference: Path, unpacked: Path) -> str:
    """Stop at the first carried tensor or file that differs from the recorded one; otherwise say
    what was compared.
    """
    tensors = files = 0
    names = dict(carried_files(reference))
    for part in SETS:
        names |= files_of_set(reference, part)
    found = {p.relative_to(unpacked).as_posix() for p in unpacked.rglob("*") if p.is_file()}
    if found != set(names):
        raise AssertionError(f"the packed files differ: {sorted(found ^ set(names))}")
    for name, path in names.items():
        files += 1
        if path.suffix not in (".safetensors", ".bin"):
            same = (
                name == "goldens/INDEX.json" or path.read_bytes() == (unpacked / name).read_bytes()
            )
        else:
            want, have = load(path), load(unpacked / name)
            want = {
                key: value for key, value in want.items() if key not in TENSORS.get(path.stem, ())
            }
            same = want.keys() == have.keys() and all(equal(want[key], have[key]) for key in want)
            tensors += len(want)
            if name.startswith("goldens/"):
                same = same and all(want[key].dtype == have[key].dtype for key in want)
        if not same:
            raise AssertionError(f"{name} differs from the recorded file")
    return f"{files} files and {tensors} tensors equal the recorded ones bit for bit"


def equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Bit-identical, float16 and float32 compared as float32 (the sign of zero counts)."""
    if a.is_floating_point():
        a, b = a.float().view(torch.int32), b.float().view(torch.int32)
    return torch.equal(a, b)


if __name__ == "__main__":
    main()
