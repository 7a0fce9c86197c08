"""The packed reference set is whole, within its size, and equal to the full set where that is at
hand.
"""

import os
from pathlib import Path

import pytest
import torch
from goldens import pack
from reference import case_id, cases, golden, reference_root, unpack

CARRIED = {"a": 15, "b": 2, "c": 5, "d": 31, "e": 2, "f": 14}
EVERY_CASE = [case for group in CARRIED for case in cases(group)]


def test_the_packed_set_is_small():
    assert (
        sum(path.stat().st_size for path in Path(__file__).parent.iterdir() if path.is_file())
        < 15_700_000
    )


@pytest.mark.skipif("SHOW1_REFERENCE" in os.environ, reason="counts the packed set")
@pytest.mark.parametrize("group", CARRIED)
def test_every_case_that_should_be_carried_is(group):
    assert len(cases(group)) == CARRIED[group]


@pytest.mark.parametrize("case", EVERY_CASE, ids=case_id)
def test_a_golden_holds_what_the_index_says(case):
    recorded = golden(case)
    if case["file"].endswith(".json"):
        assert len(recorded["cases"]) == case["params"]["n"]
        return
    described = {
        name: (tuple(tensor["shape"]), getattr(torch, tensor["dtype"]))
        for name, tensor in case["tensors"].items()
    }
    assert {
        name: (tuple(tensor.shape), tensor.dtype) for name, tensor in recorded.items()
    } == described


def test_the_layout_is_the_recorded_one():
    for model in (
        "show-1-base",
        "show-1-interpolation",
        "show-1-sr1",
        "IF-II-L-v1.0",
        "show-1-sr2",
        "show-1-sr2-own",
    ):
        for part in (
            "unet/config.json",
            "scheduler/scheduler_config.json",
            "text_encoder/model.safetensors",
            "tokenizer/tokenizer_config.json",
        ):
            assert (reference_root() / "models" / model / part).is_file()


@pytest.mark.skipif("SHOW1_REFERENCE" not in os.environ, reason="needs the full set")
def test_the_packed_set_equals_the_full_one(tmp_path):
    unpack(tmp_path)
    assert "bit for bit" in pack.check(Path(os.environ["SHOW1_REFERENCE"]), tmp_path)
