"""Other latent experts than show-1-sr2: zeroscope and ModelScope, tiny, load and sample."""

import json
import shutil
from pathlib import Path

import pytest
import reference
import torch
from safetensors.torch import save_file

from show1_engine.checkpoints.convert import convert
from show1_engine.checkpoints.find import cascade_in
from show1_engine.checkpoints.read import read_checkpoint
from show1_engine.loading import load_model, load_text_encoder
from show1_engine.models.kinds import LATENT_EXPERT
from show1_engine.models.unet import UNet
from show1_engine.runtime import PlainRuntime
from show1_engine.stages.latent_expert_sr import LatentExpertSettings, latent_expert_sr

# What the class of diffusers writes. The published have 320 to 1280 channels, heads 64 wide.
CONFIG = {
    "_class_name": "UNet3DConditionModel",
    "_diffusers_version": "0.15.0.dev0",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [32, 32, 64, 64],
    "cross_attention_dim": 32,
    "down_block_types": ["CrossAttnDownBlock3D"] * 3 + ["DownBlock3D"],
    "downsample_padding": 1,
    "in_channels": 4,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 32,
    "up_block_types": ["UpBlock3D"] + ["CrossAttnUpBlock3D"] * 3,
}
FORMS = {
    "zeroscope_v2_576w": "diffusion_pytorch_model.bin",
    "zeroscope_v2_XL": "diffusion_pytorch_model.bin",
    "text-to-video-ms-1.7b": "diffusion_pytorch_model.fp16.safetensors",
}


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """The three folders in their published forms, beside the parts of the recorded sr2."""
    folder = tmp_path_factory.mktemp("experts")
    torch.manual_seed(0)
    weights = {key: value.half() for key, value in UNet(CONFIG).state_dict().items()}
    for name, form in FORMS.items():
        source = reference.reference_root() / "models" / "show-1-sr2"
        for part in ("scheduler", "vae", "text_encoder", "tokenizer"):
            shutil.copytree(source / part, folder / name / part)
        (folder / name / "unet").mkdir()
        (folder / name / "unet" / "config.json").write_text(json.dumps(CONFIG))
        write = save_file if form.endswith(".safetensors") else torch.save
        write(weights, folder / name / "unet" / form)
    return folder


def sampled(
    folder: Path, report: list[str], size: tuple[int, int], frames: int = 2
) -> torch.Tensor:
    class Report(list):
        plan = staticmethod(report.append)

        def __call__(self, *step) -> None:
            pass

    model = load_model(folder, PlainRuntime())
    text = load_text_encoder(folder, PlainRuntime()).encode(["a street", "blur"])
    settings = LatentExpertSettings(width=size[0], height=size[1], steps=2, strength=0.7)
    return latent_expert_sr(
        model, torch.rand(frames, 16, 28, 3), text[:1], text[1:], settings, report=Report()
    )


@pytest.mark.parametrize("name", FORMS)
def test_it_loads_and_samples(published, name):
    assert read_checkpoint(published / name).kind == LATENT_EXPERT
    frames = sampled(published / name, [], (64, 40), frames=5)
    assert frames.shape == (5, 40, 64, 3) and bool(frames.isfinite().all()) and frames.std() > 0.01


@pytest.mark.parametrize(
    ("name", "tiles"), [("zeroscope_v2_XL", ""), ("zeroscope_v2_576w", "x 3 tiles")]
)
def test_a_frame_of_the_size_it_was_trained_on_is_one_tile(published, name, tiles):
    plans: list[str] = []
    assert sampled(published / name, plans, (1024, 576), frames=1).shape == (1, 576, 1024, 3)
    assert ("tiles" in plans[0]) == bool(tiles) and tiles in plans[0], plans


def test_one_file_keeps_the_size_under_any_name(published, tmp_path):
    convert(published / "zeroscope_v2_XL", tmp_path / "mine.safetensors")
    convert(tmp_path / "mine.safetensors", tmp_path / "again.safetensors")
    assert load_model(tmp_path / "again.safetensors", PlainRuntime()).trained == 1024 // 8
    convert(published / "text-to-video-ms-1.7b", tmp_path / "small.safetensors")
    assert load_model(tmp_path / "small.safetensors", PlainRuntime()).trained == 256 // 8


def test_of_several_experts_the_command_line_takes_the_one_made_for_larger_frames(published):
    assert cascade_in(published)[LATENT_EXPERT].name == "zeroscope_v2_XL"
