"""Values and bytes that nobody should send."""

import json
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NESTED: Any = []
for _ in range(400):
    NESTED = [NESTED]

VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "minus one": -1,
    "zero": 0,
    "one": 1,
    "three": 3,
    "a billion": 10**9,
    "past 64 bits": 2**70,
    "half": 0.5,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "1e308": 1e308,
    "empty text": "",
    "text": "x",
    "surrogate": "\ud800",
    "lines": "a\nb\x00c\x1b[31m",
    "long text": "k" * 200_000,
    "empty list": [],
    "empty object": {},
    "list": [1, 2, 3],
    "long list": [1] * 100_000,
    "mixed list": [None, "a", -1],
    "nested": NESTED,
    "object": {"a": 1},
}

PICKLES: dict[str, bytes] = {
    "ten million brackets": b"\x80\x02" + b"(" * 10_000_000 + b".",
    "a million lists": b"\x80\x02" + b"]" * 1_000_000 + b".",
    "code": pickle.dumps(print),
    "a number": pickle.dumps(3),
    "empty": b"",
    "one byte": b"\x80",
    "deep tuples": b"\x80\x02" + b")" + b"\x85" * 200_000 + b".",
    "long number": b"\x80\x02\x8b" + struct.pack("<i", 1_000_000) + b"\x7f" * 1_000_000 + b".",
    "negative number": b"\x80\x02\x8b" + struct.pack("<i", -5) + b".",
    "a web page": b"<!DOCTYPE html><html></html>",
    "zeros": b"\0" * 4096,
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 3\n",
}

JSONS: dict[str, bytes] = {
    "empty": b"",
    "a brace": b"{",
    "a list": b"[]",
    "a number": b"3",
    "null": b"null",
    "Latin-1": b'{"a": "\xe9"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "zeros": b"\0" * 1000,
    "deep": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "deep lists": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a long key": json.dumps({"k" * 1_200_000: 1}).encode(),
    "a long number": b'{"a": ' + b"9" * 100_000 + b"}",
    "a web page": b"<html></html>",
    "eight megabytes": b" " * 2**23 + b"{}",
    "twice the key": b'{"in_channels": 3, "in_channels": 4}',
    "an empty object": b"{}",
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 3\n",
}


def byte_changes(rng: random.Random, count: int) -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    """Cuts, flips and insertions at random places, most of them near the beginning, where headers
    are."""
    for i in range(count):
        where = rng.random() ** 4
        kind = rng.choice(("cut", "flip", "insert", "zero", "swap"))
        seed = rng.random()
        yield (
            f"{kind} {i} at {where:.4f}",
            lambda data, k=kind, w=where, s=seed: changed(data, k, w, s),
        )


def changed(data: bytes, kind: str, where: float, seed: float) -> bytes:
    rng, at = random.Random(seed), int(where * max(1, len(data) - 1))
    if kind == "cut":
        return data[:at]
    if kind == "insert":
        return data[:at] + rng.randbytes(rng.randint(1, 64)) + data[at:]
    new = bytearray(data)
    if kind == "zero":
        new[at : at + 64] = bytes(len(new[at : at + 64]))
    elif kind == "swap":
        new[at : at + 32], new[-32:] = new[-32:], new[at : at + 32]
    else:
        for _ in range(rng.randint(1, 8)):
            place = min(len(new) - 1, at + rng.randint(0, 40))
            new[place] ^= 1 << rng.randint(0, 7)
    return bytes(new)


def archive(content: bytes, path: Path, compressed: bool = False) -> None:
    """A torch archive around a pickle of any kind."""
    how = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", how) as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/version", b"3\n")
        file.writestr("archive/byteorder", b"little")
