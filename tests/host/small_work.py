"""The GPU protocol's workload at micro size."""

from benchmarks import gpu
from show1_engine.models.kinds import (
    FIRST_FRAME_SR,
    INTERPOLATION,
    KEYFRAMES,
    LATENT_EXPERT,
    PIXEL_SR,
)
from show1_engine.stages.interpolate import InterpolateSettings
from show1_engine.stages.keyframes import KeyframeSettings
from show1_engine.stages.latent_expert_sr import LatentExpertSettings
from show1_engine.stages.pixel_sr import PixelSRSettings
from show1_micro import configs


def small_work() -> gpu.Workload:
    unets = {
        kind: configs.unet_config(kind)
        for kind in (KEYFRAMES, INTERPOLATION, PIXEL_SR, LATENT_EXPERT)
    }
    flat = {
        **unets[PIXEL_SR],
        "_class_name": "UNet2DConditionModel",
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    }
    for side in ("down_block_types", "up_block_types"):
        flat[side] = [name.replace("3D", "2D") for name in flat[side]]
    return gpu.Workload(
        {**unets, FIRST_FRAME_SR: flat},
        configs.vae_config(),
        configs.t5_config(),
        KeyframeSettings(width=8, height=8, num_frames=2, steps=6, cfg=2.0),
        InterpolateSettings(steps=6, cfg=2.0),
        PixelSRSettings(steps=2, cfg=2.0),
        PixelSRSettings(steps=2, cfg=2.0),
        LatentExpertSettings(width=32, height=32, steps=6, cfg=2.0),
    )
