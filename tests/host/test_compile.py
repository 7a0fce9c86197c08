"""A model loaded with "compile": the same frames in the host, whose layers cast and stream their
weights.
"""

import shutil

import pytest
import torch
from graphs import Graph, add_stage


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "cl"))), reason="no C++ compiler")
def test_same_frames(frames_of):
    def frames(compiled: bool) -> torch.Tensor:
        graph = Graph()
        images = add_stage(graph, "Show1Keyframes", seed=41, steps=3, cfg=2.0)
        loader = next(
            value for value in graph.prompt.values() if value["class_type"] == "Show1LoadModel"
        )
        loader["inputs"] |= {"compile": compiled, "weight_dtype": "fp32"}
        graph.add("TestSaveFrames", images=images, file="out.safetensors")
        return frames_of(graph)

    assert torch.allclose(frames(True), frames(False), atol=1e-4)
