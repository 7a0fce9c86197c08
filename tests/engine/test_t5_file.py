"""A T5 in one .safetensors file: every published form, its tokenizer, the command line."""

import json
import shutil
import struct
from pathlib import Path

import pytest
import reference
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from show1_engine.__main__ import main
from show1_engine.bundled import WEIGHTS as MICRO
from show1_engine.checkpoints.t5_file import t5_config_of
from show1_engine.errors import CheckpointError
from show1_engine.loading import load_text_encoder
from show1_engine.models.text import TransformersText
from show1_engine.runtime import PlainRuntime

PROMPTS = ["a burning lamborghini driving on a rainbow", ""]
FP8 = torch.float8_e4m3fn
BLOCK = "encoder.block.0.layer."


def folder() -> Path:
    return reference.reference_root() / "models" / "show-1-base"


def weights() -> dict[str, Tensor]:
    """The recorded T5 under the names of the published files: one embedding, no decoder."""
    named = load_file(folder() / "text_encoder" / "model.safetensors")
    return {
        key: value.half() for key, value in named.items() if key != "encoder.embed_tokens.weight"
    }


def scaled(
    names: tuple[str, str] = ("scale_weight", "scale_input"),
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A file's tensors with the matrices in scaled fp8, and what they stand for."""
    stored: dict[str, Tensor] = {}
    meant = {}
    for key, value in weights().items():
        stored[key], meant[key] = value, value.float()
        if value.ndim == 2 and "relative" not in key and "shared" not in key:
            scale = value.float().abs().max() / 448
            stored[key] = (value.float() / scale).to(FP8)
            meant[key] = stored[key].float() * scale
            for name, number in zip(names, (scale, torch.ones(()))):
                stored[f"{key.removesuffix('weight')}{name}"] = number
    return stored, meant


def write(path: Path, tensors: dict[str, Tensor], tokenizer: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    if tokenizer:
        shutil.copytree(folder() / "tokenizer", path.parent / "tokenizer")
    return path


def states(path: Path, **options) -> Tensor:
    return load_text_encoder(path, PlainRuntime(), **options).encode(PROMPTS)


def of_weights(tensors: dict[str, Tensor], target: Path) -> Tensor:
    """The states of a folder with these weights."""
    shutil.copytree(
        folder(), target, ignore=shutil.ignore_patterns("unet", "scheduler", "model.safetensors")
    )
    save_file(
        {key: value.float() for key, value in tensors.items()},
        target / "text_encoder" / "model.safetensors",
    )
    return states(target)


def test_half_precision_gives_the_folders_states(tmp_path):
    file = write(tmp_path / "t5xxl_fp16.safetensors", weights())
    assert torch.equal(states(file), states(folder()))


def test_plain_fp8_gives_the_states_of_the_rounded_weights(tmp_path):
    rounded = {key: value.to(FP8) for key, value in weights().items()}
    mine = states(write(tmp_path / "a" / "t5xxl_fp8_e4m3fn.safetensors", rounded))
    assert torch.equal(mine, of_weights(rounded, tmp_path / "b"))
    assert (mine - states(folder())).abs().max() > 0


@pytest.mark.parametrize(
    ("names", "more"),
    [
        (("scale_weight", "scale_input"), {"scaled_fp8": torch.zeros(2).to(FP8)}),
        (
            ("weight_scale", "input_scale"),
            {f"{BLOCK}0.SelfAttention.q.comfy_quant": torch.zeros(9, dtype=torch.uint8)},
        ),
    ],
    ids=["older names", "newer names"],
)
def test_scaled_fp8_is_multiplied_out(tmp_path, names, more):
    stored, meant = scaled(names)
    mine = states(write(tmp_path / "a" / "t5xxl_fp8_e4m3fn_scaled.safetensors", {**stored, **more}))
    assert torch.equal(mine, of_weights(meant, tmp_path / "b"))
    plain = states(
        write(tmp_path / "c" / "fp8.safetensors", {k: v.to(FP8) for k, v in weights().items()})
    )
    exact = states(folder())
    assert (mine - exact).abs().mean() < (plain - exact).abs().mean()


def test_a_decoder_in_the_file_is_left_alone(tmp_path):
    extra = {
        "decoder.block.0.layer.0.SelfAttention.q.weight": torch.ones(2, 2),
        "lm_head.weight": torch.ones(2),
    }
    assert torch.equal(
        states(write(tmp_path / "whole.safetensors", {**weights(), **extra})), states(folder())
    )


def test_the_config_is_read_off_the_shapes(tmp_path):
    config = t5_config_of(write(tmp_path / "t.safetensors", weights()))
    assert config == {
        "model_type": "t5",
        "feed_forward_proj": "gated-gelu",
        "num_layers": 2,
        "vocab_size": 1100,
        "relative_attention_num_buckets": 32,
        "d_model": 64,
        "d_ff": 128,
        "d_kv": 8,
        "num_heads": 4,
    }


def test_the_published_file_is_t5_v1_1_xxl(tmp_path):
    """By the header that t5xxl_fp16.safetensors has: 24 layers, 219 tensors."""
    shapes = {"shared.weight": [32128, 4096], "encoder.final_layer_norm.weight": [4096]}
    shapes[f"{BLOCK}0.SelfAttention.relative_attention_bias.weight"] = [32, 64]
    for i in range(24):
        block = f"encoder.block.{i}.layer."
        shapes |= {f"{block}0.SelfAttention.{name}.weight": [4096, 4096] for name in "qkvo"}
        shapes |= {
            f"{block}1.DenseReluDense.{name}.weight": [10240, 4096] for name in ("wi_0", "wi_1")
        }
        shapes[f"{block}1.DenseReluDense.wo.weight"] = [4096, 10240]
        shapes |= {f"{block}{j}.layer_norm.weight": [4096] for j in (0, 1)}
    header = json.dumps({name: {"dtype": "F16", "shape": shape} for name, shape in shapes.items()})
    file = tmp_path / "t5xxl_fp16.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header.encode())
    config = t5_config_of(file)
    assert (config["d_model"], config["d_ff"], config["d_kv"]) == (4096, 10240, 64)
    assert (config["num_heads"], config["num_layers"], config["vocab_size"]) == (64, 24, 32128)
    network = TransformersText("t5", config).model  # on the meta device
    names = {name for name in network.state_dict() if name != "encoder.embed_tokens.weight"}
    assert names == set(shapes) and len(names) == 219
    assert sum(p.numel() for p in network.parameters()) == 4_762_310_656


# What is no T5 v1.1


def refusal(path: Path, **options) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_text_encoder(path, PlainRuntime(), **options)
    message = str(caught.value)
    assert "\n" not in message and f"'{path}'" in message
    return message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda w: {f"{BLOCK}1.DenseReluDense.wi.weight": torch.ones(1)},
            "older T5 (as for Cosmos)",
        ),
        (
            lambda w: {
                "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight": torch.ones(
                    32, 4
                )
            },
            "UMT5",
        ),
        (
            lambda w: {
                f"{BLOCK}0.SelfAttention.q.weight": w[f"{BLOCK}0.SelfAttention.q.weight"].view(
                    torch.uint8
                )[:, :64],
                f"{BLOCK}0.SelfAttention.q.weight_scale": torch.ones(8),
            },
            "a form that only ComfyUI reads",
        ),
        (lambda w: {"encoder.final_layer_norm.weight": torch.ones(3)}, "of another shape"),
    ],
    ids=["old", "umt5", "4 bits", "shape"],
)
def test_another_t5_is_refused_by_name(tmp_path, change, says):
    tensors = weights()
    assert says in refusal(write(tmp_path / "t.safetensors", tensors | change(tensors)))


def test_other_files_are_refused_by_name(tmp_path):
    assert "holds no T5 encoder" in refusal(
        write(tmp_path / "a.safetensors", {"w": torch.ones(1)}, tokenizer=False)
    )
    (tmp_path / "b.safetensors").write_bytes(b"")
    assert "is empty" in refusal(tmp_path / "b.safetensors")
    (tmp_path / "t5xxl.gguf").write_bytes(b"GGUF")
    assert "is no .safetensors file" in refusal(tmp_path / "t5xxl.gguf")
    tensors = weights()
    del tensors["shared.weight"]
    assert "no whole T5 encoder" in refusal(
        write(tmp_path / "c.safetensors", tensors, tokenizer=False)
    )


# Tokenizers


def test_the_tokenizer_is_looked_for_where_it_may_lie(tmp_path):
    exact = states(folder())
    comfyui = tmp_path / "ComfyUI"
    file = write(
        comfyui / "models" / "text_encoders" / "t5xxl.safetensors", weights(), tokenizer=False
    )
    message = refusal(file)
    assert "download t5-tokenizer" in message and "1,100 tokens" in message
    shutil.copytree(folder() / "tokenizer", tmp_path / "show1" / "t5-tokenizer" / "tokenizer")
    assert torch.equal(states(file, models=tmp_path / "show1"), exact)
    shutil.copytree(folder() / "tokenizer", comfyui / "comfy" / "text_encoders" / "t5_tokenizer")
    assert torch.equal(states(file), exact)


def test_a_tokenizer_of_another_vocabulary_is_passed_over(tmp_path):
    """Micro's knows a hundred words."""
    file = write(tmp_path / "t5xxl.safetensors", weights(), tokenizer=False)
    assert "needs T5's tokenizer" in refusal(file, models=MICRO)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text(
        '{"model": {"type": "BPE"}}'
    )  # CLIP's kind
    assert "needs T5's tokenizer" in refusal(file)


# The command line


@pytest.fixture
def without_t5(tmp_path) -> Path:
    """The recorded models, as someone has them who fetched no T5."""
    target = tmp_path / "models"
    for name in ("show-1-base", "show-1-interpolation"):
        for part in ("unet", "scheduler"):
            shutil.copytree(
                reference.reference_root() / "models" / name / part, target / name / part
            )
    return target


def generated(models: Path, out: Path, *options: str) -> dict[str, Tensor]:
    sizes = ["--keyframes-width", "8", "--keyframes-height", "8", "--keyframes-num-frames", "2"]
    steps = [
        "--keyframes-steps",
        "2",
        "--interpolate-steps",
        "2",
        "--until",
        "interpolate",
        "--device",
        "cpu",
    ]
    assert (
        main(
            [
                "generate",
                "--models",
                str(models),
                "--prompt",
                PROMPTS[0],
                "--frames-out",
                str(out),
                *sizes,
                *steps,
                *options,
            ]
        )
        == 0
    )
    return load_file(out)


def test_generate_takes_the_file(without_t5, tmp_path, capsys):
    stored, _ = scaled()
    file = write(tmp_path / "t5" / "t5xxl_scaled.safetensors", stored)
    frames = generated(without_t5, tmp_path / "a.safetensors", "--text-encoder", str(file))
    assert frames["interpolated"].shape == (5, 8, 8, 3)
    half = write(tmp_path / "half" / "t5xxl.safetensors", weights())
    mine = generated(without_t5, tmp_path / "b.safetensors", "--text-encoder", str(half))
    theirs = generated(without_t5, tmp_path / "c.safetensors", "--text-encoder", str(folder()))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    sizes = ["generate", "--models", str(without_t5), "--prompt", "a"]
    assert main(sizes) != 0
    assert "holds no T5 text encoder" in capsys.readouterr().err


def test_what_is_no_t5_is_told(without_t5, tmp_path, capsys):
    clip = reference.reference_root() / "models" / "show-1-sr2"
    assert (
        main(
            ["generate", "--models", str(without_t5), "--prompt", "a", "--text-encoder", str(clip)]
        )
        != 0
    )
    assert "is no T5" in capsys.readouterr().err
    assert (
        main(
            [
                "train",
                str(tmp_path / "clip.mp4"),
                str(tmp_path / "lora.safetensors"),
                "--prompt",
                "a",
                "--expert",
                "--text-encoder",
                str(clip),
            ]
        )
        != 0
    )
    assert "leave it out" in capsys.readouterr().err
