"""Networks of the micro cascade before training, initialised so that they are quick to train."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from show1_engine.models.layers import TEMPORAL_CONV_GROUPS, TemporalConv
from show1_engine.models.unet import UNet

from .configs import TEXT_WIDTH, unet_config, vae_config

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


def initial_unet(kind: str) -> UNet:
    """A stage's UNet, random from torch's global generator; it begins by predicting its noisy
    input.
    """
    unet = UNet(unet_config(kind))
    with torch.no_grad():
        _quiet_temporal_layers(unet)
        for block in unet.down_blocks:
            wind_clock(block.temp_convs[0])
        _predict_the_input(unet, channels=4 if kind == "latent_expert" else 3)
        if kind != "latent_expert":
            anchor_scale(unet, kind)
    return unet


def initial_vae() -> AutoencoderKL:
    """The latent expert's autoencoder with random weights."""
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_config(vae_config())


def _quiet_temporal_layers(unet: UNet, gain: float = 0.3) -> None:
    """Temporal layers begin as small changes to what the spatial ones make."""
    for name, module in unet.named_modules():
        if name.endswith("conv4") and isinstance(module, nn.Sequential):
            module[-1].weight.mul_(gain)
        if name.endswith("proj_out"):
            module.weight.mul_(gain)


def wind_clock(layer: TemporalConv) -> None:
    """Make a temporal convolution write a clock on the last channels: a ramp over the frames, and
    its even part.

    The network tells first from last frame by the zero padding of these convolutions alone. At
    random start that clue is a hundredth of a feature, and the direction of motion is not learned
    for long. Here two groups of channels hold a constant, each convolution lets the padding eat one
    frame further into it, one group from either end.
    """
    channels = layer.conv1[-1].out_channels
    size = channels // TEMPORAL_CONV_GROUPS
    forward, backward = (
        slice(channels - 2 * size, channels - size),
        slice(channels - size, channels),
    )
    for number, step in enumerate((layer.conv1, layer.conv2, layer.conv3, layer.conv4)):
        norm, conv = step[0], step[-1]
        norm.weight[channels - 2 * size :] = 0.3 if number else 0.0
        norm.bias[channels - 2 * size :] = 1.0
        conv.weight[channels - 2 * size :] = 0.0
        conv.bias[channels - 2 * size :] = 0.0
        for group, taps in ((forward, (1.0, 1.0, 0.0)), (backward, (0.0, 1.0, 1.0))):
            conv.weight[group, group] = torch.tensor(taps).view(1, 1, 3, 1) / size
    _difference_and_sum(layer.conv4[-1], forward, backward)


@cache
def clock_readings(frames: int) -> Tensor:
    """What a freshly wound clock adds at each frame: (F, 2), the ramp and the even bump."""
    with torch.no_grad():
        layer = TemporalConv(TEMPORAL_CONV_GROUPS, nn)
        wind_clock(layer)
        blank = torch.zeros(frames, TEMPORAL_CONV_GROUPS, 1, 1)
        return layer.eval()(blank, frames)[:, -2:, 0, 0]


def _difference_and_sum(
    conv: nn.Module, forward: slice, backward: slice, gain: float = 1.2
) -> None:
    """Turn the two counts, up from the start and up from the end, into a ramp through zero and an
    even bump.
    """
    up, down = conv.weight[forward, forward].clone(), conv.weight[backward, backward].clone()
    conv.weight[forward, forward], conv.weight[forward, backward] = gain * up, -gain * down
    conv.weight[backward, forward], conv.weight[backward, backward] = gain * up, gain * down
    conv.bias[backward] = -2.6 * gain  # about the sum's mean


def _predict_the_input(unet: UNet, channels: int) -> None:
    """Let the noise prediction start as the noisy input itself, which is nearly right at high
    noise.

    Channels 4i and 4i+1 carry +x and -x of channel i from `conv_in` through the last skip to
    `conv_out`; gelu(x) - gelu(-x) = x (silu too), and a group holding both signs keeps the mean of
    x under group norm.
    """
    first, last = unet.conv_in, unet.up_blocks[-1].resnets[-1]
    skip = last.conv_shortcut.in_channels - first.out_channels
    unet.conv_out.weight.mul_(0.1)
    unet.conv_out.bias.zero_()
    unet.conv_out.weight[channels:] = (
        0.0  # the variance channels: zero is the middle of learned_range
    )
    last.conv2.weight.mul_(0.1)
    last.conv2.bias.zero_()
    unet.up_blocks[-1].temp_convs[-1].conv4[-1].weight.mul_(0.3)
    for source in range(channels):
        for sign, carrier in ((1.0, 4 * source), (-1.0, 4 * source + 1)):
            first.weight[carrier] = 0.0
            first.bias[carrier] = 0.0
            first.weight[carrier, source, 1, 1] = sign
            last.conv_shortcut.weight[carrier] = 0.0
            last.conv_shortcut.bias[carrier] = 0.0
            last.conv_shortcut.weight[carrier, skip + carrier] = 1.0
            unet.conv_out.weight[source, carrier] = 0.0
            unet.conv_out.weight[source, carrier, 1, 1] = 0.85 * sign


def anchor_scale(unet: UNet, kind: str, constant: float = 3.0) -> None:
    """Let the noise prediction know how large its input is.

    The last group norm gives every frame's output the same size, but frames of noise differ by a
    percent or so, and a step from signal level 0.006 to 0.1 turns that percent into visible grain.
    Two constants in each group with a carrier of x outweigh it, so the norm hardly depends on x;
    weights and biases behind it undo the change.
    """
    norm, shortcut = unet.conv_norm_out, unet.up_blocks[-1].resnets[-1].conv_shortcut
    size = norm.num_channels // norm.num_groups
    before = _group_rms(unet, kind)
    for group in range(3):
        channels = slice(group * size, (group + 1) * size)
        signs = torch.tensor([0.0, 0.0, 1.0, -1.0])
        shortcut.bias[channels] += constant * signs
        old, new = before[group], (before[group] ** 2 + constant**2 / 2) ** 0.5
        norm.bias[channels] -= norm.weight[channels] * constant * signs / old
        norm.weight[channels] *= new / old


def _group_rms(unet: UNet, kind: str) -> Tensor:
    """Deviation of each group before the last norm, for inputs at middling noise (groups,)."""
    seen: list[Tensor] = []
    hook = unet.conv_norm_out.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0])
    )
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, unet.config["in_channels"], 2, 16, 16, generator=generator) * 0.9
    unet.eval()(
        x,
        700,
        torch.randn(4, 77, TEXT_WIDTH, generator=generator),
        torch.full((4,), 100) if kind == "pixel_sr" else None,
    )
    hook.remove()
    return seen[0].unflatten(1, (unet.conv_norm_out.num_groups, -1)).std(dim=(2, 3, 4)).mean(0)
