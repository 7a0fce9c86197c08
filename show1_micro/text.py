"""Captions as the UNets of the micro cascade read them in training, remembered: there are only a
few hundred.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from .configs import CLIP_LENGTH, clip_config, t5_config
from .text_encoders import clip_weights, t5_weights
from .vocabulary import write_clip_tokenizer, write_t5_tokenizer


class Captions:
    """Text states of captions: `Captions("t5")` for the pixel stages, `Captions("clip")` for the
    latent one.
    """

    def __init__(self, family: str):
        self.family = family
        self.tokenizer, self.encoder = _t5() if family == "t5" else _clip()
        self.known: dict[str, Tensor] = {}

    def __call__(self, captions: list[str]) -> Tensor:
        """Text states (B, 77, width) of captions; "" is the empty prompt."""
        for caption in set(captions) - self.known.keys():
            self.known[caption] = self._encode(caption)
        return torch.stack([self.known[caption] for caption in captions])

    @torch.no_grad()
    def _encode(self, caption: str) -> Tensor:
        tokens = self.tokenizer(
            caption,
            max_length=CLIP_LENGTH,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        )
        if self.family == "t5":
            return self.encoder(
                tokens.input_ids, attention_mask=tokens.attention_mask
            ).last_hidden_state[0]
        return self.encoder(tokens.input_ids).last_hidden_state[0]


@cache
def _t5() -> tuple:
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    encoder = T5EncoderModel(T5Config(**t5_config())).float().eval()
    encoder.load_state_dict(t5_weights())
    with tempfile.TemporaryDirectory() as folder:
        write_t5_tokenizer(Path(folder))
        return T5TokenizerFast.from_pretrained(folder), encoder


@cache
def _clip() -> tuple:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    encoder = CLIPTextModel(CLIPTextConfig(**clip_config())).float().eval()
    wanted = encoder.state_dict().keys()
    encoder.load_state_dict(
        {
            key if key in wanted else key.removeprefix("text_model."): value
            for key, value in clip_weights().items()
        },
        strict=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_clip_tokenizer(Path(folder))
        return CLIPTokenizer.from_pretrained(folder), encoder
