"""The published architectures, built without weights: parameter counts as counted on the original
classes.
"""

import pytest
import torch

from benchmarks.full_size import BASE, EXPERT, UNETS, flat
from show1_engine.bundled import WEIGHTS
from show1_engine.checkpoints.read import load_strict, read_weights, unet_config_of
from show1_engine.models.layers import SpatialTransformer, TemporalTransformer
from show1_engine.models.unet import UNet

# zeroscope's and ModelScope's UNet, of diffusers' class: attention_head_dim is a width there.
MODELSCOPE = {
    key: value
    for key, value in EXPERT.items()
    if key not in ("mid_block_type", "transfromer_in_opt", "use_linear_projection")
} | {"attention_head_dim": 64}

MILLIONS = {
    "show-1-base": 1726.8,
    "IF-I-L": 935.4,
    "show-1-interpolation": 1726.9,
    "show-1-sr1": 796.3,
    "IF-II-L": 1243.3,
    "show-1-sr2": 1411.2,
}


@pytest.mark.parametrize("name", MILLIONS)
def test_parameter_count(name):
    with torch.device("meta"):
        unet = UNet({**UNETS, "IF-I-L": flat(BASE)}[name])
    assert round(sum(p.numel() for p in unet.parameters()) / 1e6, 1) == MILLIONS[name]


def test_tensor_count_of_the_base_model():
    with torch.device("meta"):
        assert len(UNet(BASE).state_dict()) == 1827


def test_the_expert_has_zeroscopes_tensors_and_heads():
    """Show-1's class counts heads, diffusers' gives their width: [5, 10, 20, 20] is 64."""
    with torch.device("meta"):
        own, modelscope = UNet(EXPERT), UNet(MODELSCOPE)
    assert {k: v.shape for k, v in own.state_dict().items()} == {
        k: v.shape for k, v in modelscope.state_dict().items()
    }
    assert heads_of(own) == heads_of(modelscope) and len(heads_of(own)) == 33
    with torch.device("meta"):
        assert heads_of(UNet({**EXPERT, "attention_head_dim": 64})) != heads_of(own)


def heads_of(unet: UNet) -> dict[str, int]:
    return {
        name: layer.transformer_blocks[0].attn1.heads
        for name, layer in unet.named_modules()
        if isinstance(layer, (SpatialTransformer, TemporalTransformer))
    }


def test_the_bundled_expert_is_of_the_published_class_and_computes_what_it_did():
    """Its weights were trained in diffusers' class."""
    config = unet_config_of(WEIGHTS / "show-1-sr2")
    assert config["transfromer_in_opt"] and config["attention_head_dim"] == [4, 8]
    trained = {key: value for key, value in config.items() if key in MODELSCOPE} | {
        "attention_head_dim": 8
    }
    weights, file = read_weights(WEIGHTS / "show-1-sr2" / "unet", ("diffusion_pytorch_model",))
    torch.manual_seed(0)
    sample, text, out = torch.randn(2, 4, 5, 9, 14), torch.randn(2, 77, 64), []
    for form in (config, trained):
        with torch.device("meta"):
            unet = UNet(form).eval()
        load_strict(unet, {key: value.float() for key, value in weights.items()}, file)
        with torch.no_grad():
            out.append(unet(sample, 321, text))
    assert torch.equal(*out) and out[0].std() > 0.1
