"""The published configurations, as far as their cost goes: random weights of these shapes cost what
the real ones do.

Sizes: show-1-base's config.json, those of the other models as far as they are published, else as
their parameter counts say (tests/engine/test_full_size.py).
"""

from typing import Any

import torch

from show1_engine.models.unet import UNet

_PIXEL = {
    "_class_name": "UNet3DConditionModel",
    "act_fn": "gelu",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 64,
    "attention_head_dim": 64,
    "center_input_sample": False,
    "class_embed_type": None,
    "cross_attention_dim": 1280,
    "cross_attention_norm": "group_norm",
    "encoder_hid_dim": 4096,
    "encoder_hid_dim_type": "text_proj",
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock3DSimpleCrossAttn",
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
    "only_cross_attention": False,
    "out_channels": 6,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "scale_shift",
    "sample_size": 64,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "transfromer_in_opt": False,
}
BASE = {
    **_PIXEL,
    "in_channels": 3,
    "block_out_channels": [320, 640, 960, 1280],
    "layers_per_block": 3,
    "down_block_types": ["ResnetDownsampleBlock3D"] + ["SimpleCrossAttnDownBlock3D"] * 3,
    "up_block_types": ["SimpleCrossAttnUpBlock3D"] * 3 + ["ResnetUpsampleBlock3D"],
}
_SR = {
    "class_embed_type": "timestep",
    "in_channels": 6,
    "mid_block_scale_factor": 1.4142271247,
    "sample_size": 256,
    "resnet_out_scale_factor": 1.4142271247,
    "resnet_skip_time_act": True,
    "time_embedding_act_fn": "gelu",
    "down_block_types": ["ResnetDownsampleBlock3D"] * 3 + ["SimpleCrossAttnDownBlock3D"] * 2,
    "up_block_types": ["SimpleCrossAttnUpBlock3D"] * 2 + ["ResnetUpsampleBlock3D"] * 3,
}


def flat(config: dict[str, Any]) -> dict[str, Any]:
    """The same model without temporal layers."""
    twin = {**config, "mid_block_type": config["mid_block_type"].replace("3D", "2D")}
    twin.pop("transfromer_in_opt")
    for side in ("down_block_types", "up_block_types"):
        twin[side] = [name.replace("3D", "2D") for name in config[side]]
    return {**twin, "_class_name": "UNet2DConditionModel"}


# Of Show-1's class, as published; the head numbers are inferred: they make zeroscope's function,
# from which it was trained, and are what fits its config.json's size.
EXPERT = {
    "_class_name": "UNet3DConditionModel",
    "act_fn": "silu",
    "attention_head_dim": [5, 10, 20, 20],
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 1024,
    "down_block_types": ["CrossAttnDownBlock3D"] * 3 + ["DownBlock3D"],
    "downsample_padding": 1,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock3DCrossAttn",
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 32,
    "transfromer_in_opt": True,
    "up_block_types": ["UpBlock3D"] + ["CrossAttnUpBlock3D"] * 3,
    "use_linear_projection": True,
}

UNETS: dict[str, dict[str, Any]] = {
    "show-1-base": BASE,
    "show-1-interpolation": {**BASE, "in_channels": 7},
    "IF-II-L": flat(
        {
            **_PIXEL,
            **_SR,
            "block_out_channels": [160, 320, 640, 960, 1280],
            "layers_per_block": [2, 2, 3, 5, 5],
            "time_embedding_dim": 1280,
        }
    ),
    "show-1-sr1": {
        **_PIXEL,
        **_SR,
        "block_out_channels": [128, 256, 512, 768, 768],
        "cross_attention_dim": 768,
        "layers_per_block": [2, 2, 3, 4, 2],
        "time_embedding_dim": 768,
    },
    "show-1-sr2": EXPERT,
}
VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}


def unet(name: str, dtype: torch.dtype = torch.float32, device: str = "meta") -> UNet:
    """A published UNet without its weights: on "meta" shapes alone, else random values of a
    plausible size.
    """
    with torch.device("meta"):
        net = UNet(UNETS[name]).eval().requires_grad_(False).to(dtype)
    return net if device == "meta" else fill(net.to_empty(device=device))


def random_weights(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A state dict of random values in half precision for a network on the meta device."""
    with torch.no_grad():
        weights = {
            name: torch.empty(value.shape, dtype=torch.float16)
            for name, value in net.state_dict().items()
        }
    holder = torch.nn.ParameterList(
        torch.nn.Parameter(value, requires_grad=False) for value in weights.values()
    )
    fill(holder)
    return weights


def fill(net: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Random weights that keep activations finite: small matrices, norms near one. One million
    values serve all.
    """
    source = torch.Generator().manual_seed(seed)
    values = torch.randn(2**20 + 1, generator=source).to(next(net.parameters()).device)
    for parameter in net.parameters():
        width = parameter[0].numel() if parameter.ndim > 1 else 0
        with torch.no_grad():
            flat = parameter.view(-1)
            for part in flat.split(len(values)):
                part.copy_(values[: len(part)])
            flat.mul_(0.5 * width**-0.5) if width else flat.mul_(0.1).add_(0.5)
    return net
