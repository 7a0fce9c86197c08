"""The networks: that they are the published ones, and take nothing else for them."""

import hashlib
import json

import numpy as np
import pytest
import torch
from torch import nn

from show1_engine.__main__ import main
from show1_engine.errors import CheckpointError, InputError
from show1_engine.evaluation.features import Store
from show1_engine.evaluation.networks import c3d, clip, i3d, inception, load_network
from show1_engine.evaluation.networks.published import WEIGHTS, digests, found, missing
from show1_engine.video import write_mp4


def filled(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights that follow from a seed and the names alone, of a size that keeps activations in
    bounds.
    """
    g = torch.Generator().manual_seed(seed)
    state = {}
    for name, old in sorted(model.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            state[name] = old
        elif name.endswith(("running_var", "bn.weight")):
            state[name] = torch.rand(old.shape, generator=g) + 0.5
        elif old.dim() > 1:
            state[name] = torch.randn(old.shape, generator=g) * (2 / old[0].numel()) ** 0.5
        else:
            state[name] = torch.randn(old.shape, generator=g) * 0.1
    model.load_state_dict(state)
    return model.eval()


@pytest.fixture(scope="module")
def three_d() -> i3d.I3D:
    return filled(i3d.I3D())


def video(frames: int, side: int = 224, seed: int = 1) -> torch.Tensor:
    return (
        torch.rand(1, 3, frames, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    )


# I3D


def test_i3d_has_the_published_tensors(three_d):
    names = set(three_d.state_dict())
    assert len(names) == 344
    assert sum(p.numel() for p in three_d.parameters()) == 12_697_264
    assert {
        "logits.conv3d.weight",
        "Conv3d_1a_7x7.conv3d.weight",
        "Conv3d_1a_7x7.bn.running_var",
        "Mixed_5c.b3b.bn.num_batches_tracked",
    } <= names


@torch.inference_mode()
def test_i3d_computes_what_the_published_code_does(three_d):
    """Recorded from content-debiased-fvd's module with these weights and this clip."""
    logits = three_d(video(9))[0]
    wanted = [-3.011293649673462, 2.445591926574707, 7.724745273590088, -2.5984363555908203]
    assert logits.shape == (400,)
    assert logits[:4].tolist() == pytest.approx(wanted, rel=1e-4)
    assert float(logits.double().square().sum()) == pytest.approx(40444.1956886836, rel=1e-4)


@torch.inference_mode()
def test_i3d_takes_each_clip_for_itself(three_d):
    two = torch.cat([video(9), video(9, seed=2)])
    torch.testing.assert_close(three_d(two)[1:], three_d(two[1:]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (video(8), "9 frames"),
        (video(9, side=32), "224x224"),
        (video(9) * 127 + 127, "-1 to 1"),
    ],
)
def test_i3d_refuses_what_gives_wrong_numbers(three_d, given, word):
    with pytest.raises(InputError, match=word):
        three_d(given)


def test_i3d_frames_come_scaled():
    frames = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 8, 12, 3)
    prepared = i3d.prepared(frames)
    assert prepared.shape == (1, 3, 2, 224, 224)
    assert prepared.amin((0, 1, 3, 4)).tolist() == pytest.approx([-1, 1], abs=1e-6)
    assert prepared.amax((0, 1, 3, 4)).tolist() == pytest.approx([-1, 1], abs=1e-6)


# C3D


def test_c3d_sees_bgr_less_the_mean():
    """By hand: one colour everywhere, a mean that differs by channel."""
    red = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1, 1).expand(1, 3, 16, 1, 1)
    mean = torch.tensor([90.0, 97.0, 101.0]).view(3, 1, 1, 1).expand(3, 16, 112, 112)
    seen = c3d.shifted(red, mean)
    assert seen.shape == (1, 3, 16, 112, 112)
    assert [seen[0, i].unique().tolist() for i in range(3)] == [
        [-128 + 128 - 90],
        [0 + 128 - 97],
        [128 + 128 - 101],
    ]


def test_c3d_sees_exactly_16_frames():
    with pytest.raises(InputError, match="exactly 16 frames"):
        c3d.shifted(torch.zeros(1, 3, 15, 4, 4), torch.zeros(3, 16, 112, 112))


def test_c3d_keeps_corners_and_frames_apart():
    ramp = torch.zeros(1, 3, 16, 2, 2)
    ramp[0, :, :, 0, 0] = 1
    ramp[0, :, 3] = -1
    seen = c3d.shifted(ramp, torch.full((3, 16, 112, 112), 128.0))
    assert float(seen[0, 0, 0, 0, 0]) == 128 and float(seen[0, 0, 0, -1, -1]) == 0
    assert seen[0, :, 3].unique().tolist() == [-128]


def small_c3d_files(folder):
    """The release's two files, with the right shapes and nothing learned."""
    shapes = {
        name: (module.weight.shape, module.bias.shape)
        for name, module in c3d.C3D().named_children()
    }
    arrays = {}
    for name, (weight, bias) in shapes.items():
        arrays[f"{name}/W"] = np.zeros(weight, np.float32)
        arrays[f"{name}/b"] = np.zeros(bias, np.float32)
    arrays["fc8/b"][7] = 5
    np.savez(folder / "conv3d_deepnetA_ucf.npz", **arrays)
    mean = np.full((1, 3, 16, 128, 171), 100, np.float32)
    np.savez_compressed(folder / "mean2.npz", mean=mean[:, :, :, :, :128])


def test_c3d_comes_from_its_two_files(tmp_path):
    small_c3d_files(tmp_path)
    network = load_network("c3d", [tmp_path])
    frames = torch.zeros(16, 20, 30, 3, dtype=torch.uint8)
    logits = network.logits(network.features(frames))
    assert logits.shape == (101,) and int(logits.argmax()) == 7
    assert len(network.digest) == 64


# Inception


def test_inception_is_torch_fidelitys(tmp_path):
    """The same random weights, the same pictures, in both."""
    theirs = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    ours = filled(inception.Inception())
    torch.save(ours.state_dict(), tmp_path / "weights.pth")
    extractor = theirs.FeatureExtractorInceptionV3(
        "inception-v3-compat",
        ["2048"],
        feature_extractor_weights_path=str(tmp_path / "weights.pth"),
    )
    frames = torch.randint(0, 256, (2, 40, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        wanted = extractor(inception.prepared(frames))[0]
        found = ours(inception.prepared(frames))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_inceptions_tensors():
    state = inception.Inception().state_dict()
    assert state["fc.weight"].shape == (1008, 2048) and len(state) == 566
    assert "Mixed_7c.branch3x3dbl_3b.bn.running_mean" in state


def test_the_resize_is_tensorflow_1s():
    """Pixel i is taken at i * old / new: the first pixel stays, there are no half-pixel centres."""
    row = torch.tensor([0.0, 10.0, 20.0]).view(1, 1, 1, 3)
    assert inception.resized(row, 6)[0, 0, 0].tolist() == [0, 5, 10, 15, 20, 20]


# CLIP


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    """A random CLIP of 16 pixels whose tokens are bytes."""
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("clip") / "clip-vit-base-patch32"
    torch.manual_seed(0)
    vision = {"image_size": 16, "patch_size": 8, "hidden_size": 32, "intermediate_size": 64}
    shape = {"num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 16}
    text = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 514, **shape}
    text |= {"eos_token_id": 513, "bos_token_id": 512}
    config = CLIPConfig(text_config=text, vision_config={**vision, **shape}, projection_dim=16)
    model = CLIPModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    write_byte_tokenizer(folder)
    return folder


def write_byte_tokenizer(folder) -> None:
    """CLIP's own files with bytes for a vocabulary, as bytes are written there."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [i for i in range(256) if i not in printable]
    letters = [chr(i) for i in printable] + [chr(256 + i) for i in range(len(others))]
    words = [*letters, *(letter + "</w>" for letter in letters)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(
        json.dumps({word: i for i, word in enumerate(words)}), encoding="utf-8"
    )
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    settings |= {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    settings |= {"unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    pixels = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 16}}
    pixels |= {"crop_size": {"height": 16, "width": 16}, "do_resize": True, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels), encoding="utf-8")


@pytest.fixture(scope="module")
def seeing(tiny_clip):
    return load_network("clip", [tiny_clip.parent])


def clip_frames(count: int = 6) -> torch.Tensor:
    """A gradient that moves."""
    y, x = torch.meshgrid(torch.arange(20), torch.arange(30), indexing="ij")
    frames = [torch.stack([x * 8 + i, y * 12, (x + y) * 5], -1) % 256 for i in range(count)]
    return torch.stack(frames).to(torch.uint8)


def test_clipsim_is_the_mean_cosine_of_the_frames(seeing):
    frames, caption = clip_frames(), seeing.caption("a red ball")
    cosines = clip.similarities(seeing.features(frames), caption)
    assert cosines.shape == (6,) and bool((cosines.abs() <= 1).all())
    backwards = clip.similarities(seeing.features(frames.flip(0)), caption)
    torch.testing.assert_close(backwards.mean(), cosines.mean(), rtol=1e-6, atol=1e-6)
    still = frames[:1].expand(6, -1, -1, -1)
    torch.testing.assert_close(
        clip.similarities(seeing.features(still), caption).mean(),
        clip.similarities(seeing.features(frames[:1]), caption)[0],
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_negative_similarity_stays_negative(seeing):
    images = seeing.features(clip_frames())
    assert float(clip.similarities(images, -images.mean(0)).mean()) < 0


def test_long_captions_are_cut_off(seeing):
    assert bool(seeing.caption("a word " * 200).isfinite().all())


class Processor:
    """What torchmetrics asks of transformers' own, whose need of torchvision differs by version."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, text=None, images=None, **kwargs):
        found = dict(self.tokenizer(text, padding=True, return_tensors="pt")) if text else {}
        if images:
            mean, std = torch.tensor(clip._MEAN), torch.tensor(clip._STD)
            pixels = torch.stack([image.movedim(0, -1) / 255 for image in images])
            found["pixel_values"] = ((pixels - mean) / std).movedim(-1, 1)
        return found


def test_torchmetrics_agrees_on_clipsim(tiny_clip, seeing):
    """On frames of the model's own size, so that nobody's resize is in it; theirs hides what is
    below zero.
    """
    multimodal = pytest.importorskip("torchmetrics.multimodal.clip_score")
    frames = torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8)
    found = {}
    for caption in ("a red ball", "a dog", "rain", "two men", "x"):
        cosines = clip.similarities(seeing.features(frames), seeing.caption(caption))
        found[caption] = 100 * float(cosines.mean())
    from transformers import AutoTokenizer, CLIPModel

    class Model(CLIPModel):
        """Gives plain tensors, as transformers did before 5."""

        def get_image_features(self, *args, **kwargs):
            found = super().get_image_features(*args, **kwargs)
            return getattr(found, "pooler_output", found)

        def get_text_features(self, *args, **kwargs):
            found = super().get_text_features(*args, **kwargs)
            return getattr(found, "pooler_output", found)

    pair = Model.from_pretrained(tiny_clip), Processor(AutoTokenizer.from_pretrained(tiny_clip))
    for caption, ours in found.items():
        theirs = multimodal.CLIPScore(model_name_or_path=lambda: pair)
        theirs.update(list(frames.movedim(-1, 1)), [caption] * len(frames))
        assert float(theirs.compute()) == pytest.approx(max(ours, 0), abs=2e-3)
    assert max(map(abs, found.values())) > 1


def test_a_page_shows_clipsim_by_frame_and_its_extremes(tiny_clip, tmp_path):
    """From videos with captions to the page; the clips named are those of the features."""
    (tmp_path / "clips").mkdir()
    for i in range(6):
        write_mp4(tmp_path / "clips" / f"{i}.mp4", clip_frames(5).roll(7 * i, 1) / 255, 8.0)
        (tmp_path / "clips" / f"{i}.txt").write_text(f"caption {i}")
    command = ["evaluate", "folder", str(tmp_path / "clips"), "--out", str(tmp_path / "out")]
    assert main([*command, "--metric", "clipsim", "--weights", str(tiny_clip.parent)]) == 0
    store = Store(tmp_path / "out" / "features" / "final" / "clipsim")
    means = {name: float(store.read(name).mean()) for name in store.names()}
    order = sorted(means, key=means.get)
    page = (tmp_path / "out" / "report.html").read_text()
    highest, lowest = page.split("Highest CLIPSIM")[1].split("Lowest CLIPSIM")
    for name in order[-4:]:
        assert f"{name}: {means[name]:.4f}" in highest and f"caption {name}" in highest
    assert [f"{name}: {means[name]:.4f}" in lowest for name in order] == [True] * 4 + [False] * 2
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["rows"][0]["value"] == pytest.approx(sum(means.values()) / 6, rel=1e-6)
    by_frame = np.mean([store.read(name) for name in means], axis=0)
    assert report["by_frame"] == pytest.approx(by_frame.tolist(), rel=1e-6)
    assert "CLIPSIM by frame" in page and "<polyline" in page


def test_a_folder_that_is_no_clip(tmp_path):
    (tmp_path / "clip-vit-base-patch32").mkdir()
    with pytest.raises(CheckpointError, match="no CLIP"):
        load_network("clip", [tmp_path])


# Identity


def test_digests_are_gits(tmp_path):
    """git hash-object of "hello\\n" is known."""
    path = tmp_path / "x"
    path.write_bytes(b"hello\n")
    assert digests(path) == (
        hashlib.sha256(b"hello\n").hexdigest(),
        "ce013625030ba8dba906f756967f9e9ca394464a",
    )


def test_other_weights_are_refused_and_taken_only_when_meant(tmp_path, three_d):
    path = tmp_path / "i3d_pretrained_400.pt"
    torch.save(three_d.state_dict(), path)
    with pytest.raises(CheckpointError, match="not the published.*a867b87a.*--other-weights"):
        load_network("i3d", [tmp_path])
    network = load_network("i3d", [path], others=True)
    assert network.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("spoil", ["another", "cut", "code", "torchscript", "shape"])
def test_what_are_no_weights_is_one_clear_line(tmp_path, three_d, spoil):
    path = tmp_path / "i3d_pretrained_400.pt"
    state = dict(three_d.state_dict())
    if spoil == "another":
        torch.save({"a": torch.zeros(3)}, path)
    elif spoil == "shape":
        torch.save({**state, "logits.conv3d.bias": torch.zeros(7)}, path)
    elif spoil == "code":
        torch.save(three_d, path)
    elif spoil == "torchscript":
        torch.jit.script(nn.Linear(2, 2)).save(str(path))
    else:
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(CheckpointError) as caught:
        load_network("i3d", [tmp_path], others=True)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_weights_that_are_missing_say_where_they_are(tmp_path):
    assert found("i3d", [tmp_path]) is None
    for name, known in WEIGHTS.items():
        text = missing(name, [tmp_path])
        assert known.file in text and known.address in text
    with pytest.raises(CheckpointError, match="TATS"):
        load_network("i3d", [tmp_path])
