"""What can go wrong, in words a user can act on: the thing, its value, the way out."""

import re
from collections.abc import Collection

LONGEST = 1000  # characters of a message
_LONGEST_WORD = 300  # a path may be that long, a value without any space need not
_LONG_WORD = re.compile(rf"\S{{{_LONGEST_WORD + 1},}}")


def printable(text: object, longest: int = LONGEST) -> str:
    """`text` as one line of at most `longest` characters that every terminal, log and host takes.

    What cannot be printed (line breaks, control characters, halves of surrogate pairs) is escaped
    as Python writes it; of a long word, and of a long text, the middle is left out, since the way
    out stands at the end.
    """
    text = str(text)
    if len(text) > 64 * longest:  # what is left out anyway need not be looked through
        text = _shortened(text, 64 * longest)
    text = _LONG_WORD.sub(lambda word: _shortened(word[0], _LONGEST_WORD), text)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else _escaped(c) for c in text)
    return _shortened(text, longest)


def _escaped(character: str) -> str:
    if character.isspace() and character not in "\t\n\r\v\f":
        return " "  # spaces of other widths
    return character.encode("unicode_escape").decode("ascii")


def _shortened(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    gap = f" ... ({len(text):,} characters) ... "
    end = (longest - len(gap)) * 2 // 5
    return text[: longest - len(gap) - end] + gap + text[len(text) - end :]


class Show1Error(ValueError):
    """Base of every error this package raises on purpose. Its message is one printable line,
    whatever it repeats.
    """

    def __init__(self, message: object = ""):
        super().__init__(printable(message))


class InputError(Show1Error):
    """A value given by the user cannot be used."""


class CheckpointError(Show1Error):
    """A model file is missing, damaged, unsafe or of another architecture."""


class ModelKindError(Show1Error):
    """A model is of another kind than the stage needs."""


class ResultError(Show1Error):
    """What was computed is not finite, and is not handed on."""


class DivergedError(ResultError):
    """A training's loss, or its slope, is not finite at `step` (from 1); it changed nothing.
    `batch`: what the step was taken on, where that is known.
    """

    def __init__(self, name: str, step: int, batch: Collection[str] = ()):
        of = f" (on {'; '.join(batch)})" if batch else ""
        super().__init__(
            f"{name}: the loss of step {step}{of} is NaN or infinite; lower the learning rate, or "
            "compute in fp32 or bf16"
        )
        self.step = step


def one_of(what: str, value: object, allowed: Collection[str]) -> None:
    """InputError, with all that is allowed, unless `value` is one of some names."""
    if not isinstance(value, str) or value not in allowed:
        raise InputError(f"{what} {value!r} is not known; choose one of {', '.join(allowed)}")


def number_within(what: str, value: object, least: float, most: float) -> None:
    """InputError, with the range, unless `value` is a number from `least` to `most`. NaN is
    none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise InputError(f"{what} is {value!r}; it must be a number from {least} to {most}")


def whole_within(what: str, value: object, least: int, most: int) -> None:
    """InputError, with the range, unless `value` is a whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{what} is {value!r}; it must be a whole number from {least} to {most}")
