"""Which cases are run: all of a seed's, or so many of them, drawn evenly from the families."""

import random

import on_control
import on_files
import on_values
from harness import Case

FAMILIES = {**on_files.FAMILIES, **on_values.FAMILIES, **on_control.FAMILIES}


def chosen(rng: random.Random, most: int, only: list[str] = ()) -> list[Case]:
    """At most `most` cases; a family's valid ones are always among them."""
    families = [list(FAMILIES[name](rng)) for name in (only or FAMILIES)]
    picked = [case for cases in families for case in cases if case.valid]
    rest = [[case for case in cases if not case.valid] for cases in families]
    for cases in rest:
        rng.shuffle(cases)
    share = sorted(rest, key=len)
    for i, cases in enumerate(share):
        picked += cases[: max(0, (most - len(picked)) // (len(share) - i))]
    return picked
