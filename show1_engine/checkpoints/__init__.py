"""Model files: find, read, verify and convert them. Nothing here builds a module or runs code out
of a file.
"""

from .convert import convert
from .find import Found, cascade_in, find_models, find_text_encoders
from .read import (
    Checkpoint,
    TextCheckpoint,
    load_strict,
    read_checkpoint,
    read_json,
    read_text_encoder,
    read_weights,
)

__all__ = [
    "Checkpoint",
    "Found",
    "TextCheckpoint",
    "cascade_in",
    "convert",
    "find_models",
    "find_text_encoders",
    "load_strict",
    "read_checkpoint",
    "read_json",
    "read_text_encoder",
    "read_weights",
]
