"""Token ids, embeddings and cleaned captions equal the recorded ones."""

import json

import pytest
import reference
import torch

from show1_engine.loading import load_text_encoder
from show1_engine.models.text import caption
from show1_engine.runtime import PlainRuntime


def encoder_of(model: str):
    return load_text_encoder(reference.reference_root() / "models" / model, PlainRuntime())


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> bool:
    return a.shape == b.shape and float((a - b).abs().max()) <= tolerance


@pytest.mark.parametrize(
    "case",
    [c for c in reference.cases("c") if c["params"]["kind"] == "encode_prompt"],
    ids=lambda case: case["id"],
)
def test_t5(case):
    tensors, p = reference.golden(case), case["params"]
    encoder = encoder_of(case["model"])
    copies = p.get("num_images_per_prompt", 1)
    states = encoder.encode(p["prompts"], p["clean_caption"])
    assert close(
        states.repeat_interleave(copies, 0), tensors["out.prompt_embeds"], case["max_abs_tol"]
    )
    negative = encoder.encode(p.get("negative_prompt", [""])).repeat_interleave(copies, 0)
    assert close(negative, tensors["out.negative_prompt_embeds"], case["max_abs_tol"])
    if "out.input_ids" in tensors:
        ids, mask = encoder.tokenize(p["prompts"], p["clean_caption"])
        assert torch.equal(ids, tensors["out.input_ids"]) and torch.equal(
            mask, tensors["out.attention_mask"]
        )


@pytest.mark.parametrize(
    "case",
    [c for c in reference.cases("c") if c["params"]["kind"] == "clip_encode"],
    ids=lambda case: case["id"],
)
def test_clip(case):
    tensors = reference.golden(case)
    encoder = encoder_of(case["model"])
    assert torch.equal(encoder.tokenize(case["params"]["prompts"])[0], tensors["out.input_ids"])
    assert close(
        encoder.encode(case["params"]["prompts"]), tensors["out.prompt_embeds"], case["max_abs_tol"]
    )


def test_caption_cleaning():
    pairs = json.loads(
        (reference.reference_root() / "goldens" / "c_caption_cleaning.json").read_text()
    )["cases"]
    assert len(pairs) == 50
    assert [caption(pair["input"], clean=True) for pair in pairs] == [
        pair["output"] for pair in pairs
    ]
    assert [caption(pair["input"]) for pair in pairs] == [pair["no_clean"] for pair in pairs]
