"""Encodes prompts with core CLIP objects and with our own text encoders on the same random weights.

A process of its own, with ComfyUI first on the path. Arguments: a scratch folder, the file for the
results
(JSON: name -> largest difference, or the refusal).
"""

import json
import shutil
import sys
from pathlib import Path

import comfy.cli_args

comfy.cli_args.args.cpu = True
import comfy.sd
import comfy.text_encoders.cosmos
import comfy.text_encoders.lt
import comfy.text_encoders.sd2_clip
import comfy.text_encoders.sd3_clip
import comfy.text_encoders.t5
import torch
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from show1_engine.errors import InputError
from show1_engine.host.memory import ComfyRuntime
from show1_engine.host.text import encode_with_clip
from show1_engine.loading import load_text_encoder
from show1_engine.runtime import PlainRuntime

PROMPTS = [
    "",
    "A burning lamborghini driving on rainbow.",
    "  a (red:1.3) fox, HIGH quality  ",
    "the camera moves through the forest, over the river and past the old castle, " * 10,
]
COMFYUI = Path(comfy.sd.__file__).parent
T5_CONFIG = {
    "d_ff": 64,
    "d_kv": 8,
    "d_model": 32,
    "num_heads": 4,
    "num_layers": 2,
    "vocab_size": 32128,
}
CLIP_CONFIG = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "vocab_size": 49408,
    "hidden_act": "gelu",
}


def main(scratch: Path, results: Path) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        differences = {**t5(scratch / "t5"), **openclip(scratch / "clip"), **refused()}
    results.write_text(json.dumps(differences))


def t5(folder: Path) -> dict[str, float]:
    config = T5Config(**T5_CONFIG, feed_forward_proj="gated-gelu")
    weights = save(folder, T5EncoderModel(config))
    shutil.copytree(COMFYUI / "text_encoders" / "t5_tokenizer", folder / "tokenizer")
    expected = {
        clean: load_text_encoder(folder, PlainRuntime()).encode(PROMPTS, clean)
        for clean in (False, True)
    }
    hosts = load_text_encoder(folder, ComfyRuntime(), "fp32")
    out = {"T5 in the host's layers": difference(hosts.encode(PROMPTS), expected[False])}
    types = {
        "LTXV": (comfy.text_encoders.lt.ltxv_te(), comfy.text_encoders.lt.LTXVT5Tokenizer, {}),
        "SD3": (
            comfy.text_encoders.sd3_clip.SD3ClipModel,
            comfy.text_encoders.sd3_clip.SD3Tokenizer,
            {"clip_l": False, "clip_g": False, "t5": True},
        ),
    }
    for name, (model, tokenizer, params) in types.items():
        clip = core_clip(model, tokenizer, params, {"t5xxl_model_config": T5_CONFIG})
        clip.cond_stage_model.t5xxl.transformer.load_state_dict(weights, strict=False)
        for clean, states in expected.items():
            mine = encode_with_clip(clip, PROMPTS, clean)
            out[f"core CLIP {name}, clean_caption {clean}"] = difference(mine, states)
    return out


def refused() -> dict[str, str]:
    """What is said to a CLIP that holds another T5, or none."""
    old = {**T5_CONFIG, "dense_act_fn": "relu", "is_gated_act": False, "model_type": "t5"}
    cosmos = core_clip(
        comfy.text_encoders.cosmos.te(),
        comfy.text_encoders.cosmos.CosmosT5Tokenizer,
        {},
        {"clip_l_model_config": old, "t5xxl_model_config": old},
    )
    without = core_clip(
        comfy.text_encoders.sd3_clip.SD3ClipModel,
        comfy.text_encoders.sd3_clip.SD3Tokenizer,
        {"clip_l": False, "clip_g": False, "t5": False},
        {},
    )
    out = {}
    for name, clip in {"cosmos": cosmos, "SD3 without T5": without}.items():
        try:
            encode_with_clip(clip, PROMPTS)
        except InputError as error:
            out[name] = str(error)
    return out


def openclip(folder: Path) -> dict[str, float]:
    model = CLIPTextModel(CLIPTextConfig(**CLIP_CONFIG, num_hidden_layers=2, eos_token_id=49407))
    weights = save(folder, model)
    shutil.copytree(COMFYUI / "sd1_tokenizer", folder / "tokenizer")
    settings = folder / "tokenizer" / "tokenizer_config.json"
    settings.write_text(
        json.dumps({**json.loads(settings.read_text()), "pad_token": "!"})
    )  # as OpenCLIP-H has it
    special = folder / "tokenizer" / "special_tokens_map.json"
    special.write_text(json.dumps({**json.loads(special.read_text()), "pad_token": "!"}))
    expected = load_text_encoder(folder, PlainRuntime()).encode(PROMPTS)
    out = {
        "CLIP in the host's layers": difference(
            load_text_encoder(folder, ComfyRuntime(), "fp32").encode(PROMPTS), expected
        )
    }
    # The host keeps the 24th layer of OpenCLIP-H and reads the 23rd; the published folder has 23.
    clip = core_clip(
        comfy.text_encoders.sd2_clip.SD2ClipModel,
        comfy.text_encoders.sd2_clip.SD2Tokenizer,
        {},
        {"clip_h_model_config": {**CLIP_CONFIG, "num_hidden_layers": 3}},
    )
    keys = {
        ("" if key.startswith("text_model.") else "text_model.") + key: value
        for key, value in weights.items()
    }
    clip.cond_stage_model.clip_h.transformer.load_state_dict(keys, strict=False)
    out["core CLIP SD2"] = difference(encode_with_clip(clip, PROMPTS), expected)
    return out


def save(folder: Path, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2)
    model.save_pretrained(folder / "text_encoder")
    return model.state_dict()


def core_clip(model: type, tokenizer: type, params: dict, options: dict) -> comfy.sd.CLIP:
    class Target:
        pass

    target = Target()
    target.params, target.clip, target.tokenizer = params, model, tokenizer
    return comfy.sd.CLIP(target, model_options={**options, "dtype": torch.float32})


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape, (a.shape, b.shape)
    return (a - b).abs().max().item()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
