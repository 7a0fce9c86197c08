"""Text through ComfyUI: its own encoder networks, and core CLIP objects."""

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models.text import TextEncoder, caption, fixed


class HostText(nn.Module):
    """The host's own T5 and CLIP text model as `network(ids, mask)`: castable, fp8 included."""

    def __init__(self, kind: str, config: dict[str, Any]):
        super().__init__()
        import comfy.clip_model
        import comfy.ops
        import comfy.text_encoders.t5

        self.kind = kind
        cls = {"t5": comfy.text_encoders.t5.T5, "clip": comfy.clip_model.CLIPTextModel}[kind]
        config = {"dense_act_fn": "gelu_pytorch_tanh", "is_gated_act": True, **config}
        if config["dense_act_fn"] == "gelu_new":  # the same tanh approximation by its other name
            config["dense_act_fn"] = "gelu_pytorch_tanh"
        self.model = cls(config, torch.float32, "meta", comfy.ops.manual_cast)
        if kind == "clip":
            self.model.text_projection = nn.Identity()  # the pooled output is not used
            vocabulary, width = (
                config["vocab_size"],
                config["hidden_size"],
            )  # the class assumes OpenAI's vocabulary
            self.model.set_input_embeddings(
                comfy.ops.manual_cast.Embedding(vocabulary, width, device="meta")
            )

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        if self.kind == "t5":
            return self.model(ids, attention_mask=mask, dtype=torch.float32)[0]
        return self.model(ids)[0]


def states_of(text_encoder: Any, texts: list[str], clean_caption: bool = False) -> Tensor:
    """Text states (len(texts), 77, width) from one of our text encoders or from a core CLIP."""
    if isinstance(text_encoder, TextEncoder):
        return text_encoder.encode(texts, clean_caption)
    if not hasattr(text_encoder, "cond_stage_model"):
        raise InputError(
            f"'text_encoder' is {type(text_encoder).__name__}, not what its link carries; connect "
            "Load Show-1 Text Encoder or a CLIP"
        )
    return encode_with_clip(text_encoder, texts, clean_caption)


def encode_with_clip(clip: Any, texts: list[str], clean_caption: bool = False) -> Tensor:
    """Text states (len(texts), 77, width) from a core CLIP that holds T5 v1.1 XXL or OpenCLIP-H.

    Equal to our own text encoders on the same weights: 77 tokens, no prompt weights, pads kept,
    masked inside T5 only.
    """
    clip.cond_stage_model.reset_clip_options()  # a "CLIP set last layer" is for other models
    held = {"t5xxl": "t5xxl", "h": "clip_h"}  # token key -> attribute
    model = clip.cond_stage_model
    key = next((key for key, name in held.items() if getattr(model, name, None) is not None), None)
    if key is None:
        raise InputError(
            "Show1TextEncode: this CLIP holds neither T5 v1.1 XXL (pixel stages) nor OpenCLIP-H "
            "(latent expert); load a t5xxl file with CLIPLoader, or use Show1LoadTextEncoder"
        )
    encoder = getattr(model, held[key])
    if key == "t5xxl" and not any(
        hasattr(layer, "wi_0") for layer in encoder.transformer.modules()
    ):
        # The gate of the feed-forward layers is what T5 v1.1 brought: the older T5 has a single
        # "wi".
        raise InputError(
            "Show1TextEncode: this CLIP holds the older T5 of 11B parameters (CLIPLoader's type "
            "'cosmos'), not T5 v1.1 XXL; load a t5xxl file with CLIPLoader of type 'sd3' or 'ltxv'"
        )
    clip.load_model()
    states = []
    for text in texts:
        text = caption(text, clean_caption) if key == "t5xxl" else fixed(text)
        tokens = clip.tokenize(text, disable_weights=True)[key]
        special = encoder.special_tokens
        states.append(
            _encode_tokens(encoder, _cut_to_77(tokens, special.get("start"), special["end"]))
        )
    return torch.cat(states).float().cpu()


def _cut_to_77(chunks: list[list[tuple]], start: int | None, end: int) -> list[list[tuple]]:
    """The host's token chunks of any length as one of 77: the text cut short, its end token, pads
    of id 0.
    """
    text = []
    for chunk in chunks:
        ids = [pair[0] for pair in chunk]
        text += ids[start is not None : ids.index(end) if end in ids else len(ids)]
    ids = ([] if start is None else [start]) + text
    ids = ids[:76] + [end]
    return [[(token, 1.0) for token in ids + [0] * (77 - len(ids))]]


def _encode_tokens(encoder: Any, tokens: list[list[tuple]]) -> Tensor:
    before = encoder.enable_attention_masks, encoder.zero_out_masked
    encoder.enable_attention_masks, encoder.zero_out_masked = (
        hasattr(encoder.transformer, "shared"),
        False,
    )
    try:
        return encoder.encode_token_weights(tokens)[0]
    finally:
        encoder.enable_attention_masks, encoder.zero_out_masked = before
