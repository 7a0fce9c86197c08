"""What a user sees while a stage runs."""

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
