"""A tokenizer's files, looked at before a library builds anything from them."""

import json
from pathlib import Path

from ..errors import CheckpointError
from . import damage
from .files import read_json, require
from .schema import TokenizerSchema, given

_LIMIT = 32 * 2**20  # bytes of a vocabulary; published ones have four
_WORDS, _ADDED = 1_000_000, 2000


def check_tokenizer(kind: str, folder: Path) -> None:
    """CheckpointError naming the file if one that the "t5" or "clip" tokenizer in `folder` reads is
    damaged or larger than any tokenizer is."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).exists():
            given(TokenizerSchema, read_json(folder / name), folder / name)
    if (folder / "added_tokens.json").exists():
        _at_most(
            len(read_json(folder / "added_tokens.json")),
            _ADDED,
            "added tokens",
            file=folder / "added_tokens.json",
        )
    whole = folder / "tokenizer.json"
    if whole.exists():
        _check_whole(whole)
    if kind == "t5" and (folder / "spiece.model").exists():
        _check_pieces(folder / "spiece.model")
    if kind == "clip" and (folder / "vocab.json").exists():
        _check_words(folder / "vocab.json")
        _check_merges(folder / "merges.txt")
    needed = "spiece.model" if kind == "t5" else "vocab.json"
    if not whole.exists() and not (folder / needed).exists():
        raise CheckpointError(
            f"'{folder}' has no {needed}. Copy the model's tokenizer folder again."
        )


def _check_whole(file: Path) -> None:
    """The fast tokenizer's one file."""
    content = read_json(file, _LIMIT)
    added, model = content.get("added_tokens") or [], content.get("model")
    if (
        not isinstance(added, list)
        or not isinstance(model, dict)
        or not isinstance(model.get("vocab"), (list, dict))
    ):
        raise CheckpointError(
            f"'{file}' is no tokenizer: its model, vocab or added_tokens is missing or of another "
            "kind. Download it again."
        )
    _at_most(len(added), _ADDED, "added tokens", file=file)
    _at_most(len(model["vocab"]), _WORDS, "words", file=file)


def _check_pieces(file: Path) -> None:
    """A sentencepiece model; the library itself says whether it is one."""
    from sentencepiece import SentencePieceProcessor

    require(file, _LIMIT)
    try:
        content = file.read_bytes()
        pieces = SentencePieceProcessor(model_proto=content).get_piece_size() if content else 0
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"'{file}' {damage.of_json(file, error).replace('valid JSON', 'sentencepiece model')}."
        ) from None
    if not pieces:
        raise CheckpointError(f"'{file}' is empty. Download it again.")
    _at_most(pieces, _WORDS, "words", file=file)


def _check_words(file: Path) -> None:
    words = read_json(file, _LIMIT)
    wrong = next(
        (
            word
            for word, number in words.items()
            if type(number) is not int or not 0 <= number < _WORDS
        ),
        None,
    )
    if wrong is not None:
        raise CheckpointError(
            f"'{file}' gives the word {wrong!r} the number {json.dumps(words[wrong])}; allowed is "
            f"a whole number from 0 to {_WORDS - 1}. Download it again."
        )
    if not words:
        raise CheckpointError(f"'{file}' holds no words. Download it again.")


def _check_merges(file: Path) -> None:
    require(file, _LIMIT)
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"'{file}' cannot be read as text ({type(error).__name__}). Download it again."
        ) from None
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#version") and len(line.split()) != 2:
            raise CheckpointError(
                f"'{file}' has {line!r} in line {number}; allowed is two parts of words with a "
                "space between them. Download it again."
            )


def _at_most(count: int, most: int, what: str, file: Path) -> None:
    if count > most:
        raise CheckpointError(
            f"'{file}' has {count:,} {what}; allowed are at most {most:,}. It is not the model's "
            "own: download it again."
        )
