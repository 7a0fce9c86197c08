"""What the host is told a forward needs is what it allocates."""

import random

import pytest
import torch

from benchmarks import full_size, paper
from benchmarks.measure import peak_bytes
from show1_engine.models import autoencoder
from show1_engine.models.memory import unet_bytes, vae_bytes
from show1_engine.models.unet import UNet
from show1_micro import configs

_PIXEL = (("resnet", "resnet", "simple"), ("resnet", "simple", "simple"), ("simple", "resnet"))


def some_config(source: random.Random) -> dict:
    """A UNet of one of the five families with random widths, layers and blocks."""
    kinds = source.choice(_PIXEL)
    widths = tuple(32 * source.randint(1, 4) for _ in kinds)
    family = source.choice(("keyframes", "interpolation", "pixel_sr", "first_frame", "latent"))
    if family == "latent":
        sizes = {"block_out_channels": list(widths[:2]), "layers_per_block": source.randint(1, 3)}
        return {**configs.latent_unet(), **sizes}
    channels = {"keyframes": 3, "interpolation": 7}.get(family, 6)
    changes = (
        {}
        if channels != 6
        else {
            "class_embed_type": "timestep",
            "resnet_out_scale_factor": source.choice((1.0, 1.414)),
            "only_cross_attention": source.choice((True, False)),
        }
    )
    config = configs.pixel_unet(channels, widths, source.randint(1, 3), kinds, 64, **changes)
    return full_size.flat(config) if family == "first_frame" else config


@pytest.mark.parametrize("seed", range(24))
def test_activations_of_any_unet(seed):
    source = random.Random(seed)
    config = some_config(source)
    with torch.device("meta"):
        net = UNet(config).to(source.choice((torch.float16, torch.float32)))
    frames = 1 if config["_class_name"] == "UNet2DConditionModel" else source.randint(1, 16)
    size = source.randint(1, 4), frames, 4 * source.randint(2, 20), 4 * source.randint(2, 20)
    counted = paper.forward_peak(net, *size)
    estimated = unet_bytes(config, *size, net.conv_in.weight.dtype)
    assert counted / 1.3 < estimated < 1.3 * counted, (
        config["in_channels"],
        size,
        counted,
        estimated,
    )


@pytest.mark.parametrize("kind", paper.STAGES)
def test_activations_of_the_published_models_at_their_sizes(kind):
    stage = paper.STAGES[kind]
    size = stage.frames, stage.height, stage.width
    counted = paper.forward_peak(full_size.unet(stage.model, torch.float16), 2, *size)
    estimated = unet_bytes(full_size.UNETS[stage.model], 2, *size, torch.float16)
    assert counted / 1.15 < estimated < 1.15 * counted


def test_shapes_alone_are_counted_as_real_tensors_are():
    """A CPU's kernels allocate what meta tensors say."""
    net = full_size.fill(UNet(configs.unet_config("interpolation")).eval().requires_grad_(False))
    with torch.device("meta"):
        twin = UNet(net.config).eval()
    real, shapes = (paper.forward_peak(one, 2, 5, 16, 16) for one in (net, twin))
    assert abs(real - shapes) < 0.05 * real


@pytest.mark.parametrize(
    "config", [full_size.VAE, configs.vae_config()], ids=["published", "micro"]
)
@pytest.mark.parametrize("size", [(1, 320, 576), (3, 64, 128)])
def test_activations_of_the_vae(config, size):
    frames, height, width = size
    net = autoencoder.build(config).half()
    factor = 2 ** (len(config["block_out_channels"]) - 1)
    pixels = torch.empty(frames, 3, height, width, dtype=torch.half, device="meta")
    latents = torch.empty(
        frames, 4, height // factor, width // factor, dtype=torch.half, device="meta"
    )
    estimated = vae_bytes(config, frames, height, width, torch.half)
    for counted in (
        peak_bytes(lambda: net.decoder(net.post_quant_conv(latents))),
        peak_bytes(lambda: net.quant_conv(net.encoder(pixels))),
    ):
        assert counted / 1.3 < estimated < 1.3 * counted


def test_the_paper_cascade_fits_a_small_card():
    """Computed: fp16 whole in 8 GB, fp8 whole in 6 GB, and in 4 GB a part stays in main memory."""
    for row in paper.costs().values():
        assert row["resident"]["8 GB fp16"]["share"] == row["resident"]["6 GB fp8"]["share"] == 1
        assert row["resident"]["8 GB fp16"]["peak"] < 7e9
        assert row["resident"]["4 GB fp16"]["share"] > 0.5
