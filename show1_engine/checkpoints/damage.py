"""Why a file cannot be read, in words: what it is instead, and the way out.

Every function here returns the rest of a sentence that begins with the file's name. They look at
the first bytes and at the size only, and are called after a reader has refused the file.
"""

import re
from pathlib import Path

from .header import HeaderError, expected_size

_AGAIN = "Download it again"


def of_safetensors(path: Path) -> str:
    """What is wrong with a .safetensors file that safetensors refuses."""
    head, size = _look(path)
    known = _of_any(head, size) or _of_text(head)
    if known:
        return known
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return "is a torch pickle under a safetensors name. Give it the extension .bin"
    try:
        whole = expected_size(path)
    except HeaderError:
        return f"is damaged: it does not begin with a safetensors header. {_AGAIN}"
    if size < whole:
        return f"is cut short: {size:,} of {whole:,} bytes. {_AGAIN}"
    return f"is damaged: its header does not describe its {size:,} bytes. {_AGAIN}"


def of_pickle(path: Path, error: Exception) -> str:
    """What is wrong with a .bin file that torch's weights-only reader refuses with `error`."""
    code = re.search(r"GLOBAL ([\w.]+)", str(error))
    if code:
        return (
            f"was not opened: besides weights it holds Python code to be run ({code[1]}). "
            "Get the model as .safetensors, from a source you trust"
        )
    head, size = _look(path)
    known = _of_any(head, size)
    if known:
        return known
    if head.startswith(b"PK\x03\x04"):
        return f"is cut short or damaged: {size:,} bytes of an incomplete archive. {_AGAIN}"
    return _of_text(head) or f"is cut short, damaged or no torch file. {_AGAIN}"


def of_json(path: Path, error: Exception) -> str:
    """What is wrong with a .json file that the JSON reader refuses with `error`."""
    return _of_any(*_look(path)) or f"is not valid JSON ({error}). {_AGAIN}"


def _look(path: Path) -> tuple[bytes, int]:
    with path.open("rb") as file:
        return file.read(512), path.stat().st_size


def _of_any(head: bytes, size: int) -> str | None:
    if size == 0:
        return f"is empty (0 bytes). {_AGAIN}"
    if head.startswith(b"version https://git-lfs"):
        return (
            "is a git-lfs pointer, not the file it stands for. Run 'git lfs pull' in its "
            "repository, or download it"
        )
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        return (
            "is a web page (HTML). The download got a page instead of the file: often the model "
            "needs a login or its licence accepted first"
        )
    if not head.strip(b"\0"):
        return f"begins with nothing but zeros: its download has not finished. {_AGAIN}"
    return None


def _of_text(head: bytes) -> str | None:
    try:
        text = head[:60].decode("ascii")
    except UnicodeDecodeError:
        return None
    if not all(c.isprintable() or c.isspace() for c in text):
        return None
    return f"is text, not weights (it begins {text!r}). {_AGAIN}"
