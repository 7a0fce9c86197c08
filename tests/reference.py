"""The recorded reference: what the original Show-1 computes on tiny models (tests/goldens/README.md).

The packed set of tests/goldens is unpacked once per process, to a temporary folder. SHOW1_REFERENCE names a folder with
the full set, to be used in its place.

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
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

_GOLDENS = Path(__file__).parent / "goldens"
_CASCADE = ("show-1-base", "show-1-interpolation", "IF-II-L-v1.0", "show-1-sr1", "show-1-sr2")
_NO_MODEL = (None, "schedulers")


@functools.cache
def reference_root() -> Path:
    """The folder that holds models/, models-variants/, goldens/ and keys/."""
    full = os.environ.get("SHOW1_REFERENCE")
    if full:
        if not (Path(full) / "goldens" / "INDEX.json").is_file():
            raise RuntimeError(f"SHOW1_REFERENCE is '{full}', which holds no goldens/INDEX.json")
        return Path(full)
    folder = _session_folder()
    unpack(Path(folder.name))
    return Path(folder.name)


@functools.cache
def _session_folder() -> tempfile.TemporaryDirectory:
    """Kept by the cache, so it is removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="show1-reference-")


def unpack(folder: Path) -> None:
    """Lay the packed set out in `folder`."""
    for path in sorted(_GOLDENS.glob("*.tar.xz")):
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")


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

    The arguments are in case["params"]. A tensor named in case["left_out"] is not in the packed set.
    """
    path = reference_root() / "goldens" / case["file"]
    return json.loads(path.read_text("utf-8")) if path.suffix == ".json" else load_file(path)


def tolerance(case: dict[str, Any], name: str) -> float:
    """Largest absolute difference allowed for the tensor `name` (float32; levels for uint8)."""
    return case["tensors"][name].get("tol", case["max_abs_tol"])


@functools.cache
def _index() -> dict[str, Any]:
    return json.loads((reference_root() / "goldens" / "INDEX.json").read_text("utf-8"))


def _is_there(case: dict[str, Any]) -> bool:
    models = _CASCADE if case["model"] == "all" else () if case["model"] in _NO_MODEL else (case["model"],)
    return (reference_root() / "goldens" / case["file"]).is_file() and all(map(_has_weights, models))


def _has_weights(model: str) -> bool:
    """True if the model's UNet weights are there, or the folder is of a scheduler alone."""
    folders = [reference_root() / place / model for place in ("models", "models-variants")]
    return any(folder.is_dir() and (not (folder / "unet").is_dir() or any((folder / "unet").glob("*.safetensors"))
                                    or any((folder / "unet").glob("*.bin"))) for folder in folders)
