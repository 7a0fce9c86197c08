"""What a user sees while a stage runs."""

import re
from io import BytesIO
from itertools import count

import pytest
import torch
from graphs import FAST, keyframes_only, stage_on_frames
from PIL import Image

seeds = count(2000)


@pytest.mark.parametrize("stage", FAST)
def test_every_step_reports_with_a_picture(run, put_frames, stage):
    steps = 5
    if stage == "Show1Keyframes":
        graph = keyframes_only(next(seeds), steps=steps)
    else:
        graph = stage_on_frames(
            stage, put_frames(torch.rand(3, 16, 24, 3)), seed=next(seeds), steps=steps
        )
    node = next(key for key, value in graph.prompt.items() if value["class_type"] == stage)
    result = run(graph)
    assert result.status == "success", result.message

    values = [value for value, _ in result.progress[node]]
    total = result.progress[node][-1][1]
    assert values == sorted(values) and values[-1] == total
    # The latent expert starts part of the way: strength 0.8 of 5 steps.
    assert len(set(values)) >= (4 if stage == "Show1LatentExpertSR" else steps)
    pictures = [preview for preview in result.previews if preview.node == node]
    assert len(pictures) >= len(set(values)) - 1
    for preview in pictures:
        assert min(Image.open(BytesIO(preview.image)).size) >= 8


def test_a_film_with_cuts_ends_at_its_total(run, put_frames):
    """60 frames, 5 cuts, a model for the first frame: one bar over all, no time left below zero."""
    scenes = torch.rand(6, 1, 8, 12, 3, generator=torch.Generator().manual_seed(3))
    film = scenes.expand(-1, 10, -1, -1, -1).flatten(0, 1)
    graph = stage_on_frames(
        "Show1PixelSR",
        put_frames(film, "film.safetensors"),
        seed=next(seeds),
        steps=1,
        first_frame_steps=2,
        cut_aware=True,
    )
    node = next(key for key, value in graph.prompt.items() if value["class_type"] == "Show1PixelSR")
    graph.prompt[node]["inputs"]["first_frame_model"] = graph.add(
        "Show1LoadModel", model_name="IF-II-L-v1.0"
    )
    result = run(graph)
    assert result.status == "success", result.message

    texts = [text for key, text in result.texts if key == node]
    # Two windows of 8 for each scene of 10.
    assert any("60 frames 12x8 -> 48x32, in 12 windows" in text for text in texts)
    values = [value for value, total in result.progress[node] if total == 14]
    assert values == sorted(values) and values[-1] == 14
    left = [int(found) for text in texts for found in re.findall(r"(-?\d+) s left", text)]
    assert left and min(left) >= 0
