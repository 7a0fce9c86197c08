"""What a LoRA file that does not fit is, as far as its names and sizes tell."""

import re

from ..models.patches import LowRank
from .merging import Change

_FOREIGN = (  # a pattern in any key; what such a file is
    (
        r"motion_modules\.",
        "an AnimateDiff motion LoRA (its motion modules are other layers of other widths)",
    ),
    (
        r"hada_w1|lokr_w1|oft_blocks|dora_scale",
        "a LoHa, LoKr, OFT or DoRA file, methods this node does not apply",
    ),
    (
        r"double_blocks|single_blocks|single_transformer_blocks|joint_blocks",
        "a LoRA for a diffusion transformer such as Flux or Hunyuan",
    ),
    (
        r"(^|\.|lora_unet_)blocks[._]\d+[._](self_attn|cross_attn|attn)",
        "a LoRA for a diffusion transformer such as Wan",
    ),
    (
        r"input_blocks|output_blocks|lora_unet_input",
        "a LoRA for Stable Diffusion XL's original layer names",
    ),
)
_WIDTHS = {
    1280: "a full-size keyframe or interpolation model or the latent expert (show-1-base, "
    "show-1-interpolation, show-1-sr2)",
    768: "the pixel super-resolution model (show-1-sr1)",
    96: "show1-micro's keyframe or interpolation model",
}


def kind_of_file(keys: list[str]) -> str | None:
    """What a file is that is certainly for something else than Show-1; None if it may be for
    Show-1.
    """
    for pattern, what in _FOREIGN:
        if any(re.search(pattern, key) for key in keys):
            return what
    if (
        keys
        and not any("temp_attentions" in key or "transformer_in" in key for key in keys)
        and any(re.search(r"attentions[._]\d+[._]transformer_blocks", key) for key in keys)
    ):
        return "a LoRA for Stable Diffusion's spatial layers, without any temporal one"
    return None


def made_for(changes: dict[str, Change]) -> str:
    """Which model the sizes of a LoRA point to, as a sentence."""
    widths = [
        change.down.shape[-1]
        for key, change in changes.items()
        if isinstance(change, LowRank) and "mid_block" in key and ".attn1." in key
    ]
    if not widths:
        return "It was made for a model of another size."
    what = _WIDTHS.get(widths[0])
    latent = any("transformer_in" in key for key in changes)
    if latent and widths[0] == 1280:
        what = "the latent expert (show-1-sr2), ModelScope or zeroscope"
    return (
        f"It was made for {what}."
        if what
        else f"It was made for a model {widths[0]} wide in its middle."
    )
