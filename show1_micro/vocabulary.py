"""The words of the micro world and the tokenizer files that split text into them.

Both tokenizers are word level: a word of the list is one token, anything else becomes the unknown
token (T5) or falls apart into bytes (CLIP). The files are the ones that transformers' T5Tokenizer
and CLIPTokenizer read.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from pathlib import Path

SYNONYMS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc", "disk", "ball"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "red": ("red",),
    "green": ("green",),
    "blue": ("blue",),
    "yellow": ("yellow",),
    "right": ("right", "rightward", "rightwards"),
    "left": ("left", "leftward", "leftwards"),
    "up": ("up", "upward", "upwards", "rising"),
    "down": ("down", "downward", "downwards", "falling"),
    "black": ("black", "dark"),
    "grey": ("grey", "gray"),
    "white": ("white", "bright"),
    "plain": ("plain", "smooth"),
    "striped": ("striped",),
    "checkered": ("checkered", "chequered", "checked"),
}
# The second edition's, beside those above. What is new comes last everywhere: the first edition's
# tokens keep their numbers, and its texts their states.
LATER_SYNONYMS: dict[str, tuple[str, ...]] = {
    "ring": ("ring", "hoop"),
    "orange": ("orange",),
    "purple": ("purple", "violet"),
    "jumping": ("jumping", "jumps", "bouncing", "bounces", "hopping"),
    "day": ("day", "daylight", "noon"),
    "dusk": ("dusk", "sunset", "evening"),
    "night": ("night", "moonlight"),
}
FILLERS = (
    "a",
    "an",
    "the",
    "moving",
    "moves",
    "going",
    "goes",
    "to",
    "on",
    "in",
    "over",
    "with",
    "and",
    "is",
    "background",
    "video",
    "of",
    "low",
    "resolution",
    "blur",
    "cyan",
    "magenta",
    "orange",
    "purple",
    "still",
    "growing",
    "shrinking",
    "star",
    "ring",
    "cross",
)
LATER_FILLERS = ("at", "by", "under", "sky", "ground", "shadow")


def _words(synonyms: dict[str, tuple[str, ...]], fillers: tuple[str, ...]) -> list[str]:
    return [word for group in synonyms.values() for word in group] + list(fillers)


FIRST_WORDS = tuple(dict.fromkeys(_words(SYNONYMS, FILLERS)))
WORDS = tuple(dict.fromkeys([*FIRST_WORDS, *_words(LATER_SYNONYMS, LATER_FILLERS)]))

T5_SPECIALS = ("<pad>", "</s>", "<unk>")
T5_PIECES = (*T5_SPECIALS, "\u2581", ",", ".", *("\u2581" + word for word in WORDS))
T5_MAX_LENGTH = 512
CLIP_BOS, CLIP_EOS, CLIP_LENGTH = "<|startoftext|>", "<|endoftext|>", 77


def t5_word_ids() -> dict[str, int]:
    """Token id of every word of the list in the T5 vocabulary."""
    return {word: T5_PIECES.index("\u2581" + word) for word in WORDS}


def write_t5_tokenizer(folder: Path) -> None:
    """Write `spiece.model`, `tokenizer.json` (needs no protobuf to be read) and their two json
    companions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spiece.model").write_bytes(_sentencepiece_model())
    _write_json(folder / "tokenizer.json", _fast_tokenizer())
    specials = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    _write_json(folder / "special_tokens_map.json", specials)
    _write_json(
        folder / "tokenizer_config.json",
        {
            "additional_special_tokens": [],
            "clean_up_tokenization_spaces": True,
            "extra_ids": 0,
            **specials,
            "model_max_length": T5_MAX_LENGTH,
            "sp_model_kwargs": {},
            "tokenizer_class": "T5Tokenizer",
        },
    )


def write_clip_tokenizer(folder: Path) -> None:
    """Write `vocab.json`, `merges.txt` and their two json companions (about 20 kB in all)."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = clip_vocabulary()
    _write_json(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    specials = {
        "bos_token": CLIP_BOS,
        "eos_token": CLIP_EOS,
        "pad_token": "!",
        "unk_token": CLIP_EOS,
    }
    _write_json(folder / "special_tokens_map.json", specials)
    _write_json(
        folder / "tokenizer_config.json",
        {
            "clean_up_tokenization_spaces": True,
            "errors": "replace",
            "model_max_length": CLIP_LENGTH,
            "tokenizer_class": "CLIPTokenizer",
            **specials,
        },
    )


def clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte-pair vocabulary and merges in which every word of the list is one token."""
    letters = _byte_letters()
    first = _merges_for(FIRST_WORDS)
    merges = _merges_for(WORDS, after=first)
    pieces = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in first]
    pieces += [CLIP_BOS, CLIP_EOS, *("".join(pair) for pair in merges)]
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}, merges


def _merges_for(
    words: tuple[str, ...], after: list[tuple[str, str]] | None = None
) -> list[tuple[str, str]]:
    """Train byte-pair merges, beyond those `after`, until each word is a single piece; joining in
    this order is what BPE replays.
    """
    split = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges = list(after or [])
    for pair in merges:
        split = [_joined(word, pair) for word in split]
    while pairs := Counter(pair for word in split for pair in zip(word, word[1:], strict=False)):
        best = max(sorted(pairs), key=pairs.__getitem__)
        merges.append(best)
        split = [_joined(word, best) for word in split]
    return merges


def _joined(word: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for piece in word:
        if out and (out[-1], piece) == pair:
            out[-1] += piece
        else:
            out.append(piece)
    return out


def _byte_letters() -> list[str]:
    """The 256 printable stand-ins for bytes that byte-level BPE uses, `!` first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]


def _fast_tokenizer() -> dict:
    """The same unigram model in the format of the tokenizers library."""
    metaspace = {
        "type": "Metaspace",
        "replacement": "\u2581",
        "prepend_scheme": "always",
        "split": True,
    }
    end = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    sequences = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    template = {
        "type": "TemplateProcessing",
        "single": [sequences[0], end],
        "pair": [sequences[0], end, sequences[1], end],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
    }
    added = [
        {
            "id": index,
            "content": piece,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, piece in enumerate(T5_SPECIALS)
    ]
    vocabulary = [[piece, _score(index, piece)] for index, piece in enumerate(T5_PIECES)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": metaspace,
        "post_processor": template,
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": vocabulary, "byte_fallback": False},
    }


def _score(index: int, piece: str) -> float:
    """Log probability; whole words beat their pieces, specials are never produced from text."""
    if index < len(T5_SPECIALS):
        return 0.0
    return -1.0 if len(piece) > 1 else -5.0


def _sentencepiece_model() -> bytes:
    """A unigram SentencePiece model in its protobuf wire format, without needing protobuf."""
    pieces = b"".join(_message(1, _piece(index, piece)) for index, piece in enumerate(T5_PIECES))
    trainer = _number(3, 1) + _number(4, len(T5_PIECES))
    trainer += _number(40, 2) + _number(41, -1) + _number(42, 1) + _number(43, 0)
    normalizer = _message(1, b"identity") + _number(3, 1) + _number(4, 1) + _number(5, 1)
    return pieces + _message(2, trainer) + _message(3, normalizer)


def _piece(index: int, piece: str) -> bytes:
    normal, unknown, control = 1, 2, 3
    kind = {0: control, 1: control, 2: unknown}.get(index, normal)
    score = struct.pack("<f", _score(index, piece))
    return _message(1, piece.encode("utf-8")) + b"\x15" + score + _number(3, kind)


def _message(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value & 0xFFFFFFFFFFFFFFFF)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
