"""Any length, any start, any rate: windows, prompts over time, given frames, factors, masks."""

import pytest
import torch
from hypothesis import given as cases
from hypothesis import strategies as st
from stage_models import clip, model, text

from show1_engine.errors import InputError
from show1_engine.frames import from_model, resize_bilinear, to_model
from show1_engine.noise import generator, repeated_noise
from show1_engine.pictures import compared, draft_sheet, picked_clip
from show1_engine.sampling.windows import loop_spans
from show1_engine.stages.given import GivenFrames, parsed_indices
from show1_engine.stages.interpolate import InterpolateSettings, interpolate, rate
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.stages.latent_expert_sr import LatentExpertSettings, latent_expert_sr
from show1_engine.stages.pixel_sr import PixelSRSettings, pixel_sr
from show1_engine.stages.prompts import PromptSchedule, scheduled_prompts

CPU = torch.device("cpu")


def run_keyframes(positive=None, given=None, images=None, **settings) -> torch.Tensor:
    settings = {"width": 8, "height": 8, "num_frames": 4, "steps": 2, "cfg": 1.0, **settings}
    texts = text("show-1-base")
    return keyframes(
        model("show-1-base"),
        texts[0] if positive is None else positive,
        texts[1],
        settings=KeyframeSettings(**settings),
        given=given,
        images=images,
    )


def run_interpolate(images, **settings) -> torch.Tensor:
    settings = {"steps": 1, "cfg": 1.0, **settings}
    return interpolate(
        model("show-1-interpolation"),
        images,
        *text("show-1-interpolation"),
        settings=InterpolateSettings(**settings),
    )


def run_pixel_sr(images, **options) -> torch.Tensor:
    settings = PixelSRSettings(steps=1, cfg=1.0)
    return pixel_sr(model("show-1-sr1"), images, *text("show-1-sr1"), settings=settings, **options)


def schedule(name: str, *starts: float, transition: float = 0.0) -> PromptSchedule:
    states = torch.randn(
        len(starts),
        77,
        model(name).network.text_width,
        generator=torch.Generator().manual_seed(4),
    )
    return PromptSchedule(states, starts, transition)


# --- windows


@cases(st.integers(1, 60), st.integers(1, 20), st.integers(0, 19))
def test_weights_round_a_loop_sum_to_one(length, size, overlap):
    total = torch.zeros(length)
    for span in loop_spans(length, size, overlap):
        total[span.index] += span.weight
    assert (total - 1).abs().max() < 1e-5


@cases(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12))
def test_windows_have_the_same_frames_of_noise(frames, window, step):
    noise = torch.arange(frames).float().view(1, 1, frames, 1, 1)
    out = repeated_noise(noise, window, min(step, window), generator(0)).flatten().tolist()
    assert len(out) == frames and out[:window] == list(range(min(window, frames)))
    assert set(out) == set(range(min(window, frames)))


def test_a_window_over_the_whole_clip_changes_nothing():
    whole = run_keyframes()
    assert torch.equal(whole, run_keyframes(window=4))
    assert torch.equal(whole, run_keyframes(window=8, overlap=7))
    assert torch.equal(whole, run_keyframes(window=-1))


def test_long_clips_need_the_memory_of_one_window(monkeypatch):
    seen = []
    net = model("show-1-base").network
    forward = type(net).forward

    def watched(self, x, *rest, **more):
        seen.append(x.shape[2])
        return forward(self, x, *rest, **more)

    monkeypatch.setattr(type(net), "forward", watched)
    assert run_keyframes(num_frames=13, window=-1).shape[0] == 13
    assert set(seen) == {8}
    seen.clear()
    run_keyframes(num_frames=12, window=-1)
    assert set(seen) == {12}


def test_an_overlap_as_long_as_the_window_is_refused():
    with pytest.raises(InputError, match="'overlap' is 4 and 'window' 3"):
        run_keyframes(num_frames=8, window=3)


# --- prompts over time


def test_lines_become_a_schedule():
    asked = []

    def encode(prompts):
        asked.extend(prompts)
        return torch.arange(len(prompts)).float().view(-1, 1, 1)

    lines = "a red circle\nin the sun\n\n8: a blue square\n 6.5s : a green\n triangle"
    made = scheduled_prompts("S", lines, 17, fps=2.0, transition=4, encode=encode)
    assert asked == ["a red circle in the sun", "a blue square", "a green triangle"]
    assert made.starts == (0.0, 0.5, 13 / 16)
    # Halfway through a transition both count alike; before and after it, one of them alone.
    for frame, value in ((0, 0.0), (6, 0.0), (8, 0.5), (10, 1.0), (13, 1.5), (16, 2.0)):
        assert float(made.at(frame / 16)) == pytest.approx(value)


@pytest.mark.parametrize(
    "lines, message",
    [
        ("", "no prompt from frame 0"),
        ("0: a\n4:", "no prompt from frame 4"),
        ("0: a\n9: b\n4: c", "frame 4 stands after the one from frame 9"),
        ("0: a\n16: b", "begins at frame 16, and the clip has 16"),
    ],
)
def test_lines_that_cannot_be_are_refused(lines, message):
    with pytest.raises(InputError, match=message):
        scheduled_prompts("S", lines, 16, fps=2.0, transition=0, encode=lambda _: torch.zeros(9))


def test_a_schedule_of_one_prompt_is_that_prompt():
    prompts = schedule("show-1-base", 0.0)
    assert torch.equal(run_keyframes(prompts), run_keyframes(prompts.states))


def test_every_window_reads_its_own_prompt():
    prompts = schedule("show-1-base", 0.0, 0.5)
    both = run_keyframes(prompts, num_frames=8, window=4, overlap=0)
    for part, states in ((slice(0, 4), prompts.states[:1]), (slice(4, 8), prompts.states[1:])):
        alone = run_keyframes(states, num_frames=8, window=4, overlap=0)
        assert torch.equal(both[part], alone[part])


def test_windows_of_interpolation_share_a_batch_with_their_own_prompts():
    frames = clip(3, 8, 8)
    prompts = schedule("show-1-interpolation", 0.0, 0.5)
    empty = text("show-1-interpolation")[1]
    settings = InterpolateSettings(steps=1, cfg=2.0)
    both, first, second = (
        interpolate(model("show-1-interpolation"), frames, states, empty, settings=settings)
        for states in (prompts, prompts.states[:1], prompts.states[1:])
    )
    assert (both[:4] - first[:4]).abs().max() < 1e-4
    assert (both[4:] - second[4:]).abs().max() < 1e-4


# --- given frames


def test_given_frames_come_back_exactly():
    frames = clip(2, 8, 8)
    free = run_keyframes()
    made = run_keyframes(given=GivenFrames(frames, (0, -1)))
    assert torch.equal(made[[0, -1]], frames)
    assert not torch.equal(made[1:3], free[1:3]), "the others see them"
    for sampler in ("ddim", "ddpm", "heun"):
        made = run_keyframes(given=GivenFrames(frames, (0, -1), harmonise=1), sampler=sampler)
        assert torch.equal(made[[0, -1]], frames) and made.isfinite().all()


def test_held_for_a_part_of_the_steps_they_are_only_near():
    frames = clip(1, 8, 8)
    made = run_keyframes(given=GivenFrames(frames, (0,), 0.5), steps=4)
    assert not torch.equal(made[:1], frames)


@pytest.mark.parametrize(
    "indices, message",
    [((4,), "place 4, and the clip has 4"), ((0, 0), "same place"), ((0, 1, 2), "2 frames are")],
)
def test_places_that_are_none_are_refused(indices, message):
    with pytest.raises(InputError, match=message):
        run_keyframes(given=GivenFrames(clip(min(2, len(indices)), 8, 8), indices))


def test_places_are_read():
    assert parsed_indices("S", "0, 7, -1", 3) == (0, 7, -1)
    assert parsed_indices("S", "0-3,5", 5) == (0, 1, 2, 3, 5)
    assert parsed_indices("S", " ", 2) == (0, 1)
    with pytest.raises(InputError, match="'x' in 'indices' is no frame"):
        parsed_indices("S", "0, x", 2)
    for places in ("5-3", "0-9999999999"):
        with pytest.raises(InputError, match="no stretch of frames"):
            parsed_indices("S", places, 2)


def test_video_to_video_keeps_a_clip_at_strength_0():
    frames = clip(4, 8, 8)
    kept = run_keyframes(images=frames, strength=0.0)
    assert (kept - frames).abs().max() < 1e-6
    near, far = (run_keyframes(images=frames, strength=s, steps=10) for s in (0.2, 1.0))
    assert (near - frames).square().mean() < (far - frames).square().mean()


def test_drafts_are_the_single_runs():
    both = run_keyframes(drafts=2, seed=7)
    assert torch.equal(picked_clip(both, 2, 1), run_keyframes(seed=7))
    assert torch.equal(picked_clip(both, 2, 2), run_keyframes(seed=8))
    assert draft_sheet(both, 2).ndim == 3
    with pytest.raises(InputError, match="8 frames are not 3 clips"):
        picked_clip(both, 3, 1)


# --- rates


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
@pytest.mark.parametrize("loop", [False, True])
def test_factors(factor, loop):
    frames = clip(3, 8, 8)
    made = run_interpolate(frames, factor=factor, keep_given=True, loop=loop)
    assert len(made) == (3 * factor if loop else 2 * factor + 1)
    assert torch.equal(made[::factor], frames)


def test_a_smaller_factor_is_every_second_frame_of_the_models_own():
    frames = clip(3, 8, 8)
    assert torch.equal(run_interpolate(frames, factor=2), run_interpolate(frames)[::2])


@cases(
    st.integers(2, 50),
    st.sampled_from([2.0, 12.0, 23.976, 24.0, 25.0, 30.0]),
    st.sampled_from([24.0, 30.0, 48.0, 60.0]),
    st.booleans(),
)
def test_target_rates(frames, fps, target, loop):
    if target > 16 * fps:
        return
    to = rate(frames, fps, target, loop=loop)
    exact = [i * to.factor * fps / target for i in range(len(to.frames))]
    assert max(abs(a - b) for a, b in zip(exact, to.frames)) <= 0.5 + 1e-6 + (1 if loop else 0)
    lasts = frames / fps if loop else (frames - 1) / fps
    assert abs(len(to.frames) / target - lasts) <= 1 / target + 1e-9
    assert rate(1, 24.0, 48.0, loop=True).frames == [0] == rate(3, 24.0, 1.0, loop=True).frames
    assert rate(frames, 24.0, 48.0).off < 1e-9 and rate(frames, 24.0, 48.0).factor == 2


# --- clean frames and masks


def test_a_reference_starts_a_chain():
    frames, clean = clip(10, 4, 4), clip(1, 16, 16)
    plain, led = run_pixel_sr(frames), run_pixel_sr(frames, references=GivenFrames(clean, (5,)))
    first = run_pixel_sr(frames[5:], first_frame=clean)
    assert torch.equal(led[5:], first)
    assert len(led) == len(plain) and not torch.equal(led[5:], plain[5:])


@pytest.mark.parametrize("frames_of_mask", [1, 9])
def test_outside_the_mask_pixel_sr_keeps_the_source(frames_of_mask):
    frames = clip(9, 4, 6)
    mask = torch.zeros(frames_of_mask, 16, 24)
    mask[:, 4:12, 8:16] = 1
    made = run_pixel_sr(frames, mask=mask)
    source = from_model(resize_bilinear(to_model(frames, CPU), 16, 24))
    outside = mask.expand(9, -1, -1) == 0
    assert torch.equal(made[outside], source[outside])
    assert not torch.equal(made[~outside], source[~outside])


def test_outside_the_mask_the_expert_keeps_the_source():
    frames = clip(3, 16, 16)
    mask = torch.zeros(16, 16)
    mask[:8] = 1
    settings = LatentExpertSettings(width=0, height=0, steps=4, cfg=1.0)
    made = latent_expert_sr(
        model("show-1-sr2"), frames, *text("show-1-sr2"), settings=settings, mask=mask
    )
    assert (made[:, 8:] - frames[:, 8:]).abs().max() < 1e-6
    assert (made[:, :8] - frames[:, :8]).abs().max() > 1e-3


def test_a_mask_of_another_length_is_refused():
    with pytest.raises(InputError, match="'mask' has 2 frames and the clip 3"):
        run_pixel_sr(clip(3, 4, 4), mask=torch.ones(2, 4, 4))


# --- two clips as one


def test_compared():
    a, b = torch.zeros(2, 40, 40, 3), torch.ones(3, 80, 80, 3)
    wipe = compared(a, b, "wipe", position=0.25, labels=("", ""))
    assert wipe.shape == (3, 80, 80, 3)
    assert wipe[:, :, :19].max() == 0 and wipe[:, :, 20:].min() == 1
    beside = compared(a, b, labels=("", ""))
    assert beside[:, :, :80].max() == 0 and beside[:, :, 82:].min() == 1
    assert compared(a, b, labels=("before", "")).max() == 1
