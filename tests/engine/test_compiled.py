"""torch.compile: the same numbers, no recompiling from step to step, LoRAs trained and applied as
ever.
"""

import shutil

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from show1_engine.bundled import WEIGHTS
from show1_engine.errors import InputError
from show1_engine.loading import load_model
from show1_engine.lora.merging import with_motion
from show1_engine.models.bundle import Show1Model
from show1_engine.models.compiled import compile_network, uncompiled
from show1_engine.runtime import PlainRuntime
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.training.motion import MotionTraining
from show1_engine.training.settings import TrainSettings

TEXT = torch.randn(2, 77, 64, generator=torch.Generator().manual_seed(1))


def frames(model: Show1Model) -> torch.Tensor:
    return keyframes(
        model,
        TEXT[:1],
        TEXT[1:],
        KeyframeSettings(width=16, height=16, num_frames=3, steps=3, cfg=2.0),
    )


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "cl"))), reason="no C++ compiler")
def test_same_frames():
    plain, compiled = (
        load_model(WEIGHTS / "show-1-base", PlainRuntime(), compiled=choice)
        for choice in (False, True)
    )
    assert compiled.network._compiled_call_impl is not None
    assert torch.allclose(frames(compiled), frames(plain), atol=1e-4)


def test_compiled_once_for_all_steps_and_seen_through_by_training():
    """Traced as for any compiler, but run as it is: compiling proper takes a minute."""
    model, traced = load_model(WEIGHTS / "show-1-base", PlainRuntime()), CompileCounter()
    plain = frames(model)
    model.network.compile(backend=traced)
    assert torch.allclose(frames(model), plain, atol=1e-5) and traced.frame_count == 1
    training = MotionTraining(
        model,
        torch.rand(4, 16, 16, 3),
        TEXT[:1],
        TrainSettings(steps=3, rank=2, learning_rate=0.02, window=3, sample_every=3),
        (TEXT[:1], TEXT[1:]),
    )
    shown = []
    training.run(lambda step, total, preview=None: shown.append(preview and preview()))
    assert traced.frame_count == 1 and len(training.losses) == 3
    tuned = frames(with_motion(model, training.lora, 1.0))
    with uncompiled(model.network):
        assert torch.allclose(tuned, frames(with_motion(model, training.lora, 1.0)), atol=1e-5)
    assert not torch.allclose(tuned, plain, atol=1e-3) and shown[-1] is not None
    assert torch.allclose(frames(model), plain, atol=1e-5) and traced.frame_count == 1


def test_where_it_does_not_work(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("Cannot find a working triton installation\nmore")

    monkeypatch.setattr(torch, "compile", broken)
    network = torch.nn.Linear(2, 2)
    with pytest.raises(
        InputError, match="does not work here .Cannot find a working triton installation.*'compile'"
    ):
        compile_network(network, torch.device("cpu"))
    assert network._compiled_call_impl is None
