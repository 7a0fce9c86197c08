"""The recorded reference: what the original Show-1 computes on tiny models
(tests/goldens/README.md).

The packed set of tests/goldens is unpacked once per process, to a temporary folder. SHOW1_REFERENCE
names a folder with the full set (with sr2/ in it), to be used in its place.

    @pytest.mark.parametrize("case", cases("a"), ids=case_id)
    def test_forward(case):
        recorded = golden(case)
        folder = reference_root() / "models" / case["model"]
        ... recorded["in.sample"], case["params"]["timestep"] ...
        assert difference <= tolerance(case, "out.sample")
"""

import functools
import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

INDEX = "goldens/INDEX.json"
SETS = ("sr2",)  # recorded later; each with an index of its own
SHARED = {
    "show-1-sr2-own": ("show-1-sr2", ("vae", "text_encoder", "tokenizer"))
}  # model -> whose parts it has

_GOLDENS = Path(__file__).parent / "goldens"
_CASCADE = ("show-1-base", "show-1-interpolation", "IF-II-L-v1.0", "show-1-sr1", "show-1-sr2")
_NO_MODEL = (None, "schedulers")


@functools.cache
def reference_root() -> Path:
    """The folder that holds models/, models-variants/, goldens/ and keys/."""
    full = os.environ.get("SHOW1_REFERENCE")
    if full:
        if not (Path(full) / INDEX).is_file():
            raise RuntimeError(f"SHOW1_REFERENCE is '{full}', which holds no {INDEX}")
    folder = Path(_session_folder().name)
    if full:
        _link(Path(full).absolute(), folder)
    else:
        unpack(folder)
    return folder


@functools.cache
def _session_folder() -> tempfile.TemporaryDirectory:
    """Kept by the cache, so it is removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="show1-reference-")


def unpack(folder: Path) -> None:
    """Lay the packed set out in `folder`."""
    for path in sorted(_GOLDENS.glob("*.tar.xz")):
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
    for model, (other, parts) in SHARED.items():
        for part in parts:
            shutil.copytree(folder / "models" / other / part, folder / "models" / model / part)


def _link(full: Path, folder: Path) -> None:
    """The full set and the sets in it as one, as `unpack` lays them out."""
    for part in ("", *SETS):
        for source in sorted((full / part).glob("*/*")):
            name = source.relative_to(full / part).as_posix()
            target = folder / (index_of(part) if name == INDEX else name)
            if source.parent.name not in SETS and not target.exists():
                target.parent.mkdir(exist_ok=True)
                target.symlink_to(source, source.is_dir())


def index_of(part: str) -> str:
    """Where the index of a set lies when it is unpacked."""
    return f"goldens/INDEX-{part}.json" if part else INDEX


def cases(group: str) -> list[dict[str, Any]]:
    """The entries of INDEX.json in a group whose golden and weights are both there.

    Groups: a UNet forwards, b activations, c text, d pipelines, e cascade, f schedulers.
    """
    return [case for case in _index()["cases"] if case["group"] == group and _is_there(case)]


def case(name: str) -> dict[str, Any]:
    """The entry of INDEX.json with this id."""
    return next(case for case in _index()["cases"] if case["id"] == name)


def case_id(case: dict[str, Any]) -> str:
    """For pytest's `ids`."""
    return case["id"]


def golden(case: dict[str, Any]) -> dict[str, Any]:
    """The recorded tensors ("in.*", "out.*", "act.*") of a case; of a .json file its content.

    The arguments are in case["params"]. A tensor named in case["left_out"] is not in the packed
    set.
    """
    path = reference_root() / "goldens" / case["file"]
    return json.loads(path.read_text("utf-8")) if path.suffix == ".json" else load_file(path)


def tolerance(case: dict[str, Any], name: str) -> float:
    """Largest absolute difference allowed for the tensor `name` (float32; levels for uint8)."""
    return case["tensors"][name].get("tol", case["max_abs_tol"])


@functools.cache
def _index() -> dict[str, Any]:
    """All sets' entries."""
    paths = [reference_root() / index_of(part) for part in ("", *SETS)]
    return {
        "cases": [
            case
            for path in paths
            if path.is_file()
            for case in json.loads(path.read_text("utf-8"))["cases"]
        ]
    }


def _is_there(case: dict[str, Any]) -> bool:
    models = (
        _CASCADE
        if case["model"] == "all"
        else ()
        if case["model"] in _NO_MODEL
        else (case["model"],)
    )
    return (reference_root() / "goldens" / case["file"]).is_file() and all(
        map(_has_weights, models)
    )


def _has_weights(model: str) -> bool:
    """True if the model's UNet weights are there, or the folder is of a scheduler alone."""
    folders = [reference_root() / place / model for place in ("models", "models-variants")]
    return any(
        folder.is_dir()
        and (
            not (folder / "unet").is_dir()
            or any((folder / "unet").glob("*.safetensors"))
            or any((folder / "unet").glob("*.bin"))
        )
        for folder in folders
    )
