"""Which layers a LoRA changes: those of a motion, those of a student."""

import re

from torch import nn

from ..errors import one_of

TARGETS = {  # name -> parts of a temporal transformer's block
    "attention": ("attn1", "attn2"),  # the paper's: temporal attention alone
    "attention_and_ff": ("attn1", "attn2", "ff"),  # MotionDirector's
}
WHOLE = "attention_whole"  # of training: attention's weights themselves, without a rank
_TEMPORAL = re.compile(r"(^|\.)(temp_attentions\.\d+|transformer_in)\.")


def is_temporal(name: str) -> bool:
    """Whether a layer or weight belongs to a temporal transformer."""
    return _TEMPORAL.search(name) is not None


def temporal_layers(network: nn.Module, targets: str = "attention") -> dict[str, nn.Module]:
    """The linear layers of every temporal transformer by name, in diffusers' order (mid block
    last).
    """
    one_of("targets", targets, TARGETS)
    parts = "|".join(TARGETS[targets])
    wanted = re.compile(rf"\.transformer_blocks\.\d+\.({parts})\.")
    found = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and is_temporal(name) and wanted.search(name)
    }
    return dict(sorted(found.items(), key=lambda item: item[0].startswith("mid_block")))


def student_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Every linear layer of a video model by name: a student predicts something else everywhere. A
    model without temporal layers takes no LoRA and has none.
    """
    if not temporal_layers(network):
        return {}
    return {n: layer for n, layer in network.named_modules() if isinstance(layer, nn.Linear)}


def spatial_layers(network: nn.Module) -> dict[str, nn.Module]:
    """The linear layers through which pixels attend to pixels: what takes up a clip's looks while
    motion is learned.
    """
    wanted = re.compile(
        r"\.attentions\.\d+\.(to_[qkv]|to_out\.0|transformer_blocks\.\d+\.(attn1|ff)\..*)$"
    )
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and wanted.search(name)
    }
