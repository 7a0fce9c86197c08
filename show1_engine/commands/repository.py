"""What some commands need that only the pack's repository holds, not the registry's archive."""

import re
from pathlib import Path

from ..errors import InputError

_PACK = Path(__file__).absolute().parents[2]
_ADDRESS = re.compile(r'^Repository = "(\S+)"', re.MULTILINE)


def require(command: str, part: str) -> None:
    """Raises InputError, with the way out, if this copy of the pack has no `part`.

    `part` is a path from the pack's root, `command` what the user has called.
    """
    if (_PACK / part).exists():
        return
    address = _ADDRESS.search((_PACK / "pyproject.toml").read_text(encoding="utf-8"))
    where = f" ({address[1]})" if address else ""
    raise InputError(
        f"'{command}' needs {part}, which is in the pack's repository{where} and not in the "
        "archive that this copy comes from: run it in a git clone of the repository"
    )
