"""Windows and tiles: complete, weighted to one, without seams; cuts; colours."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from show1_engine.color import METHODS, match_color
from show1_engine.errors import InputError
from show1_engine.sampling.cuts import find_cuts
from show1_engine.sampling.tiles import blended, smallest, tile_side, tiles, whole
from show1_engine.sampling.windows import chained_windows, scene_spans, spans

small = st.integers(1, 60)


@st.composite
def clips_with_cuts(draw):
    frames = draw(st.integers(1, 90))
    cuts = draw(st.sets(st.integers(1, max(1, frames - 1)), max_size=5)) if frames > 1 else set()
    return frames, sorted(cuts)


@given(small, small, st.integers(0, 60), st.sampled_from([1, 2, 8, 16]))
def test_span_weights_sum_to_one(length, size, overlap, multiple):
    length, size = length * multiple, max(size, multiple)
    total = torch.zeros(length)
    for span in spans(length, size, overlap, multiple):
        assert 0 <= span.start < span.stop <= length and span.start % multiple == 0
        assert span.stop - span.start <= max(size, multiple) and (span.weight > 0).all()
        total[span.index] += span.weight
    assert torch.allclose(total, torch.ones(length), atol=1e-6)


@given(clips_with_cuts(), st.integers(1, 20), st.integers(0, 19))
def test_no_window_reaches_across_a_cut(clip, window, overlap):
    frames, cuts = clip
    total = torch.zeros(frames)
    for span in scene_spans(frames, window, min(overlap, window - 1), cuts):
        assert not any(span.start < cut < span.stop for cut in cuts)
        total[span.index] += span.weight
    assert torch.allclose(total, torch.ones(frames), atol=1e-6)


@given(clips_with_cuts(), st.integers(2, 12))
def test_chains_cover_every_frame_of_every_scene(clip, window):
    frames, cuts = clip
    chain, written = chained_windows(frames, window, cuts), set()
    for piece in chain:
        assert not any(piece.start < cut < piece.stop for cut in cuts)
        if piece.continues:
            assert piece.start in written and piece.stop - 1 not in written
        else:
            assert piece.start in (0, *cuts)
        written |= set(range(piece.start, piece.stop))
    assert written == set(range(frames))


@settings(deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(1, 30),
    st.sampled_from([1, 2, 4]),
)
def test_an_identity_gives_the_sample_back(frames, height, width, window, side, multiple):
    height, width = height * multiple, width * multiple
    sample = torch.randn(1, 6, frames, height, width)
    time = scene_spans(frames, window, window // 2)
    predict = blended(
        lambda _: lambda x, t: x[:, :4],
        lambda side: tiles(time, height, width, side, multiple),
        side,
        multiple,
    )
    out = predict(sample, 0)
    assert out.shape == (1, 4, frames, height, width) and (out - sample[:, :4]).abs().max() < 1e-5


def test_running_out_of_memory_halves_the_tiles():
    areas = []

    def predict(x, timestep):
        areas.append(x.shape[-2:].numel())
        if areas[-1] > 500:
            raise torch.cuda.OutOfMemoryError("no room")
        return x

    sample = torch.randn(1, 3, 2, 64, 64)
    run = blended(lambda _: predict, lambda side: tiles(whole(2), 64, 64, side), 64, smallest(1))
    assert (run(sample, 0) - sample).abs().max() < 1e-5
    assert areas[:3] == [64 * 64, 32 * 32, 16 * 16]
    first = len(areas)
    run(sample, 0)
    assert max(areas[first:]) == 16 * 16  # it stays with what fits


def test_where_nothing_fits_the_error_escapes():
    def predict(x, timestep):
        raise torch.cuda.OutOfMemoryError("no room")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        run = blended(lambda _: predict, lambda side: tiles(whole(1), 64, 64, side), 64, 16)
        run(torch.randn(1, 3, 1, 64, 64), 0)


@pytest.mark.parametrize(
    "height, width, asked, room, side",
    [
        (160, 256, 0, 10**9, 256),  # the training size: in one piece
        (240, 384, 0, 10**9, 384),  # half as large again: still
        (640, 1024, 0, 10**9, 256),  # larger: tiles of the training size
        (640, 1024, 0, 128, 128),  # less memory: smaller tiles
        (640, 1024, 0, 1, 128),  # never below eight multiples
        (640, 1024, 512, 1, 512),  # what the user asks for
    ],
)
def test_tile_side(height, width, asked, room, side):
    assert tile_side(height, width, 256, asked, lambda side: side <= room, 16) == side


def moving(frames: int, seed: int) -> torch.Tensor:
    """A textured scene panning by two pixels a frame, with noise."""
    source = torch.Generator().manual_seed(seed)
    world = torch.nn.functional.interpolate(
        torch.rand(1, 3, 8, 20, generator=source), size=(48, 200), mode="bicubic"
    )
    world = world.clamp(0, 1)[0].permute(1, 2, 0)
    pan = torch.stack([world[:, 2 * i : 2 * i + 80] for i in range(frames)])
    return pan + 0.02 * torch.randn(pan.shape, generator=source)


def test_cuts_are_found():
    parts = [moving(12, 1), moving(1, 2), moving(20, 3), moving(7, 4)]
    assert find_cuts(torch.cat(parts)) == [12, 13, 33]


@pytest.mark.parametrize(
    "clip",
    [
        moving(30, 5),
        torch.rand(1, 8, 8, 3),
        torch.zeros(0, 8, 8, 3),
        torch.zeros(9, 8, 8, 3),
        moving(20, 6) * torch.linspace(0, 1, 20).view(-1, 1, 1, 1),  # a fade
        torch.lerp(
            moving(16, 7), moving(16, 8), torch.linspace(0, 1, 16).view(-1, 1, 1, 1)
        ),  # a dissolve
    ],
    ids=["pan", "one frame", "no frame", "still", "fade", "dissolve"],
)
def test_what_is_no_cut(clip):
    assert find_cuts(clip) == []


@pytest.mark.parametrize("method", METHODS)
def test_colours_follow_the_source(method):
    source = moving(3, 9).clamp(0, 1)
    detail = 0.03 * torch.randn(source.shape, generator=torch.Generator().manual_seed(1))
    drifted = source * torch.tensor([0.8, 1.0, 0.9]) + torch.tensor([0.1, -0.05, 0.0]) + detail
    matched = match_color(drifted, source, method)
    error = (matched.mean(dim=(1, 2)) - source.mean(dim=(1, 2))).abs().max()
    if method == "none":
        assert torch.equal(matched, drifted)
    else:
        assert error < 1 / 255, error
        assert (matched - matched.mean()).std() > 0.05  # the picture is still there


def test_matching_equal_colours_changes_nothing():
    source = moving(2, 10).clamp(0.02, 0.98)
    for method in METHODS:
        assert (match_color(source, source, method) - source).abs().max() < 1e-4, method


def test_wavelet_keeps_the_detail():
    source = torch.full((1, 64, 64, 3), 0.4)
    checks = (
        source
        + 0.1 * ((torch.arange(64)[:, None] + torch.arange(64)) % 2 * 2 - 1)[None, :, :, None]
    )
    matched = match_color(checks + 0.2, source, "wavelet")
    assert (matched - checks).abs().max() < 0.01


def test_an_unknown_method_is_refused():
    with pytest.raises(InputError, match="color_match 'hsv'"):
        match_color(torch.zeros(1, 2, 2, 3), torch.zeros(1, 2, 2, 3), "hsv")
