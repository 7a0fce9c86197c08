"""The second edition's world, its recogniser and measures, and what it keeps of the first."""

import pytest
import torch
import torch.nn.functional as F

from show1_engine.bundled import WEIGHTS
from show1_engine.errors import CheckpointError, InputError
from show1_engine.loading import load_text_encoder
from show1_engine.models.kinds import INTERPOLATION, KEYFRAMES
from show1_engine.runtime import PlainRuntime
from show1_micro import landscape
from show1_micro.__main__ import main
from show1_micro.batches import MAKERS, LatentPool, captions, grained, latent_clips, scenes
from show1_micro.codec import VaeTraining
from show1_micro.editions import FIRST, SECOND
from show1_micro.evaluate import Judge, evaluate
from show1_micro.landscape import View, is_held_out, random_view, render
from show1_micro.landscape_reader import read_view
from show1_micro.looks import as_drawn, look_at, summary
from show1_micro.recogniser import ATTRIBUTES, accuracy
from show1_micro.text import Captions
from show1_micro.world import frame_times


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def views(count, seed=0, **kwargs):
    generator = seeded(seed)
    return [random_view(generator, **kwargs) for _ in range(count)]


def drawn(view, frames=8, size=SECOND.keyframe):
    return render([view], frame_times(frames), *size)[0]


@pytest.mark.parametrize(
    "frames, size, count",
    [(8, SECOND.keyframe, 40), (29, SECOND.keyframe, 8), (8, SECOND.large, 20)],
)
def test_clean_clips_are_read_right(frames, size, count):
    many = views(count)
    names = ATTRIBUTES + (("texture",) if size == SECOND.large else ())
    readings = [read_view(drawn(view, frames, size)) for view in many]
    assert accuracy(readings, many, names)["all"] >= 0.99


def test_noise_and_blur():
    many, generator = views(24, seed=1), seeded()
    noisy = [
        (drawn(v) + 0.1 * torch.randn(8, *SECOND.keyframe, 3, generator=generator)).clamp(0, 1)
        for v in many
    ]
    assert accuracy([read_view(clip) for clip in noisy], many)["all"] >= 0.95
    blurred = [
        F.avg_pool2d(F.pad(drawn(v).movedim(-1, 1), (1, 1, 1, 1), mode="replicate"), 3, 1)
        for v in many
    ]
    shares = accuracy([read_view(clip.movedim(1, -1)) for clip in blurred], many)
    assert shares["colour"] >= 0.95 and shares["motion"] >= 0.95 and shares["shape"] >= 0.8


def test_other_captions_are_at_chance():
    readings = [read_view(drawn(view)) for view in views(40)]
    shares = accuracy(readings, views(40, seed=9))
    assert shares["all"] <= 0.05 and shares["motion"] < 0.45 and shares["colour"] < 0.4


def test_a_still_clip_has_no_motion():
    assert read_view(drawn(views(1)[0])[:1].expand(8, -1, -1, -1)).motion == "still"


def test_sizes_agree():
    """A small drawing is the average of a large one, and the texture is gone from it."""
    for view in views(10):
        large = F.avg_pool2d(drawn(view, 3, SECOND.large).movedim(-1, 1), 4).movedim(1, -1)
        assert (drawn(view, 3) - large).abs().mean() < 0.01


def test_a_jump_goes_up_and_comes_down():
    view = View("ring", "red", "jumping", background="day", texture="plain", travel=0.3)
    x, y = landscape.centres([view], torch.tensor([[0.0, 0.5, 1.0]]))
    assert x.unique().numel() == 1
    assert y[0, 0] == y[0, 2] and y[0, 0] - y[0, 1] == pytest.approx(0.3)


def test_every_word_is_trained_in_another_combination():
    held = [view for view in views(400) if is_held_out(view)]
    assert 0.08 < len(held) / 400 < 0.18
    seen = views(200, held_out=False)
    for name, words in (("shape", 4), ("colour", 6), ("motion", 5)):
        assert len({getattr(view, name) for view in seen}) == words


def test_drawings_are_as_good_as_can_be():
    clips = [drawn(view, size=SECOND.large) for view in views(8)]
    found = summary([look_at(clip, world=SECOND) for clip in clips])
    assert found["outline"]["worst 5 %"] > 0.98
    assert found["flatness"]["worst 5 %"] < 0.8
    assert found["colour"]["worst 5 %"] < 2
    assert found["texture"]["worst 5 %"] > 0.8
    again = [as_drawn(clip, world=SECOND) for clip in clips[:3]]
    assert max(float((a - b).abs().mean()) for a, b in zip(again, clips, strict=False)) < 0.005


def test_each_fault_has_its_measure():
    view = View("circle", "red", "right", background="day", texture="plain", radius=0.2, travel=0.5)
    clip = drawn(view, size=SECOND.large)
    best, noise = look_at(clip, world=SECOND), 0.03 * torch.randn(clip.shape, generator=seeded())
    assert look_at((clip + noise).clamp(0, 1), world=SECOND).flatness > best.flatness + 5
    assert look_at((clip * 0.9), world=SECOND).colour > best.colour + 3


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("world", [FIRST, SECOND])
def test_batches_have_the_editions_sizes(name, world):
    batch = MAKERS[name](2, seeded(), Captions("t5"), world=world)
    size = world.keyframe
    if name.startswith("pixel_sr"):
        parts = {"pixel_sr_stills": (world.part,) * 2, "pixel_sr_parts": (64, 64)}
        size = parts.get(name, world.large)
    assert batch.sample.shape[-2:] == size and batch.sample.isfinite().all()


def test_every_second_condition_has_grain_up_to_the_most():
    clean = torch.zeros(200, 3, 5, 24, 40)
    found = grained(clean, seeded(), most=0.09)
    spread = found.flatten(1).std(1)
    assert 0.4 < float((spread == 0).float().mean()) < 0.6
    assert 0.07 < float(spread.max()) < 0.1
    some = found[spread > 0.02]
    there = some.square().mean()
    assert (some[..., 1:] * some[..., :-1]).mean() > 0.2 * there  # alike from pixel to pixel
    assert (some[:, :, 1:] * some[:, :, :-1]).mean() > 0.3 * there  # and from frame to frame
    assert grained(clean, seeded(), most=0.0) is clean


def test_an_expert_learns_most_where_it_works():
    pool = LatentPool(lambda video, source: torch.zeros(len(video), 4, 8, 2, 2), world=SECOND)
    batch = latent_clips(300, seeded(), Captions("clip"), pool, late=0.6)
    low = (batch.timesteps < 225).float().mean()
    assert 0.6 < float(low) < 0.8 and int(batch.timesteps.max()) < 900


def test_a_decoder_alone_learns_and_leaves_the_latents(tmp_path):
    start = SECOND.bundle.folder / "show-1-sr2/vae"
    training = VaeTraining(tmp_path, world=SECOND, start=start, decoder_only=True)
    before = {key: value.clone() for key, value in training.mean.items()}
    scaling = training.extra()["scaling"]
    training.loop.step(training.loss, training.rate)
    moved = {key for key, value in training.mean.items() if not torch.equal(value, before[key])}
    assert moved and all(key.startswith(("decoder.", "post_quant_conv.")) for key in moved)
    assert training.extra()["scaling"] == scaling


def test_no_decoder_learns_without_latents(tmp_path, capsys):
    with pytest.raises(InputError, match="add --bundled"):
        VaeTraining(tmp_path, world=SECOND, decoder_only=True)
    assert main(["train", "keyframes", "--decoder-only", "--runs", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: --decoder-only: 'keyframes' has no decoder")
    assert not list(tmp_path.iterdir())


def test_bundled_keyframes_say_what_captions_say():
    judge = Judge(SECOND.bundle.folder, template=True, edition=2)
    many = judge.scenes(3, 0)
    made = [judge.run(KEYFRAMES, view, None, seed=judge.seed + i) for i, view in enumerate(many)]
    assert accuracy([read_view(clip) for clip in made], many)["all"] == 1


def test_a_stage_without_a_model_is_named(tmp_path):
    for name in ("show-1-base", "show-1-sr2"):
        (tmp_path / name).symlink_to(SECOND.bundle.folder / name)
    with pytest.raises(CheckpointError, match="interpolation"):
        evaluate(tmp_path, clips=1, stages=(INTERPOLATION,), edition=2)


def test_both_editions_read_the_same_texts():
    """What the first edition's words mean has not moved, in either text encoder."""
    generator = seeded(3)
    texts = [scene.caption() for scene in scenes(4, generator)] + ["", "low resolution, blur"]
    for family, folder in (("t5", "show-1-base"), ("clip", "show-1-sr2")):
        own = load_text_encoder(WEIGHTS / folder, PlainRuntime("cpu", torch.float32))
        states, now = own.encode(texts), Captions(family)(texts)
        assert torch.allclose(states, now, atol=0.01)


def test_a_texture_that_is_not_named_is_plain_here_too():
    read = Captions("t5")
    said, unsaid, other = read(
        [
            "a plain purple ring jumping at dusk",
            "a purple ring jumping at dusk",
            "a checkered purple ring jumping at dusk",
        ]
    )[:, -1]
    assert torch.cosine_similarity(said, unsaid, dim=0) > 0.95
    assert torch.cosine_similarity(other, unsaid, dim=0) < 0.9
    assert captions(views(3), seeded(), read).shape[1] == 77
