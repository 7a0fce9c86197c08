"""python -m show1_engine micro | bench: handed on to packages of the repository, not shipped."""

import re
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from ..errors import InputError

PACKAGES = {"micro": "show1_micro", "bench": "benchmarks"}  # by command
HELP = {
    "micro": "train or evaluate the bundled tiny cascade",
    "bench": "measure speed and memory, write tables",
}
_PYPROJECT = Path(__file__).absolute().parents[2] / "pyproject.toml"
_ADDRESS = re.compile(r'^Repository = "(\S+)"', re.MULTILINE)


def hand_on(command: str, arguments: list[str]) -> int:
    """Runs `python -m PACKAGE ARGUMENTS`. InputError where the package is not there."""
    package = PACKAGES[command]
    if find_spec(package) is None:
        address = _ADDRESS.search(_PYPROJECT.read_text(encoding="utf-8"))
        where = f" ({address[1]})" if address else ""
        raise InputError(
            f"'{command}' needs {package}/, which is in the pack's repository{where} and not in "
            "the archive that this copy comes from: run it in a git clone of the repository"
        )
    before = sys.argv
    try:
        sys.argv = [package, *arguments]
        runpy.run_module(package, run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    finally:
        sys.argv = before
    return 0
