"""Forwards and activations of every UNet equal the recorded ones."""

import pytest
import reference
import torch

from show1_engine.checkpoints.read import load_strict, read_weights, unet_config_of
from show1_engine.models.unet import UNet

_loaded: dict[str, UNet] = {}


def unet_of(model: str) -> UNet:
    if model not in _loaded:
        folder = reference.reference_root() / "models" / model
        with torch.device("meta"):
            unet = UNet(unet_config_of(folder))
        weights, file = read_weights(folder / "unet", ("diffusion_pytorch_model",))
        load_strict(unet, {key: value.float() for key, value in weights.items()}, file)
        _loaded[model] = unet.eval()
    return _loaded[model]


def forward(case: dict, tensors: dict) -> torch.Tensor:
    timestep = case["params"]["timestep"]
    timestep = tensors["in.timestep"] if isinstance(timestep, list) else timestep
    with torch.no_grad():
        return unet_of(case["model"])(
            tensors["in.sample"],
            timestep,
            tensors["in.encoder_hidden_states"],
            tensors.get("in.class_labels"),
        )


@pytest.mark.parametrize("case", reference.cases("a"), ids=lambda case: case["id"])
def test_forward(case):
    tensors = reference.golden(case)
    assert (forward(case, tensors) - tensors["out.sample"]).abs().max() <= case["max_abs_tol"]


@pytest.mark.parametrize("case", reference.cases("b"), ids=lambda case: case["id"])
def test_activations(case):
    tensors = reference.golden(case)
    recorded = {
        name.removeprefix("act."): value
        for name, value in tensors.items()
        if name.startswith("act.")
    }
    recorded.pop("time_proj")  # the sinusoid is no module here; time_embedding covers it
    seen = {}

    def keep(name):
        def hook(module, args, output):
            seen[name] = output[0] if isinstance(output, tuple) else output

        return hook

    unet = unet_of(case["model"])
    hooks = [
        module.register_forward_hook(keep(name))
        for name, module in unet.named_modules()
        if name in recorded
    ]
    out = forward(case, tensors)
    for hook in hooks:
        hook.remove()
    assert seen.keys() == recorded.keys()
    for name, value in recorded.items():
        tolerance = case["tensors"]["act." + name].get("tol", case["max_abs_tol"])
        assert (seen[name] - value).abs().max() <= tolerance, name
    assert (out - tensors["out.sample"]).abs().max() <= case["max_abs_tol"]
