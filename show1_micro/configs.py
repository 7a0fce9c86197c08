"""Configs of the micro cascade, in the published keys: the released models' classes, a few hundred
times smaller.
"""

from __future__ import annotations

from typing import Any

from .vocabulary import CLIP_BOS, CLIP_EOS, CLIP_LENGTH, T5_PIECES, clip_vocabulary

VERSION = "0.19.3"  # what the released configs carry; readers key nothing on it
FRAMES = 8  # keyframes of a clip
KEYFRAME_SIZE = 16  # pixels, both sides
SR_SIZE = 64  # pixel super-resolution, four times as large
TEXT_WIDTH = 64
REPOSITORIES = {
    "keyframes": "show-1-base",
    "interpolation": "show-1-interpolation",
    "pixel_sr": "show-1-sr1",
    "latent_expert": "show-1-sr2",
}

_DOWN = {"resnet": "ResnetDownsampleBlock3D", "simple": "SimpleCrossAttnDownBlock3D"}
_UP = {"resnet": "ResnetUpsampleBlock3D", "simple": "SimpleCrossAttnUpBlock3D"}


_CLASS = {"_class_name": "UNet3DConditionModel", "_diffusers_version": VERSION}


def pixel_unet(
    in_channels: int,
    widths: tuple[int, ...],
    layers: int | tuple[int, ...],
    kinds: tuple[str, ...],
    sample_size: int,
    **changes: Any,
) -> dict[str, Any]:
    """Config of a show-1 pixel UNet; `kinds` names each level's block from the top, "resnet" or
    "simple".
    """
    return {
        **_CLASS,
        "act_fn": "gelu",
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 4,
        "addition_time_embed_dim": None,
        "attention_head_dim": 16,
        "block_out_channels": list(widths),
        "center_input_sample": False,
        "class_embed_type": None,
        "class_embeddings_concat": False,
        **dict.fromkeys(("conv_in_kernel", "conv_out_kernel"), 3),
        "cross_attention_dim": TEXT_WIDTH,
        "cross_attention_norm": "group_norm",
        "down_block_types": [_DOWN[kind] for kind in kinds],
        "downsample_padding": 1,
        "dual_cross_attention": False,
        "encoder_hid_dim": TEXT_WIDTH,
        "encoder_hid_dim_type": "text_proj",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": in_channels,
        "layers_per_block": list(layers) if isinstance(layers, tuple) else layers,
        "mid_block_only_cross_attention": None,
        "mid_block_scale_factor": 1,
        "mid_block_type": "UNetMidBlock3DSimpleCrossAttn",
        "norm_eps": 1e-05,
        "norm_num_groups": 8,
        "num_attention_heads": None,
        "num_class_embeds": None,
        "only_cross_attention": False,
        "out_channels": 6,
        "projection_class_embeddings_input_dim": None,
        "resnet_out_scale_factor": 1.0,
        "resnet_skip_time_act": False,
        "resnet_time_scale_shift": "scale_shift",
        "sample_size": sample_size,
        "time_cond_proj_dim": None,
        "time_embedding_act_fn": None,
        "time_embedding_dim": None,
        "time_embedding_type": "positional",
        "timestep_post_act": None,
        "transformer_layers_per_block": 1,
        "transfromer_in_opt": False,
        "up_block_types": [_UP[kind] for kind in kinds[::-1]],
        "upcast_attention": False,
        "use_linear_projection": False,
        **changes,
    }


def unet_config(kind: str) -> dict[str, Any]:
    """UNet config of a stage of the micro cascade; `kind` as in `models.kinds`."""
    levels = ("resnet", "resnet", "simple")
    if kind == "keyframes":
        return pixel_unet(3, (32, 64, 96), 1, kinds=levels, sample_size=KEYFRAME_SIZE)
    if kind == "interpolation":
        return pixel_unet(7, (32, 64, 96), 1, kinds=levels, sample_size=KEYFRAME_SIZE)
    if kind == "pixel_sr":
        return pixel_unet(
            6,
            (32, 32, 64),
            1,
            kinds=levels,
            sample_size=SR_SIZE,
            class_embed_type="timestep",
            only_cross_attention=True,
        )
    return latent_unet()


def latent_unet() -> dict[str, Any]:
    """Config of the latent expert, in the published one's class: Show-1's own, whose
    `attention_head_dim` counts heads.

    `transformer_in_head_dim` is ours: the 64 of the class would make that layer three times as
    large as all the rest.
    """
    simple = pixel_unet(4, (32, 64), 1, kinds=(), sample_size=SR_SIZE // 4)
    return {
        **simple,
        "act_fn": "silu",
        "addition_embed_type": None,
        "addition_embed_type_num_heads": 64,
        "attention_head_dim": [4, 8],
        "cross_attention_norm": None,
        "down_block_types": ["DownBlock3D", "CrossAttnDownBlock3D"],
        "encoder_hid_dim": None,
        "encoder_hid_dim_type": None,
        "mid_block_type": "UNetMidBlock3DCrossAttn",
        "norm_num_groups": 16,
        "out_channels": 4,
        "resnet_time_scale_shift": "default",
        "transformer_in_head_dim": 8,
        "transfromer_in_opt": True,
        "up_block_types": ["CrossAttnUpBlock3D", "UpBlock3D"],
        "use_linear_projection": True,
    }


def vae_config(scaling: float = 1.0) -> dict[str, Any]:
    """Config of the latent expert's autoencoder: four channels, a quarter of the size; `scaling`:
    unit variance.
    """
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": VERSION,
        "act_fn": "silu",
        "block_out_channels": [32, 32, 64],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "force_upcast": True,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 1,
        "norm_num_groups": 16,
        "out_channels": 3,
        "sample_size": SR_SIZE,
        "scaling_factor": scaling,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
    }


def t5_config() -> dict[str, Any]:
    """Config of the pixel stages' text encoder: one layer, a word a token."""
    return {
        "architectures": ["T5EncoderModel"],
        "d_ff": TEXT_WIDTH,
        "d_kv": 16,
        "d_model": TEXT_WIDTH,
        "decoder_start_token_id": 0,
        "dense_act_fn": "gelu_new",
        "dropout_rate": 0.1,
        "eos_token_id": 1,
        "feed_forward_proj": "gated-gelu",
        "initializer_factor": 1.0,
        "is_encoder_decoder": True,
        "is_gated_act": True,
        "layer_norm_epsilon": 1e-06,
        "model_type": "t5",
        "num_decoder_layers": 1,
        "num_heads": 4,
        "num_layers": 1,
        "pad_token_id": 0,
        "relative_attention_max_distance": 128,
        "relative_attention_num_buckets": 32,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.29.1",
        "use_cache": True,
        "vocab_size": len(T5_PIECES),
    }


def clip_config() -> dict[str, Any]:
    """Config of the latent stage's text encoder."""
    vocabulary = clip_vocabulary()[0]
    return {
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": vocabulary[CLIP_BOS],
        "eos_token_id": vocabulary[CLIP_EOS],
        "hidden_act": "gelu",
        "hidden_size": TEXT_WIDTH,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": 2 * TEXT_WIDTH,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": CLIP_LENGTH,
        "model_type": "clip_text_model",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "pad_token_id": 0,
        "projection_dim": 512,
        "torch_dtype": "float16",
        "transformers_version": "4.29.1",
        "vocab_size": len(vocabulary),
    }


def _pixel_scheduler(sample_max_value: float) -> dict[str, Any]:
    return {
        "_class_name": "DPMSolverMultistepScheduler",
        "_diffusers_version": VERSION,
        "algorithm_type": "dpmsolver++",
        "beta_end": 0.02,
        "beta_schedule": "squaredcos_cap_v2",
        "beta_start": 0.0001,
        "dynamic_thresholding_ratio": 0.95,
        "lambda_min_clipped": -5.1,
        "lower_order_final": True,
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "sample_max_value": sample_max_value,
        "solver_order": 2,
        "solver_type": "midpoint",
        "steps_offset": 0,
        "thresholding": True,
        "timestep_spacing": "linspace",
        "trained_betas": None,
        "use_karras_sigmas": False,
        "variance_type": "fixed_small",
    }


def scheduler_config(kind: str) -> dict[str, Any]:
    """Scheduler config of a stage, the published ones: DPM-Solver++, cosine with thresholding, sr2
    scaled linear.
    """
    if kind != "latent_expert":
        return _pixel_scheduler(1.0 if kind == "pixel_sr" else 1.5)
    return {
        **_pixel_scheduler(1.0),
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "dynamic_thresholding_ratio": 0.995,
        "lambda_min_clipped": float("-inf"),
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "thresholding": False,
        "variance_type": None,
    }


def noising_config() -> dict[str, Any]:
    """Config of pixel SR's image_noising_scheduler."""
    return {
        "_class_name": "DDPMScheduler",
        "_diffusers_version": VERSION,
        "beta_end": 0.02,
        "beta_schedule": "squaredcos_cap_v2",
        "beta_start": 0.0001,
        "clip_sample": True,
        "clip_sample_range": 1.0,
        "dynamic_thresholding_ratio": 0.995,
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "sample_max_value": 1.0,
        "steps_offset": 0,
        "thresholding": False,
        "timestep_spacing": "leading",
        "trained_betas": None,
        "variance_type": "fixed_small",
    }


def model_index(kind: str) -> dict[str, Any]:
    """model_index.json of a stage's folder."""
    own = ["showone.models.unet_3d_condition", "UNet3DConditionModel"]
    index = {
        "_class_name": "TextToVideoIFPipeline",
        "_diffusers_version": VERSION,
        "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5Tokenizer"],
        "unet": own,
    }
    if kind == "interpolation":
        index["_class_name"] = "TextToVideoIFInterpPipeline"
    if kind == "pixel_sr":
        index |= {
            "_class_name": "TextToVideoIFSuperResolutionPipeline_Cond",
            "image_noising_scheduler": ["diffusers", "DDPMScheduler"],
        }
    if kind == "latent_expert":
        index |= {
            "_class_name": "VideoToVideoSDPipeline",
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "vae": ["diffusers", "AutoencoderKL"],
        }
    if kind in (
        "interpolation",
        "pixel_sr",
    ):  # as in a copy without the duplicate: the base's encoder serves them
        index |= {"text_encoder": [None, None], "tokenizer": [None, None]}
    return index
