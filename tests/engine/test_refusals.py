"""Values that cannot be used are one line, and what can be used always works."""

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from show1_engine.bundled import WEIGHTS
from show1_engine.checkpoints.finite import check_finite
from show1_engine.checkpoints.schema import (
    ClipSchema,
    SchedulerSchema,
    T5Schema,
    TokenizerSchema,
    UNetSchema,
    VaeSchema,
    complete,
    unet_config,
)
from show1_engine.errors import (
    LONGEST,
    CheckpointError,
    InputError,
    ResultError,
    Show1Error,
    printable,
)
from show1_engine.frames import cover
from show1_engine.host.ui import _picture
from show1_engine.loading import load_model, load_text_encoder
from show1_engine.progress import silent
from show1_engine.runtime import PlainRuntime
from show1_engine.sampling.loop import denoise
from show1_engine.sampling.samplers import SAMPLERS, schedule_for, with_sampler
from show1_engine.sampling.schedules import Schedule, make_scheduler
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.stages.latent_expert_sr import LatentExpertSettings, latent_expert_sr
from show1_engine.training.motion import MotionTraining, TrainSettings

TEXT = torch.linspace(-1, 1, 77 * 64).view(1, 77, 64)


@pytest.fixture(scope="module")
def model():
    return load_model(WEIGHTS / "show-1-base", PlainRuntime())


@given(
    st.text(st.characters(), max_size=3000) | st.text("\ud800\n\x00k", min_size=2000, max_size=5000)
)
def test_every_message_is_one_printable_line(text):
    message = str(Show1Error(f"'{text}' is not there; do this"))
    assert len(message) <= LONGEST and message.isprintable()
    assert message.encode("utf-8") and message.endswith("do this")


@pytest.mark.parametrize("text", ["k" * 1_200_000, "a b " * 400_000, "\ud800" * 100_000])
def test_a_long_message_keeps_its_ends(text):
    message = printable(f"start {text} end")
    assert message.startswith("start ") and message.endswith(" end") and len(message) <= LONGEST


def test_what_can_be_printed_stays_as_it_is():
    assert (
        printable("'D:/\u6a21\u578b/show-1 \u00e9.safetensors' is missing.")
        == "'D:/\u6a21\u578b/show-1 \u00e9.safetensors' is missing."
    )
    assert printable("a\ud800b\nc") == "a\\ud800b\\nc"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
SCHEMAS = {
    "unet": UNetSchema,
    "vae": VaeSchema,
    "scheduler": SchedulerSchema,
    "t5": T5Schema,
    "clip": ClipSchema,
    "tokenizer": TokenizerSchema,
}
KEYS = [(name, key) for name, schema in SCHEMAS.items() for key in schema.model_fields]


@settings(max_examples=400)
@given(st.sampled_from(KEYS), VALUES)
def test_a_schema_takes_a_value_or_names_it(place, value):
    name, key = place
    alias = SCHEMAS[name].model_fields[key].alias or key
    blocks = ["DownBlock3D"] * 4
    config = {"down_block_types": blocks, "up_block_types": blocks} if name == "unet" else {}
    try:
        complete(SCHEMAS[name], {**config, alias: value, "unknown": value}, Path("config.json"))
    except CheckpointError as error:
        assert str(error).startswith("'config.json'") and (
            alias in str(error) or "both need" in str(error)
        )


def test_a_refusal_names_file_key_value_and_range():
    config = json.loads((WEIGHTS / "show-1-base" / "unet" / "config.json").read_text())
    with pytest.raises(CheckpointError) as caught:
        unet_config(config | {"norm_eps": -1}, Path("unet/config.json"))
    assert "'unet/config.json': 'norm_eps' is -1; allowed is a number from 1e-12 to 0.1" in str(
        caught.value
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_not_finite_are_named(value, dtype):
    weights = torch.zeros(100, 3, dtype=dtype)
    weights[7, 1] = value
    with pytest.raises(CheckpointError, match="'a.safetensors' has .* in 'to_q.weight'"):
        check_finite(weights, "'a.safetensors'", "to_q.weight")


def test_weights_too_large_for_their_dtype_are_named():
    check_finite(torch.full((3,), 1e5), "'a'", "k")
    with pytest.raises(CheckpointError, match="Choose the weight_dtype"):
        check_finite(torch.full((3,), 1e5), "'a'", "k", torch.float16)


def test_the_first_step_that_is_not_finite_is_named(model):
    schedule = Schedule(model.scheduler_config, 20)
    bad = schedule.timesteps[6]

    def predict(x: torch.Tensor, timestep: int) -> torch.Tensor:
        return torch.cat([x, x], dim=1) * (math.nan if timestep == bad else 0.1)

    with pytest.raises(ResultError, match="Stage: .* from step 7 of 20 on"):
        denoise(
            predict,
            torch.randn(1, 3, 1, 4, 4),
            schedule,
            [torch.Generator()],
            silent,
            stage="Stage",
        )


def table(config: dict, steps: int) -> list[int]:
    """The timesteps of the checkpoint's scheduler itself."""
    scheduler = make_scheduler(config)
    scheduler.set_timesteps(steps)
    return [int(step) for step in scheduler.timesteps]


@pytest.mark.parametrize("name", ["show-1-base", "show-1-sr2"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_step_count_works(name, sampler):
    config = json.loads((WEIGHTS / name / "scheduler" / "scheduler_config.json").read_text())
    for steps in (1, 2, 3, 75, 500, 501, 995, 996, 998, 999, 1000):
        schedule = schedule_for(config, sampler, steps)
        assert len(schedule.timesteps) + schedule.dropped == steps and schedule.dropped <= 5
        assert schedule.timesteps == sorted(schedule.timesteps, reverse=True)
        assert (
            len(set(schedule.timesteps)) == len(schedule.timesteps)
            and max(schedule.timesteps) < 1000
        )
        if not schedule.dropped and SAMPLERS[sampler].timesteps is None:
            theirs = table(with_sampler(config, sampler), steps)
            assert schedule.timesteps == theirs, "as ever where it worked"


def test_a_repeat_that_is_not_run_drops_nothing():
    config = json.loads(
        (WEIGHTS / "show-1-sr2" / "scheduler" / "scheduler_config.json").read_text()
    )
    assert schedule_for(config, "ddim", 1000, strength=0.8).dropped == 0


def test_dropped_steps_are_in_the_plan(model):
    told = []
    report = lambda *_: (_ for _ in ()).throw(InterruptedError)  # noqa: E731  one step is enough
    report_with_plan = type(
        "Report",
        (),
        {"__call__": lambda self, *a: report(), "plan": lambda self, text: told.append(text)},
    )()
    with pytest.raises(InterruptedError):
        keyframes(
            model,
            TEXT,
            TEXT,
            KeyframeSettings(width=8, height=8, num_frames=1, steps=1000),
            report_with_plan,
        )
    assert "995 steps (5 dropped that would repeat a timestep)" in told[0]


@pytest.mark.parametrize(
    "states",
    [
        TEXT.repeat(2, 1, 1),
        TEXT[:0],
        TEXT[:, :0],
        torch.zeros(1, 77, 2048),
        TEXT[0],
        TEXT * math.nan,
        TEXT * 1e30,
    ],
    ids=["batch", "none", "no tokens", "SDXL", "flat", "NaN", "huge"],
)
def test_texts_that_cannot_be_meant_are_refused(model, states):
    with pytest.raises(InputError, match="Show1Keyframes: 'positive'"):
        keyframes(model, states, TEXT, KeyframeSettings(width=8, height=8, num_frames=1, steps=1))


def test_keyframes_that_do_not_fit_say_what_does(model):
    class Small(type(model.unet)):
        def memory(self) -> int:
            return 2**32

    handle = Small(model.unet.module, model.unet.dtype, model.unet._runtime)
    with pytest.raises(
        InputError,
        match=r"256 frames of 1024x1024 need about \d+\.\d GB .* has 4\.3 GB; "
        r"of this size \d+ frames? fit",
    ):
        keyframes(
            replace(model, unet=handle),
            TEXT,
            TEXT,
            KeyframeSettings(width=1024, height=1024, num_frames=256),
        )
    with pytest.raises(InputError, match="the device has 4.3 GB"):
        MotionTraining(
            replace(model, unet=handle),
            torch.rand(70, 8, 8, 3),
            TEXT,
            TrainSettings(width=1024, height=1024, window=64, batch_size=64),
        )


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_cover_gives_the_size_asked_for(old_height, old_width, height, width):
    out = cover(torch.full((1, 3, 1, old_height, old_width), 0.25), height, width)
    assert out.shape[-2:] == (height, width) and torch.allclose(out, torch.tensor(0.25), atol=1e-4)


def test_a_strip_is_cropped_before_it_is_enlarged(monkeypatch):
    largest = []
    import show1_engine.frames as frames

    plain = frames.resize
    monkeypatch.setattr(
        frames, "resize", lambda video, h, w: largest.append(h * w) or plain(video, h, w)
    )
    assert cover(torch.rand(1, 3, 1, 1, 2000), 320, 576).shape[-2:] == (320, 576)
    assert max(largest) <= 4 * 320 * 576


def test_a_lone_latent_without_guidance(request):
    expert = load_model(WEIGHTS / "show-1-sr2", PlainRuntime())
    settings_ = LatentExpertSettings(width=0, height=0, steps=2, cfg=1.0)
    out = latent_expert_sr(expert, torch.rand(1, 4, 4, 3), TEXT, TEXT, settings_)
    assert out.shape == (1, 4, 4, 3) and out.isfinite().all()


def test_a_name_of_other_bytes_is_told(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/mod\xe9l"))
    shutil.copytree(WEIGHTS / "show-1-base", folder)
    for load in (load_model, load_text_encoder):
        with pytest.raises(CheckpointError, match="is no valid UTF-8. Rename"):
            load(folder, PlainRuntime())


@pytest.mark.parametrize("shape", [(29, 1, 3000, 3), (29, 3000, 1, 3), (1, 1, 100_000, 3)])
def test_a_preview_of_any_shape(shape):
    assert max(_picture(torch.rand(shape))[1].size) <= 1024


def test_training_stops_before_it_is_spoiled(model):
    run = MotionTraining(
        model,
        torch.rand(3, 16, 16, 3),
        TEXT,
        TrainSettings(
            steps=30, rank=2, window=2, width=16, height=16, learning_rate=1e38, objective="plain"
        ),
    )
    run.run()
    assert (
        0 < len(run.losses) < 30
        and all(map(math.isfinite, run.losses))
        and "loss is NaN" in run.stopped
    )
    assert all(
        value.isfinite().all()
        for change in run.lora.changes.values()
        for value in (change.up, change.down)
    )
