"""Encodes and decodes with a core VAE and with the checkpoint's own kind on the same random weights
(SD 1.5's sizes).

A process of its own, with ComfyUI first on the path. Argument: the file for the results (JSON: name
-> largest difference).
"""

import json
import sys
from pathlib import Path

import comfy.cli_args

comfy.cli_args.args.cpu = True
import comfy.sd
import torch

from show1_engine.host.memory import ComfyRuntime
from show1_engine.host.vae import ComfyVae
from show1_engine.models import autoencoder
from show1_engine.noise import generator

CONFIG = {
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "scaling_factor": 0.18215,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}


def main(results: Path) -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        net = autoencoder.build(CONFIG).to_empty(device="cpu")
        for p in net.parameters():
            torch.nn.init.normal_(p, std=p[0].numel() ** -0.5) if p.ndim > 1 else p.fill_(
                float(p.shape[0] > 8)
            )
        net.quant_conv.weight[4:].zero_()
        net.quant_conv.bias[4:] = -30  # no posterior noise: the two draw it differently
        core = ComfyVae(
            comfy.sd.VAE(sd={key: value.clone() for key, value in net.state_dict().items()})
        )
        ours = autoencoder.VaeCodec(ComfyRuntime().manage("vae", net, torch.float32))
        video = torch.rand(1, 3, 18, 32, 24) * 2 - 1
        latents = [
            codec.encode(lambda part: video[:, :, part], 18, generator(1)) for codec in (ours, core)
        ]
        frames = [
            torch.cat([pixels for _, pixels in codec.decode(latents[0])], dim=2)
            for codec in (ours, core)
        ]
    results.write_text(
        json.dumps(
            {
                "factor": abs(ours.factor - core.factor),
                "latents": difference(*latents),
                # The host clamps what it decodes, we do not.
                "frames": difference(frames[0].clamp(-1, 1), frames[1]),
            }
        )
    )


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape and a.std() > 0.01, (a.shape, b.shape, a.std())
    return (a - b).abs().max().item()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
