"""What tells this code and this machine from others, in a few characters."""

import hashlib
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

# What frames do not come from.
_ELSEWHERE = ("__main__.py", "batch", "commands", "host", "training", "evaluation")


@cache
def engine() -> str:
    """A digest of that part of this package's code that makes frames."""
    root, found = Path(__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if name.parts[0] not in _ELSEWHERE:
            found.update(name.as_posix().encode() + path.read_bytes())
    return found.hexdigest()[:12]


def host() -> str:
    """This machine's name, as a part of file names."""
    name = platform.node()
    with suppress(ValueError):
        name = name[: name.index(".")]
    return "".join(c if c.isalnum() or c == "-" else "-" for c in name)[:40] or "host"
