"""A selection of the campaign, drawn anew with each release: scripts/attack runs all of it."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import attack, campaign  # noqa: E402
from selection import FAMILIES, chosen  # noqa: E402

SEED, PER_FAMILY = 1, 8


@pytest.fixture(scope="module", autouse=True)
def libraries():
    """Loaded before the forks, not in each."""
    import diffusers  # noqa: F401
    import transformers  # noqa: F401


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_breaks_it(family):
    bad = [
        outcome
        for outcome in campaign(chosen(random.Random(SEED), PER_FAMILY, [family]))
        if not outcome.good
    ]
    assert not bad, "\n".join(f"{o.kind}: {o.name!a}: {o.text!a}" for o in bad)


def test_the_whole_campaign_is_large_enough():
    assert (
        sum(
            len(list(cases(random.Random(SEED))))
            for name, cases in FAMILIES.items()
            if name != "LoRA"
        )
        > 3000
    )


def test_the_harness_sees_what_is_bad():
    """Each kind of failure, made on purpose."""
    import torch
    from harness import Case, Wrong

    def fail(error):
        raise error

    expected = {
        "raw": lambda: fail(KeyError("x")),
        "wrong": lambda: fail(Wrong("x")),
        "crash": lambda: __import__("os")._exit(3),
        "memory": lambda: torch.ones(2**28).sum(),
    }
    for kind, run in expected.items():
        assert attack(Case("harness", kind, run), 2**26).kind == kind
