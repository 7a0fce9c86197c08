"""The published architectures, built without weights: parameter counts as counted on the original classes."""
import pytest
import torch
from benchmarks.full_size import BASE, UNETS, flat

from show1_engine.models.unet import UNet

MILLIONS = {"show-1-base": 1726.8, "IF-I-L": 935.4, "show-1-interpolation": 1726.9, "show-1-sr1": 796.3,
            "IF-II-L": 1243.3, "show-1-sr2": 1411.2}


@pytest.mark.parametrize("name", MILLIONS)
def test_parameter_count(name):
    with torch.device("meta"):
        unet = UNet({**UNETS, "IF-I-L": flat(BASE)}[name])
    assert round(sum(p.numel() for p in unet.parameters()) / 1e6, 1) == MILLIONS[name]


def test_tensor_count_of_the_base_model():
    with torch.device("meta"):
        assert len(UNet(BASE).state_dict()) == 1827
