"""The published architectures, built without weights: parameter counts as counted on the original classes."""
import pytest
import torch

from show1_engine.models.unet import UNet

_PIXEL = {"_class_name": "UNet3DConditionModel", "act_fn": "gelu", "addition_embed_type": "text",
          "addition_embed_type_num_heads": 64, "attention_head_dim": 64, "center_input_sample": False,
          "class_embed_type": None, "cross_attention_dim": 1280, "cross_attention_norm": "group_norm",
          "encoder_hid_dim": 4096, "encoder_hid_dim_type": "text_proj", "flip_sin_to_cos": True, "freq_shift": 0,
          "mid_block_scale_factor": 1, "mid_block_type": "UNetMidBlock3DSimpleCrossAttn", "norm_eps": 1e-5,
          "norm_num_groups": 32, "only_cross_attention": False, "out_channels": 6, "resnet_out_scale_factor": 1.0,
          "resnet_skip_time_act": False, "resnet_time_scale_shift": "scale_shift", "sample_size": 64,
          "time_embedding_act_fn": None, "time_embedding_dim": None, "transfromer_in_opt": False}
_BASE = {**_PIXEL, "in_channels": 3, "block_out_channels": [320, 640, 960, 1280], "layers_per_block": 3,
         "down_block_types": ["ResnetDownsampleBlock3D"] + ["SimpleCrossAttnDownBlock3D"] * 3,
         "up_block_types": ["SimpleCrossAttnUpBlock3D"] * 3 + ["ResnetUpsampleBlock3D"]}
_SR = {"class_embed_type": "timestep", "in_channels": 6, "mid_block_scale_factor": 1.4142271247, "sample_size": 256,
       "resnet_out_scale_factor": 1.4142271247, "resnet_skip_time_act": True, "time_embedding_act_fn": "gelu",
       "down_block_types": ["ResnetDownsampleBlock3D"] * 3 + ["SimpleCrossAttnDownBlock3D"] * 2,
       "up_block_types": ["SimpleCrossAttnUpBlock3D"] * 2 + ["ResnetUpsampleBlock3D"] * 3}


def flat(config: dict) -> dict:
    """The same model without temporal layers."""
    twin = {**config, "mid_block_type": config["mid_block_type"].replace("3D", "2D")}
    twin.pop("transfromer_in_opt")
    for side in ("down_block_types", "up_block_types"):
        twin[side] = [name.replace("3D", "2D") for name in config[side]]
    return {**twin, "_class_name": "UNet2DConditionModel"}


CONFIGS = {
    "show-1-base": (_BASE, 1726.8),
    "IF-I-L": (flat(_BASE), 935.4),
    "show-1-interpolation": ({**_BASE, "in_channels": 7}, 1726.9),
    "show-1-sr1": ({**_PIXEL, **_SR, "block_out_channels": [128, 256, 512, 768, 768], "cross_attention_dim": 768,
                    "layers_per_block": [2, 2, 3, 4, 2], "time_embedding_dim": 768}, 796.3),
    "IF-II-L": (flat({**_PIXEL, **_SR, "block_out_channels": [160, 320, 640, 960, 1280],
                      "layers_per_block": [2, 2, 3, 5, 5], "time_embedding_dim": 1280}), 1243.3),
    "show-1-sr2": ({"_class_name": "UNet3DConditionModel", "act_fn": "silu", "attention_head_dim": 64,
                    "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 1024,
                    "down_block_types": ["CrossAttnDownBlock3D"] * 3 + ["DownBlock3D"], "downsample_padding": 1,
                    "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-5,
                    "norm_num_groups": 32, "out_channels": 4, "sample_size": 32,
                    "up_block_types": ["UpBlock3D"] + ["CrossAttnUpBlock3D"] * 3}, 1411.2),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_parameter_count(name):
    config, millions = CONFIGS[name]
    with torch.device("meta"):
        unet = UNet(config)
    assert round(sum(p.numel() for p in unet.parameters()) / 1e6, 1) == millions


def test_tensor_count_of_the_base_model():
    with torch.device("meta"):
        assert len(UNet(_BASE).state_dict()) == 1827
