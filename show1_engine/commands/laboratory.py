"""python -m show1_engine micro | bench: handed on to the packages of the repository that do not ship."""

from importlib import import_module
from importlib.util import find_spec

from ..errors import InputError

PACKAGES = {"micro": "show1_micro", "bench": "benchmarks"}  # by command
HELP = {"micro": "train or evaluate the bundled tiny cascade", "bench": "measure speed and memory, write tables"}


def hand_on(command: str, arguments: list[str]) -> int:
    """Runs `python -m PACKAGE ARGUMENTS`. InputError where the package is not there, as in the registry's archive."""
    package = PACKAGES[command]
    if find_spec(package) is None:
        raise InputError(f"'{command}' needs {package}/, which is not part of the installed pack; "
                         "clone the pack's repository and run it there")
    return import_module(f"{package}.__main__").main(arguments, prog=f"python -m show1_engine {command}")
