"""The header of a safetensors file, read without mapping its weights (cheap enough for listing
folders).
"""

import json
from pathlib import Path
from typing import Any

_LIMIT = 16 * 2**20  # bytes; the format's own is 100 MB, published models have less than one


class HeaderError(ValueError):
    """The file does not begin with a safetensors header."""


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header (tensor name -> dtype, shape, data_offsets; "__metadata__") and where the data
    begins.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= _LIMIT:
            raise HeaderError("no header length")
        data = file.read(length)
    try:
        header = json.loads(data)
    except (ValueError, RecursionError, MemoryError) as error:
        raise HeaderError("no JSON header") from error
    if not isinstance(header, dict):
        raise HeaderError("the header is no JSON object")
    return header, 8 + length


def expected_size(path: Path) -> int:
    """Bytes that a safetensors file must have to hold every tensor its header names."""
    header, start = read_header(path)
    try:
        return start + max(
            (entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"),
            default=0,
        )
    except (LookupError, TypeError) as error:
        raise HeaderError("the header names no offsets") from error


def read_metadata(path: Path) -> dict[str, str]:
    """The free-form strings of the header; empty if there are none."""
    metadata = read_header(path)[0].get("__metadata__", {})
    return metadata if isinstance(metadata, dict) else {}
