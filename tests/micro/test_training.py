"""Training of the micro cascade: words, start values, loss, resuming, folders written."""

import json

import pytest
import torch

from show1_engine.models.layers import TemporalConv
from show1_engine.training.loop import load_state, save_state
from show1_micro import vocabulary
from show1_micro.batches import (
    LatentPool,
    captions,
    cut,
    interpolation_condition,
    keyframe_clips,
    pixel_sr_clips,
    sr_condition,
)
from show1_micro.codec import VaeTraining
from show1_micro.configs import FRAMES, KEYFRAME_SIZE, REPOSITORIES, SR_SIZE, unet_config
from show1_micro.diffusion import cosine_alphas, linear_alphas, loss_weight
from show1_micro.initial import clock_readings, initial_unet, wind_clock
from show1_micro.stills import spatial_only
from show1_micro.text import Captions
from show1_micro.train import Trainer, batch_loss
from show1_micro.untrained import write_untrained


@pytest.fixture(scope="module")
def read():
    return Captions("t5")


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("untrained")
    write_untrained(folder, seed=3)
    return folder


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_tokenizers_know_every_word(untrained):
    from transformers import CLIPTokenizer, T5Tokenizer, T5TokenizerFast

    words = " ".join(vocabulary.WORDS)
    for kind in (T5Tokenizer, T5TokenizerFast):
        tokens = kind.from_pretrained(untrained / "show-1-base" / "tokenizer")
        ids = tokens(words).input_ids
        assert len(ids) == len(vocabulary.WORDS) + 1 and 2 not in ids and ids[-1] == 1
        assert tokens("").input_ids == [1]
        assert 2 in tokens("a zebra").input_ids
    clip = CLIPTokenizer.from_pretrained(untrained / "show-1-sr2" / "tokenizer")
    assert len(clip(words).input_ids) == len(vocabulary.WORDS) + 2
    assert clip("", padding="max_length", max_length=77).input_ids[2:] == [0] * 75


def test_the_sentencepiece_file_agrees(untrained):
    sentencepiece = pytest.importorskip("sentencepiece")
    model = sentencepiece.SentencePieceProcessor(
        str(untrained / "show-1-base" / "tokenizer" / "spiece.model")
    )
    text = "a striped red circle, moving right on a purple-ish background."
    from transformers import T5TokenizerFast

    fast = T5TokenizerFast.from_pretrained(untrained / "show-1-base" / "tokenizer")
    assert model.encode(text) == fast(text).input_ids[:-1]
    assert (model.pad_id(), model.eos_id(), model.unk_id()) == (0, 1, 2)


def test_text_states_carry_meaning_to_the_pads(read):
    first, same, other, empty = read(
        [
            "a red circle moving right on a grey background",
            "a red ball moving rightwards on a gray background",
            "a red circle moving left on a grey background",
            "",
        ]
    )
    assert first.shape == (77, 64)
    last = [states[-1] for states in (first, same, other, empty)]
    assert (last[0] - last[1]).norm() < 1e-3
    assert (last[0] - last[2]).norm() > 1 and (last[0] - last[3]).norm() > 3


def test_untrained_is_seeded_and_complete(untrained, tmp_path):
    from safetensors.torch import load_file

    write_untrained(tmp_path, seed=3)
    for name in REPOSITORIES.values():
        file = f"{name}/unet/diffusion_pytorch_model.safetensors"
        first, second = load_file(untrained / file), load_file(tmp_path / file)
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert json.loads((untrained / name / "model_index.json").read_text())["_class_name"]
    size = sum(path.stat().st_size for path in untrained.rglob("*") if path.is_file())
    assert size < 25e6


@pytest.mark.parametrize("kind", REPOSITORIES)
def test_networks_start_as_the_identity(kind):
    torch.manual_seed(0)
    unet, config = initial_unet(kind).eval(), unet_config(kind)
    size, noisy = config["sample_size"] // 2, 4 if kind == "latent_expert" else 3
    x = torch.randn(1, config["in_channels"], 2, size, size)
    labels = torch.tensor([100]) if kind == "pixel_sr" else None
    with torch.no_grad():
        out = unet(x, 990, torch.randn(1, 77, 64), labels)
    assert (out[:, :noisy] - x[:, :noisy]).std() < 0.35
    assert noisy == 4 or out[:, 3:].abs().max() == 0


def test_schedules_are_the_published_ones():
    from diffusers import DDPMScheduler

    linear = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    for own, options in (
        (cosine_alphas(), {"beta_schedule": "squaredcos_cap_v2"}),
        (linear_alphas(), linear),
    ):
        assert torch.allclose(own, DDPMScheduler(**options).alphas_cumprod, rtol=1e-3, atol=1e-6)
    assert abs(loss_weight(cosine_alphas()).mean() - 1) < 0.1


def test_conditions_are_the_stages_own():
    """Training sees the conditions that the stages build."""
    from show1_engine.stages.interpolate import condition_of

    clean = torch.rand(2, 3, 5, 8, 8, generator=generator()) * 2 - 1
    own = interpolation_condition(clean, generator(), noise=0.0)
    theirs = torch.cat(
        [condition_of(clean[i : i + 1, :, 0], clean[i : i + 1, :, -1]) for i in range(2)]
    )
    assert torch.allclose(own, theirs, atol=1e-5)
    low = torch.rand(1, 3, 2, 16, 16, generator=generator())
    assert sr_condition(low, torch.tensor([0]), generator()).shape == (1, 3, 2, SR_SIZE, SR_SIZE)


def test_a_tenth_of_the_text_is_dropped(read):
    many = keyframe_clips(1, generator(), read)
    assert many.sample.shape == (1, 3, FRAMES, KEYFRAME_SIZE, KEYFRAME_SIZE)
    from show1_micro.batches import scenes

    states = captions(scenes(400, generator()), generator(), read)
    share = (states == read([""])).all(-1).all(-1).float().mean()
    assert 0.05 < share < 0.16


def test_super_resolution_windows_are_chained(read):
    batch = pixel_sr_clips(6, generator(1), read)
    assert batch.sample.shape == (6, 6, 8, SR_SIZE, SR_SIZE) and batch.labels.shape == (6,)
    roughness = batch.sample[:, 3:, 0].diff(dim=-1).abs().mean((1, 2, 3))
    assert (
        roughness.min() < 0.1 < roughness.max()
    )  # a clean first frame in some, a noised one in others


def test_stills_leave_the_temporal_layers_out(read):
    torch.manual_seed(0)
    unet = initial_unet("keyframes").eval()
    x, text = torch.randn(1, 3, 2, 16, 16), read(["a red circle"])
    with torch.no_grad():
        with spatial_only(unet):
            both = unet(x, 500, text)
            alone = unet(x[:, :, :1], 500, text)
        whole = unet(x, 500, text)
    assert torch.allclose(both[:, :, :1], alone, atol=1e-4)
    assert not torch.allclose(whole, both, atol=1e-3)


def test_clocks_tell_the_order_of_the_frames():
    torch.manual_seed(0)
    for channels in (32, 64, 96):
        layer = TemporalConv(channels, torch.nn).eval()
        x = torch.randn(2 * FRAMES, channels, 4, 4)
        with torch.no_grad():
            wind_clock(layer)
            added = (layer(x, FRAMES) - x).unflatten(0, (2, FRAMES))
        width = channels // 32
        ramp, bump = added[:, :, -2 * width : -width], added[:, :, -width:]
        assert (ramp - clock_readings(FRAMES)[:, :1, None, None]).abs().max() < 1e-4
        assert torch.allclose(bump, bump.flip(1), atol=1e-4) and (ramp.diff(dim=1) > 0.3).all()


def test_training_lowers_the_loss_and_resumes(tmp_path, read):
    batch = keyframe_clips(2, generator(7), read)
    trainer = Trainer("keyframes", tmp_path / "keyframes")
    trainer.counters["phase"] = 1
    with torch.no_grad():
        before = batch_loss(trainer.unet, batch)
    for _ in range(3):
        trainer.loop.step(trainer.loss, trainer.rate)
    trainer.save()
    again = Trainer("keyframes", tmp_path / "keyframes")
    assert again.counters == trainer.counters
    with torch.no_grad():
        assert batch_loss(trainer.unet, batch) < before
    one, other = (run.loop.step(run.loss, run.rate) for run in (trainer, again))
    assert one == pytest.approx(other, rel=1e-3)
    for one, other in zip(trainer.unet.parameters(), again.unet.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("stage", ["keyframes", "interpolation", "pixel_sr"])
def test_a_new_run_goes_on_from_the_bundled_weights(stage, tmp_path):
    trainer = Trainer(stage, tmp_path, bundled=True)
    fresh = Trainer(stage, tmp_path)
    assert any(not torch.equal(value, fresh.mean[key]) for key, value in trainer.mean.items())
    batch = trainer.data.makers[f"{'keyframe' if stage == 'keyframes' else stage}_clips"](
        2, generator(1), trainer.captions
    )
    with torch.no_grad():
        assert batch_loss(trainer.unet, batch) < 0.5 * batch_loss(fresh.unet, batch)


def test_latents_are_drawn_from_a_pool_that_renews_itself():
    encoded = []

    def encode(video, source):
        encoded.append(len(video))
        return torch.full((len(video), 4, FRAMES, 2, 2), float(len(encoded)))

    pool = LatentPool(encode, size=4, fresh=1)
    source = generator()
    many, latents = pool.draw(3, source)
    assert len(many) == 3 and latents.shape == (3, 4, FRAMES, 2, 2) and encoded == [3]
    for _ in range(4):
        pool.draw(3, source)
    assert encoded == [3, 1, 1, 1, 1] and len(pool.kept) == 4
    assert {float(value.flatten()[0]) for _, value in pool.kept} == {2.0, 3.0, 4.0, 5.0}


def test_cuts_keep_the_phase_of_textures():
    rows = torch.arange(SR_SIZE).view(1, 1, 1, -1, 1).expand(8, 3, 1, SR_SIZE, SR_SIZE)
    assert (cut(rows, SR_SIZE // 2, generator())[..., 0, 0] % 4 == 0).all()


def test_a_run_ends_after_its_steps(tmp_path):
    shown = []
    trainer = Trainer("keyframes", tmp_path)
    trainer.report = lambda: None  # sampling a sheet takes longer than the steps
    trainer.train(minutes=60, steps=2, anneal=True, show=shown.append)
    assert trainer.counters["step"] == 2 and len(shown) == 2 and "min left" in shown[0]


def numbered(state):
    """As torch's own optimisers write their state, which the VAE's once was."""
    return {"state": dict(enumerate(state["optimiser"].values())), "param_groups": []}


@pytest.mark.parametrize("network", ["unet", "vae"])
def test_a_folder_of_an_earlier_version_is_continued(network, tmp_path):
    def training(folder):
        return VaeTraining(folder) if network == "vae" else Trainer("keyframes", folder)

    first = training(tmp_path / "now")
    first.loop.step(first.loss, first.rate)
    first.save()
    state = load_state(tmp_path / "now" / "state.pt")
    state[network] = state.pop("weights")
    if network == "vae":
        state["optimiser"] = numbered(state)
    save_state(tmp_path / "earlier" / "state.pt", state)
    again = training(tmp_path / "earlier")
    now, then = again.loop.state(), first.loop.state()
    assert now["counters"] == then["counters"]
    assert now["optimiser"].keys() == then["optimiser"].keys()
    for part in ("weights", "mean"):
        assert all(torch.equal(now[part][key], value) for key, value in then[part].items())
    for name, moments in then["optimiser"].items():
        assert all(torch.equal(now["optimiser"][name][key], moments[key]) for key in moments)
