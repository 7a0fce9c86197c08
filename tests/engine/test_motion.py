"""Motion LoRAs: every spelling read and written, refusals that say what a file is, patches that
come and go.
"""

import pickle

import pytest
import reference
import torch
from safetensors.torch import save_file

from show1_engine.bundled import WEIGHTS
from show1_engine.errors import CheckpointError, InputError
from show1_engine.loading import load_model
from show1_engine.lora.formats import SPELLINGS, lora_from, read_lora, spelled
from show1_engine.lora.merging import MotionLora, with_motion
from show1_engine.lora.targets import temporal_layers
from show1_engine.models.bundle import Show1Model
from show1_engine.models.patches import Difference, LowRank
from show1_engine.runtime import PlainRuntime
from show1_engine.stages.interpolate import InterpolateSettings, interpolate
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.stages.latent_expert_sr import LatentExpertSettings, latent_expert_sr

TEXT = torch.randn(2, 77, 64, generator=torch.Generator().manual_seed(1))
_models: dict[str, Show1Model] = {}


def model(name: str = "show-1-base") -> Show1Model:
    if name not in _models:
        folder = WEIGHTS / name
        _models[name] = load_model(
            folder if folder.is_dir() else reference.reference_root() / "models" / name,
            PlainRuntime(),
        )
    return _models[name]


def lora(
    seed: int = 0, rank: int = 3, alpha: float | None = None, name: str = "show-1-base"
) -> MotionLora:
    """A LoRA of random numbers, large enough to be seen."""
    source = torch.Generator().manual_seed(seed)

    def pair(weight: torch.Tensor) -> LowRank:
        rows, columns = weight.shape
        return LowRank(
            torch.randn(rows, rank, generator=source) * 0.2,
            torch.randn(rank, columns, generator=source),
            alpha,
        )

    layers = temporal_layers(model(name).network)
    return MotionLora(
        "random", {f"{key}.weight": pair(layer.weight) for key, layer in layers.items()}
    )


def frames(model: Show1Model) -> torch.Tensor:
    return keyframes(
        model,
        TEXT[:1],
        TEXT[1:],
        KeyframeSettings(width=16, height=16, num_frames=3, steps=2, cfg=2.0),
    )


def equal(one: MotionLora, other: MotionLora) -> bool:
    return one.changes.keys() == other.changes.keys() and all(
        torch.equal(a.up, b.up) and torch.equal(a.down, b.down) and a.alpha == b.alpha
        for a, b in ((one.changes[key], other.changes[key]) for key in one.changes)
    )


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("alpha", [None, 1.75])
def test_round_trip_is_lossless(spelling, alpha, tmp_path):
    before = lora(alpha=alpha)
    save_file(spelled(before, spelling), tmp_path / "lora.safetensors")
    after = read_lora(tmp_path / "lora.safetensors", model())
    if (
        spelling == "kohya" and alpha is None
    ):  # its files always hold an alpha: the rank, which means 1
        assert {change.alpha for change in after.changes.values()} == {3.0}
        assert torch.equal(
            frames(with_motion(model(), before, 1)), frames(with_motion(model(), after, 1))
        )
    else:
        assert equal(before, after)


def test_through_peft_and_kohya_and_back():
    tensors = spelled(lora(alpha=2.0), "peft")
    through = spelled(
        lora_from(spelled(lora_from(tensors, model(), "a"), "kohya"), model(), "b"), "peft"
    )
    assert tensors.keys() == through.keys() and all(
        torch.equal(tensors[key], through[key]) for key in tensors
    )


@pytest.mark.parametrize(
    "up, down, prefix",
    [
        ("lora_B.default.weight", "lora_A.default.weight", "base_model.model."),
        ("lora_B", "lora_A", ""),
        ("lora.up.weight", "lora.down.weight", "unet."),
        ("lora_linear_layer.up.weight", "lora_linear_layer.down.weight", "unet."),
        ("lora_up.weight", "lora_down.weight", "model.diffusion_model."),
    ],
)
def test_other_spellings_of_the_same(up, down, prefix):
    tensors = {}
    for key, change in lora().changes.items():
        name = prefix + key.removesuffix(".weight")
        tensors |= {f"{name}.{up}": change.up, f"{name}.{down}": change.down}
    assert equal(lora_from(tensors, model(), "x"), lora())


def test_attention_processors_spelling():
    """diffusers before PEFT: ....attn1.processor.to_out_lora.up.weight."""
    tensors = {}
    for key, change in lora().changes.items():
        block, _, layer = key.removesuffix(".weight").removesuffix(".0").rpartition(".")
        for role, value in (("up", change.up), ("down", change.down)):
            tensors[f"unet.{block}.processor.{layer}_lora.{role}.weight"] = value
    assert equal(lora_from(tensors, model(), "x"), lora())


def test_motion_director_list(tmp_path):
    layers = temporal_layers(model().network, "attention_and_ff")
    assert list(layers)[-1].startswith("mid_block")  # diffusers registers it last
    pairs = [
        (torch.randn(rows, 2), torch.randn(2, columns))
        for rows, columns in (layer.weight.shape for layer in layers.values())
    ]
    torch.save([tensor for pair in pairs for tensor in pair], tmp_path / "0_unet.pt")
    changes = read_lora(tmp_path / "0_unet.pt", model()).changes
    assert [key.removesuffix(".weight") for key in changes] == list(layers)
    assert all(
        torch.equal(change.up, up) and change.alpha is None
        for change, (up, _) in zip(changes.values(), pairs)
    )


def test_motion_director_list_of_another_model(tmp_path):
    torch.save([torch.zeros(4, 4)] * 340, tmp_path / "0_unet.pt")
    with pytest.raises(
        CheckpointError, match="list of 340 tensors.*needs 80.*zeroscope.*show-1-sr2"
    ):
        read_lora(tmp_path / "0_unet.pt", model())


def test_whole_weights_of_a_fine_tune(tmp_path):
    """VMC-style: at strength 1 the weights are the file's; what else a UNet holds is left alone."""
    source = torch.Generator().manual_seed(0)
    tuned = {
        f"{name}.weight": layer.weight + 0.1 * torch.randn(layer.weight.shape, generator=source)
        for name, layer in temporal_layers(model().network).items()
        if name.endswith(("to_q", "to_k", "to_v"))
    }
    torch.save(
        tuned | {"conv_in.weight": torch.zeros_like(model().network.conv_in.weight)},
        tmp_path / "tuned.bin",
    )
    changed = with_motion(model(), read_lora(tmp_path / "tuned.bin", model()), 1.0)
    changed.unet.load(0)
    weights = dict(model().network.named_parameters())
    assert all(torch.allclose(weights[key], value, atol=1e-6) for key, value in tuned.items())
    assert weights["conv_in.weight"].abs().sum() > 0
    frames(model())
    assert not torch.allclose(weights[next(iter(tuned))], next(iter(tuned.values())))


def test_differences():
    key, layer = next(iter(temporal_layers(model().network).items()))
    delta = torch.full_like(layer.weight, 0.25)
    found = lora_from({f"diffusion_model.{key}.diff": delta}, model(), "x").changes
    assert isinstance(found[f"{key}.weight"], Difference) and torch.equal(
        found[f"{key}.weight"].difference, delta
    )


def test_strength_zero_is_exactly_off_and_weights_are_clean_afterwards():
    before = frames(model())
    changed = with_motion(model(), lora(), 1.0)
    assert not torch.equal(frames(changed), before)
    assert torch.equal(frames(model()), before)
    assert with_motion(model(), lora(), 0.0) is model()
    assert not torch.equal(frames(changed), before) and torch.equal(frames(model()), before)


def test_stacked_in_any_order_and_taken_back():
    one, other = lora(1), lora(2)
    both = frames(with_motion(with_motion(model(), one, 0.7), other, -0.4))
    turned = frames(with_motion(with_motion(model(), other, -0.4), one, 0.7))
    assert torch.allclose(both, turned, atol=1e-4) and not torch.allclose(
        both, frames(model()), atol=1e-2
    )
    undone = frames(with_motion(with_motion(model(), one, 0.7), one, -0.7))
    assert torch.allclose(undone, frames(model()), atol=1e-4)


def test_interpolation():
    changed = with_motion(model("show-1-interpolation"), lora(name="show-1-interpolation"), 1.0)
    images = torch.rand(2, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    before, after = (
        interpolate(m, images, TEXT[:1], TEXT[1:], InterpolateSettings(steps=2, cfg=1.0))
        for m in (model("show-1-interpolation"), changed)
    )
    assert not torch.allclose(before, after, atol=1e-3)


def test_latent_expert():
    changed = with_motion(model("show-1-sr2"), lora(name="show-1-sr2"), 1.0)
    images = torch.rand(2, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    settings = LatentExpertSettings(width=16, height=16, steps=4, cfg=1.0)
    before, after = (
        latent_expert_sr(m, images, TEXT[:1], TEXT[1:], settings)
        for m in (model("show-1-sr2"), changed)
    )
    assert not torch.allclose(before, after, atol=1e-3)


WRONG = {
    "animatediff": (
        {
            "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0"
            ".attention_blocks.0.processor.to_q_lora.down.weight": torch.zeros(4, 320)
        },
        "AnimateDiff.*none of its 1 key",
    ),
    "stable diffusion": (
        {
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
            ".lora_up.weight": torch.zeros(320, 4)
        },
        "Stable Diffusion's spatial layers",
    ),
    "flux": (
        {"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": torch.zeros(4, 8)},
        "Flux",
    ),
    "wan": ({"diffusion_model.blocks.0.self_attn.q.lora_A.weight": torch.zeros(4, 8)}, "Wan"),
    "loha": (
        {"lora_unet_mid_block_temp_attentions_0_proj_in.hada_w1_a": torch.zeros(4, 8)},
        "LoHa",
    ),
    "unknown": ({"head.weight": torch.zeros(4, 8)}, "0 of 1 keys .*head.weight"),
    "half": (
        {
            "unet.mid_block.temp_attentions.0.transformer_blocks.0.attn1.to_q"
            ".lora_A.weight": torch.zeros(2, 96)
        },
        "only down; a LoRA needs both",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_for_something_else_are_refused(name):
    tensors, reason = WRONG[name]
    with pytest.raises(CheckpointError, match=f"'{name}.safetensors'.*{reason}"):
        lora_from(tensors, model(), f"{name}.safetensors")


def test_wrong_size_says_what_it_is_for():
    tensors = {
        key: torch.zeros(1280, 2) if "lora_B" in key else torch.zeros(2, 1280)
        for key in spelled(lora(), "peft")
    }
    with pytest.raises(CheckpointError) as error:
        lora_from(tensors, model(), "big.safetensors")
    text = str(error.value)
    assert "0 of 32 layers match" in text and "1280x1280 in the file and 96x96 in the model" in text
    assert "show-1-base" in text and "\n" not in text


def test_part_of_another_model_counts_what_matched():
    tensors = spelled(lora()) | {
        "unet.down_blocks.7.temp_attentions.0.proj_in.lora_A.weight": torch.zeros(2, 2)
    }
    with pytest.raises(CheckpointError, match="64 of 65 keys"):
        lora_from(tensors, model(), "x")


def test_no_temporal_layers():
    with pytest.raises(CheckpointError, match="no temporal attention"):
        lora_from(spelled(lora()), model("IF-II-L-v1.0"), "x")


def test_code_in_a_file_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "bomb.pt").write_bytes(pickle.dumps([Bomb()]))
    with pytest.raises(CheckpointError, match="not opened|damaged|no torch file"):
        read_lora(tmp_path / "bomb.pt", model())
    assert not (tmp_path / "ran").exists()


def test_lists_of_other_things(tmp_path):
    torch.save([1, 2, 3], tmp_path / "numbers.pt")
    with pytest.raises(CheckpointError, match="no LoRA"):
        read_lora(tmp_path / "numbers.pt", model())


def test_unknown_spelling():
    with pytest.raises(InputError, match="peft, kohya, comfyui"):
        spelled(lora(), "webui")
