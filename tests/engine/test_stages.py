"""Every stage on any frames: counts, sizes, alpha, odd values; progress, cancel and errors."""

import pytest
import torch
from stage_models import clip, model, text
from torch import Tensor

from show1_engine.errors import InputError, ModelKindError
from show1_engine.progress import silent
from show1_engine.sampling.windows import chained_windows, original_windows
from show1_engine.stages.interpolate import InterpolateSettings, interpolate
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.stages.latent_expert_sr import LatentExpertSettings, latent_expert_sr
from show1_engine.stages.pixel_sr import PixelSRSettings, first_frame_sr, pixel_sr


def run_keyframes(**settings) -> Tensor:
    report = settings.pop("report", silent)
    settings = {"width": 8, "height": 8, "num_frames": 2, "steps": 2, **settings}
    return keyframes(
        model("show-1-base"), *text("show-1-base"), KeyframeSettings(**settings), report
    )


def run_interpolate(images: Tensor, steps: int = 2, report=silent, **settings) -> Tensor:
    return interpolate(
        model("show-1-interpolation"),
        images,
        *text("show-1-interpolation"),
        InterpolateSettings(steps=steps, **settings),
        report,
    )


def run_pixel_sr(images: Tensor, steps: int = 2, report=silent, **options) -> Tensor:
    return pixel_sr(
        model("show-1-sr1"),
        images,
        *text("show-1-sr1"),
        PixelSRSettings(steps=steps),
        report=report,
        **options,
    )


def run_expert(images: Tensor, report=silent, **settings) -> Tensor:
    settings = {"width": 0, "height": 0, "steps": 2, **settings}
    return latent_expert_sr(
        model("show-1-sr2"),
        images,
        *text("show-1-sr2"),
        LatentExpertSettings(**settings),
        report=report,
    )


@pytest.mark.parametrize("frames", [1, 2, 5, 8, 13, 29, 30])
def test_any_frame_count(frames):
    images = clip(frames, 4, 8)
    assert run_interpolate(images).shape == (4 * (frames - 1) + 1, 4, 8, 3)
    assert run_pixel_sr(images, 1).shape == (frames, 16, 32, 3)
    assert run_expert(clip(frames, 16, 24), width=32, height=0).shape == (frames, 21, 32, 3)


@pytest.mark.parametrize("size", [(5, 7), (9, 6)])
def test_sizes_the_levels_do_not_divide(size):
    height, width = size
    assert run_keyframes(width=width, height=height).shape == (2, height, width, 3)
    assert run_interpolate(clip(3, height, width)).shape == (9, height, width, 3)
    assert run_pixel_sr(clip(3, height, width)).shape == (3, 4 * height, 4 * width, 3)
    assert run_expert(clip(3, 4 * height, 4 * width)).shape == (3, 4 * height, 4 * width, 3)


def test_nothing_is_left_out_of_a_long_clip():
    """Trailing frames come from the model, not from the grey the original leaves (30 is no multiple
    of 7 plus 1).
    """
    out = run_pixel_sr(clip(30, 4, 8))
    assert (out.flatten(1).std(dim=1) > 0.01).all()
    original = run_pixel_sr(clip(30, 4, 8), windows=original_windows(30))
    assert (original[29] == 0.5).all() and torch.equal(original[:22], out[:22])


def test_interpolation_windows_do_not_depend_on_their_batch(monkeypatch):
    images = clip(5, 4, 8)
    together = run_interpolate(images)
    monkeypatch.setattr("show1_engine.stages.interpolate._PIXELS_AT_ONCE", 1)
    assert (run_interpolate(images) - together).abs().max() < 1e-5


@pytest.mark.parametrize("frames", range(1, 40))
def test_chained_windows_cover_every_frame(frames):
    windows = chained_windows(frames)
    assert sorted({i for window in windows for i in range(window.start, window.stop)}) == list(
        range(frames)
    )
    assert [window.continues for window in windows] == [False] + [True] * (len(windows) - 1)
    assert all(b.start < a.stop and b.start > a.start for a, b in zip(windows, windows[1:]))
    if frames >= 8 and (frames - 8) % 7 == 0:
        assert windows == original_windows(frames)


def test_alpha_is_carried():
    images = clip(3, 8, 8, channels=4)
    for out in (
        run_interpolate(images),
        run_pixel_sr(images),
        run_expert(images, width=16, height=16),
    ):
        assert out.shape[-1] == 4 and 0 <= out[..., 3].min() and out[..., 3].max() <= 1
    assert torch.allclose(run_interpolate(images)[::4, :, :, 3], images[..., 3], atol=1e-6)


def test_grey_frames_are_taken_as_rgb():
    assert run_interpolate(clip(2, 4, 8, channels=1)).shape[-1] == 3


def test_expert_keeps_the_aspect():
    """A square in a wide clip stays square: enlarged to cover, cut, not squashed."""
    images = torch.zeros(1, 16, 32, 3)
    images[:, 4:12, 12:20] = 1
    out = run_expert(images, width=32, height=32, steps=1, strength=0.0)
    bright = out[0, ..., 0] > out.mean()
    assert abs(int(bright.any(0).sum()) - int(bright.any(1).sum())) <= 4
    assert run_expert(images, width=0, height=32).shape[1:3] == (32, 64)


def test_same_seed_same_frames_another_seed_others():
    assert torch.equal(run_keyframes(seed=3), run_keyframes(seed=3))
    assert not torch.equal(run_keyframes(seed=3), run_keyframes(seed=4))


@pytest.mark.parametrize("sampler", ["default", "dpmpp_2m", "ddpm", "ddim"])
def test_samplers(sampler):
    out = run_keyframes(sampler=sampler, steps=4)
    assert torch.isfinite(out).all() and out.std() > 0.01


def test_every_step_is_reported_with_a_picture():
    seen = []

    def report(step, total, preview):
        seen.append((step, total, preview().shape))

    run_pixel_sr(clip(9, 4, 8), 3, report)
    assert seen == [(i, 6, (8, 16, 32, 3)) for i in range(1, 7)]
    seen.clear()
    run_expert(clip(3, 16, 16), report, steps=5, strength=0.8)
    assert seen == [(i, 4, (3, 2, 2, 3)) for i in range(1, 5)]


def test_a_cancel_stops_at_the_step():
    class Cancelled(Exception):
        pass

    steps = []

    def report(step, total, preview):
        steps.append(step)
        if step == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        run_interpolate(clip(3, 4, 8), 5, report)
    assert steps == [1, 2]


def test_first_frame_is_followed_or_refused():
    images, first = clip(3, 4, 8), clip(1, 16, 32)
    out = run_pixel_sr(images, first_frame=first)
    assert not torch.equal(out, run_pixel_sr(images))
    assert torch.isfinite(run_pixel_sr(images, first_frame=clip(1, 32, 64))).all()
    with pytest.raises(
        InputError,
        match=r"'first_frame' is 16x16 but the frames upscale to 32x16; give a first frame "
        "of the same aspect",
    ):
        run_pixel_sr(images, first_frame=clip(1, 16, 16))


def test_texts_of_unequal_length():
    positive, negative = text("show-1-base")
    short = keyframes(
        model("show-1-base"),
        positive,
        negative[:, :20],
        KeyframeSettings(width=8, height=8, num_frames=2, steps=2),
    )
    assert torch.isfinite(short).all()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: run_keyframes(width=0), "'width' is 0"),
        (lambda: run_keyframes(num_frames=0), "'num_frames' is 0"),
        (lambda: run_keyframes(steps=10_000), "steps is 10000"),
        (lambda: run_keyframes(steps=0), "steps is 0"),
        (lambda: run_keyframes(sampler="euler"), "sampler 'euler' is not known"),
        (
            lambda: run_interpolate(clip(4, 4, 8) / torch.tensor([1.0, 1, 0, 1]).view(4, 1, 1, 1)),
            "frame 2 of 4",
        ),
        (
            lambda: run_interpolate(torch.full((2, 4, 8, 3), torch.nan)),
            "NaN or infinite values in frame 0",
        ),
        (lambda: run_pixel_sr(torch.zeros(0, 4, 8, 3)), r"'images' has shape \(0, 4, 8, 3\)"),
        (lambda: run_pixel_sr(torch.zeros(4, 8, 3)), r"'images' has shape \(4, 8, 3\)"),
        (
            lambda: first_frame_sr(
                model("IF-II-L-v1.0"),
                clip(1, 4, 8),
                *text("show-1-sr1"),
                PixelSRSettings(steps=2, cfg=4.0, noise_level=1000),
            ),
            "'first_frame_noise_level' is 1000",
        ),
        (lambda: run_expert(clip(1, 16, 16), strength=1.5), "'strength' is 1.5"),
        (lambda: run_expert(clip(1, 16, 16), width=-8), "is negative"),
        (
            lambda: keyframes(
                model("show-1-base"),
                *text("show-1-sr2"),
                KeyframeSettings(width=8, height=8, num_frames=2, steps=2),
            ),
            "'positive' is 32 wide, but 'show-1-base' reads text 64 wide",
        ),
    ],
)
def test_a_wrong_value_is_one_clear_line(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_wrong_model_is_named():
    with pytest.raises(
        ModelKindError,
        match=r"Show1Interpolate needs an interpolation model \(7 input channels\); "
        r"'show-1-base' is a keyframe model \(3 input channels\)",
    ):
        interpolate(
            model("show-1-base"), clip(2, 4, 8), *text("show-1-base"), InterpolateSettings(steps=2)
        )


def test_frames_are_not_clamped_between_stages():
    out = run_expert(clip(2, 16, 16), steps=4, cfg=15.0)
    assert out.min() < 0 or out.max() > 1
