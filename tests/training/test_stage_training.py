"""Training of whole stages: each learns, stops, goes on, and leaves what everything else loads."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_training import CPU, NAMES, QUICK, drawn, micro, text

from show1_engine.__main__ import main
from show1_engine.bundled import WEIGHTS
from show1_engine.checkpoints.read import read_checkpoint
from show1_engine.errors import DivergedError, InputError
from show1_engine.loading import load_model
from show1_engine.lora.formats import read_lora
from show1_engine.lora.merging import with_motion
from show1_engine.models.kinds import KEYFRAMES
from show1_engine.models.layers import TemporalConv
from show1_engine.models.unet import UNet
from show1_engine.runtime import PlainRuntime
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.training.batch import Batch, joined
from show1_engine.training.clips import ClipData, Cut
from show1_engine.training.learner import Learner
from show1_engine.training.loop import load_state
from show1_engine.training.order import seeded
from show1_engine.training.recipes import Noiser, checked_settings, sizes_of
from show1_engine.training.result import Grown
from show1_engine.training.stage import StageTraining, checkpoints
from show1_engine.training.variance import variance_loss
from show1_micro.footage import DrawnClips, numbered


def training(stage: str, folder: Path, s=QUICK, model=None, clips=None, **more) -> StageTraining:
    model = model or micro(stage)
    data = ClipData(clips or drawn(stage), text, Noiser(model, s), stride=s.batch_size)
    return StageTraining(stage, model, data, s, folder, **more)


def command(*arguments: str | Path) -> list[str]:
    """A short training of keyframes on the command line."""
    quick = "--learning-rate 1e-3 --warm-up 1 --ema 0.5 --sample-every 0 --held-out 0"
    return ["train-stage", "keyframes", *map(str, arguments), *quick.split()]


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("stage", NAMES)
def test_every_stage_learns(stage, tmp_path):
    model = micro(stage)
    with torch.no_grad():  # motion is forgotten
        for layer in model.network.modules():
            if isinstance(layer, TemporalConv):
                layer.conv4[-1].weight.add_(torch.randn_like(layer.conv4[-1].weight), alpha=0.03)
    s = replace(QUICK, steps=4 if stage == "pixel-sr" else 8, learning_rate=2e-3)
    run = training(stage, tmp_path, s, model=model, clips=drawn(stage, 1))
    noiser, clip = Noiser(model, s), drawn(stage, 1).clip(0, seeded(0))
    fixed = joined(
        noiser.sample(clip, text(run.data.clips.captions[0]), seeded(3, n)) for n in range(3)
    )
    with torch.no_grad():
        before = run.learner(fixed)
    run.run()
    with torch.no_grad(), run.loop.average.in_place():
        assert run.learner(fixed) < 0.9 * before


def test_the_spatial_layers_stay(tmp_path):
    run = training("keyframes", tmp_path)
    before = {name: value.clone() for name, value in run.model.network.named_parameters()}
    run.run()
    after = dict(run.model.network.named_parameters())
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == run.learner.learned.keys()
    assert all("temp_" in name for name in moved) and len(moved) > 50


@pytest.mark.parametrize(
    ("stage", "train", "wanted"),
    [
        ("interpolation", "temporal", {"conv_in.weight", "conv_in.bias"}),
        ("keyframes", "all", {"conv_out.weight", "time_embedding.linear_1.weight"}),
    ],
)
def test_what_learns_beside_the_temporal_layers(stage, train, wanted):
    model = micro(stage)
    alphas = torch.linspace(0.99, 0.01, 1000)
    learner = Learner(
        model.network, model.kind, replace(QUICK, train=train), alphas=alphas, device=CPU
    )
    assert wanted < learner.learned.keys()


def test_temporal_attention_alone():
    model = micro("keyframes")
    s = replace(QUICK, train="temporal-attention")
    learner = Learner(model.network, model.kind, s, alphas=torch.ones(1), device=CPU)
    assert all(".attn1." in name or ".attn2." in name for name in learner.learned)
    assert all("temp_attentions" in name for name in learner.learned)


def test_masters_are_float32_and_the_rest_bfloat16(tmp_path):
    run = training("keyframes", tmp_path, replace(QUICK, precision="bf16", steps=2))
    run.run()
    dtypes = {
        name: value.dtype for name, value in run.model.network.named_parameters() if value.ndim > 1
    }
    learned = run.learner.learned.keys()
    assert {dtypes[name] for name in dtypes if name in learned} == {torch.float32}
    assert {dtypes[name] for name in dtypes if name not in learned} == {torch.bfloat16}


def test_checkpointing_changes_no_number(tmp_path):
    runs = [
        training(
            "keyframes", tmp_path / str(on), replace(QUICK, gradient_checkpointing=on, steps=2)
        )
        for on in (False, True)
    ]
    for run in runs:
        run.run()
    one, other = (dict(run.loop.state()["weights"]) for run in runs)
    assert max(float((one[key] - other[key]).abs().max()) for key in one) < 1e-6


def test_reading_ahead_changes_no_number():
    model = micro("keyframes")
    noiser = Noiser(model, QUICK)
    plain = ClipData(drawn("keyframes"), text, noiser, stride=1)
    ahead = ClipData(drawn("keyframes"), text, Noiser(model, replace(QUICK, workers=2)), stride=1)
    for number in range(6):
        one, other = (data.batch(range(number, number + 1)) for data in (plain, ahead))
        assert torch.equal(one.sample, other.sample) and one.names == other.names
    ahead.close()


def test_a_tenth_is_seen_without_words():
    s = replace(QUICK, text_drop=0.1)
    data = ClipData(drawn("keyframes"), text, Noiser(micro("keyframes"), s), stride=1)
    dropped = sum(torch.equal(data.batch(range(n, n + 1)).text, text("")) for n in range(300))
    assert 15 < dropped < 48


def test_the_expert_never_sees_the_noisiest_tenth():
    noiser = Noiser(micro("expert"), QUICK)
    latents = torch.zeros(1, 4, 2, 16, 16)
    drawn_ = [int(noiser.sample(latents, text(""), seeded(0, n)).timesteps) for n in range(300)]
    assert 800 < max(drawn_) < 900
    wide = Noiser(noiser.model, replace(QUICK, timestep_limit=1000))
    assert (
        max(int(wide.sample(latents, text(""), seeded(0, n)).timesteps) for n in range(300)) > 900
    )


def test_conditions_are_those_of_the_paper():
    clip = drawn("interpolation").clip(0, seeded(0))
    batch = Noiser(micro("interpolation"), QUICK).sample(clip, text(""), seeded(1))
    blend, mask = batch.sample[:, 3:6], batch.sample[:, 6]
    assert batch.sample.shape == (1, 7, 5, 16, 16)
    assert mask[:, [0, 4]].min() == 1 and mask[:, 1:4].max() == 0
    assert 0 < (blend[:, :, 0] - clip[:, :, 0]).std() < 0.15
    clip = drawn("pixel-sr").clip(0, seeded(0))
    noiser = Noiser(micro("pixel-sr"), QUICK)
    many = [noiser.sample(clip, text(""), seeded(0, n)) for n in range(60)]
    clean = sum(torch.equal(one.sample[:, 3:, 0], clip[:, :, 0]) for one in many)
    assert 24 < clean < 48  # six tenths
    assert 200 < max(int(one.labels) for one in many) < 300


def test_the_variance_is_learned_when_asked(tmp_path):
    left = training("keyframes", tmp_path / "left", replace(QUICK, train="all", steps=2))
    both = training(
        "keyframes", tmp_path / "both", replace(QUICK, train="all", steps=2, variance="trained")
    )
    channels = []
    for run in (left, both):
        run.learner(run.data.batch(range(0, 1))).backward()
        slope = run.model.network.conv_out.weight.grad[3:]
        channels.append(float(slope.abs().max()))
    assert channels[0] == 0 < channels[1]


@pytest.mark.parametrize("timestep", [0, 1, 500, 999])
def test_the_best_variance_is_between_the_bounds(timestep):
    """With the noise known, the least of the bound is the posterior's own variance."""
    alphas = (torch.linspace(0.9999, 0.02, 1000)).double()
    shape, t = (1, 3, 2, 8, 8), torch.tensor([timestep])
    clean = torch.rand(shape, generator=seeded(0)).double() * 2 - 1
    noise = torch.randn(shape, generator=seeded(1)).double()
    alpha = alphas[t].view(-1, 1, 1, 1, 1)
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    one = torch.ones(1, dtype=torch.float64)
    batch = Batch(noisy, t, clean, labels=None, noise=noise, weight=one, clean=clean)
    losses = [
        float(variance_loss(torch.cat([noise, torch.full_like(noise, v)], dim=1), batch, alphas))
        for v in (-1.0, 0.0, 1.0)
    ]
    assert losses[0] <= losses[1] <= losses[2] and all(map(math.isfinite, losses))
    if timestep:
        assert losses[0] == pytest.approx(0, abs=1e-9)


def test_a_run_goes_on_as_if_it_had_never_ended(tmp_path):
    whole = training("keyframes", tmp_path / "whole")
    whole.run()
    part = training("keyframes", tmp_path / "part", replace(QUICK, save_every=1))

    def until_two(step: int, total: int, preview=None) -> None:
        part.stopped = step == 2

    part.run(until_two)
    assert part.step == 2
    later = training("keyframes", tmp_path / "part")
    later.run()
    assert same(later.loop.state()["weights"], whole.loop.state()["weights"])
    assert same(later.loop.average.mean, whole.loop.average.mean)
    assert [line["step"] for line in log_of(tmp_path / "part")] == [2, 4]


def test_only_the_last_checkpoints_stay(tmp_path):
    run = training("keyframes", tmp_path, replace(QUICK, save_every=1, keep=2))
    run.run()
    assert [file.stem for file in checkpoints(tmp_path)] == ["0000003", "0000004"]


class Poisoned(DrawnClips):
    """The second clip holds a NaN."""

    def clip(self, item, source):
        clip = super().clip(item, source)
        return clip * float("nan") if item == 1 else clip


def test_a_loss_that_is_not_finite_stops_with_its_batch_named(tmp_path):
    s = replace(QUICK, steps=20)
    cut = Cut(8, 2.0, [(16, 16)])
    run = training("keyframes", tmp_path, s, clips=Poisoned(numbered(4), cut))
    with pytest.raises(DivergedError, match=r"step \d \(on scene 1\)") as stopped:
        run.run()
    state = load_state(checkpoints(tmp_path)[-1])
    assert state["counters"]["step"] == stopped.value.step - 1
    assert all(bool(value.isfinite().all()) for value in state["weights"].values())


class Lost(DrawnClips):
    """A file that is gone since it was looked through."""

    def clip(self, item, source):
        if item != 2:
            raise InputError(f"'{item}' cannot be read")
        return super().clip(item, source)


def test_clips_that_go_lost_on_the_way_are_replaced(tmp_path):
    run = training("keyframes", tmp_path, clips=Lost(numbered(4), Cut(8, 2.0, [(16, 16)])))
    run.run()
    assert run.step == 4 and run.data.broken.keys() == {"scene 0", "scene 1", "scene 3"}


def test_rates_warm_up_and_fall(tmp_path):
    s = replace(QUICK, steps=100, warm_up=4, decay="cosine", learning_rate=1.0)
    run = training("keyframes", tmp_path, s)
    assert [round(run.rate(step), 3) for step in (1, 4, 51, 101)] == [0.25, 0.998, 0.5, 0.0]


def test_a_lora_is_what_the_node_reads(footage, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(command(footage, run, "--steps", 3, "--train", "lora", "--rank", 4)) == 0
    file = run / "lora.safetensors"
    assert capsys.readouterr().out.strip() == str(file) and file.with_suffix(".md").is_file()
    model = load_model(WEIGHTS / "show-1-base", PlainRuntime())
    lora = read_lora(file, model)
    assert all(change.down.shape[0] == 4 for change in lora.changes.values())
    states, s = (text("a"), text("")), KeyframeSettings(width=16, height=16, steps=2, cfg=1.0)
    plain = keyframes(model, *states, s)
    assert not torch.equal(keyframes(with_motion(model, lora, 1.0), *states, s), plain)


def test_damaged_footage_trains_and_the_folder_is_a_cascades(damaged, tmp_path, capsys):
    run = tmp_path / "run"
    code = main(
        [
            *command(damaged, run, "--steps", 2, "--sample-steps", 2),
            "--held-out",
            "2",
            "--sample-every",
            "2",
        ]
    )
    out, err = capsys.readouterr()
    assert code == 0 and "2 left out: 'a text.mp4'" in err and "'cut off.mp4'" in err
    assert out.strip() == str(run / "ema" / "show-1-base")
    assert (run / "samples" / "0000002.png").is_file()
    validated = [line["validation_loss"] for line in log_of(run) if "validation_loss" in line]
    assert len(validated) == 2
    card = (run / "ema" / "show-1-base" / "README.md").read_text()
    assert "| learning_rate | 0.001 |" in card and "sha256 of the UNet: " in card
    assert "10 videos, 8 scenes" in card
    clip = tmp_path / "clip.mp4"
    options = ["--until", "keyframes", "--keyframes-steps", "2", "--keyframes-width", "16"]
    asked = ["generate", "--prompt", "a red circle", "--models", str(run / "ema")]
    assert main([*asked, *options, "--keyframes-height", "16", "--out", str(clip)]) == 0
    assert clip.is_file()


def test_interpolation_begins_as_the_keyframe_model():
    source = Grown.of(read_checkpoint(WEIGHTS / "show-1-base"))
    weights, _ = source.weights("unet")
    grown = UNet(source.unet_config).eval()
    grown.load_state_dict({name: value.float() for name, value in weights.items()})
    base = micro("keyframes").network
    x = torch.randn(1, 7, 5, 16, 16, generator=seeded(0))
    with torch.no_grad():
        assert torch.allclose(grown(x, 500, text("a")), base(x[:, :3], 500, text("a")), atol=1e-5)


def test_interpolation_is_made_of_the_keyframe_model(footage, tmp_path):
    run = tmp_path / "run"
    words = command(footage, run, "--steps", 1, "--start", "keyframes")
    assert (
        main(
            [
                word.replace("keyframes", "interpolation") if i == 1 else word
                for i, word in enumerate(words)
            ]
        )
        == 0
    )
    model = load_model(run / "ema" / "show-1-interpolation", PlainRuntime())
    assert model.kind == "interpolation" and model.network.config["in_channels"] == 7


def test_latents_beforehand_are_those_made_on_the_way(footage, tmp_path):
    encoded = tmp_path / "encoded"
    assert main(["encode", str(footage), str(encoded), "--stage", "expert"]) == 0
    assert len(list(encoded.glob("latents-64x64-8/*.safetensors"))) == 8
    words = [word if word != "keyframes" else "expert" for word in command(footage, tmp_path / "b")]
    assert main([*words, "--steps", "1", "--encoded", str(encoded)]) == 0
    assert not (tmp_path / "b" / "encoded").exists()
    assert log_of(tmp_path / "b")[-1]["loss"] > 0


def when_saved(run: Path, act) -> threading.Thread:
    """Acts once two checkpoints are written."""

    def watch() -> None:
        until = time.monotonic() + 60
        while len(checkpoints(run)) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_signal_ends_it_with_what_is_learned(footage, tmp_path, capsys):
    run = tmp_path / "run"
    thread = when_saved(run, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert main(command(footage, run, "--steps", 400, "--save-every", 1)) == 0
    thread.join()
    err = capsys.readouterr().err
    step = load_state(checkpoints(run)[-1])["counters"]["step"]
    assert f"stopped after step {step} of 400; saved" in err and 2 <= step < 400
    load_model(run / "ema" / "show-1-base", PlainRuntime())


def started(arguments: list[str], pack: Path, processes: int = 1) -> subprocess.Popen:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    launch = launch if processes > 1 else []
    return subprocess.Popen(
        [sys.executable, *launch, "-m", "show1_engine", *arguments],
        cwd=pack,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_and_gone_on_equals_straight(footage, tmp_path, pack):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    ended = started(command(footage, killed, "--steps", 200, "--save-every", 1), pack)
    when_saved(killed, ended.kill).join()
    ended.communicate()
    last = int(checkpoints(killed)[-1].stem)
    assert ended.returncode == -signal.SIGKILL and 2 <= last < 200
    steps = last + 3
    for run in (killed, straight):
        assert main(command(footage, run, "--steps", steps)) == 0
    one, other = (load_state(checkpoints(run)[-1]) for run in (killed, straight))
    assert same(one["weights"], other["weights"]) and same(one["mean"], other["mean"])
    assert not list(killed.rglob("*.part"))


def test_two_processes_are_one_with_two_parts(footage, tmp_path, pack):
    pytest.importorskip("accelerate")
    one, two = tmp_path / "one", tmp_path / "two"
    asked = ("--steps", 3, "--batch-size", 2, "--device", "cpu")  # 8 clips are no multiple of 12
    both = started(command(footage, two, *asked), pack, processes=2)
    assert main(command(footage, one, *asked, "--accumulate", 2)) == 0
    try:
        error = both.communicate(timeout=150)[1]
    finally:
        both.terminate()  # and those that it started
    assert both.returncode == 0, error[-2000:]
    states = [load_state(checkpoints(run)[-1]) for run in (one, two)]
    for part in ("weights", "mean"):
        pairs = ((states[0][part][name], states[1][part][name]) for name in states[0][part])
        assert max(float((a - b).abs().max()) for a, b in pairs) < 1e-6
    assert log_of(one)[-1]["loss"] == pytest.approx(log_of(two)[-1]["loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "some"}, "temporal-attention"),
        ({"text_drop": 2.0}, "'text_drop' is 2.0"),
        ({"steps": 0}, "'steps' is 0"),
        ({"ema": 1.0}, "'ema' is 1.0"),
        ({"learning_rate": math.nan}, "'learning_rate' is nan"),
        ({"start": "keyframes"}, "only interpolation"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes, message):
    with pytest.raises(InputError, match=message):
        checked_settings("keyframes", replace(QUICK, **changes))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [("64", "no WIDTHxHEIGHT"), ("0x8", "no WIDTHxHEIGHT"), ("18x16", "18x16.*multiples of 4")],
)
def test_sizes_are_those_a_model_takes(sizes, message):
    with pytest.raises(InputError, match=message):
        sizes_of("keyframes", replace(QUICK, sizes=sizes), micro("keyframes"))


def test_a_model_without_temporal_layers_says_what_can_be_trained():
    flat = torch.nn.Linear(2, 2)
    with pytest.raises(InputError, match="no temporal layers.*train all"):
        Learner(flat, KEYFRAMES, QUICK, alphas=torch.ones(1), device=CPU)


def test_a_folder_without_the_model_is_refused(footage, tmp_path, capsys):
    (tmp_path / "models").mkdir()
    asked = command(footage, tmp_path / "run", "--models", tmp_path / "models")
    assert main(asked) == 2 and "holds no Show-1 model" in capsys.readouterr().err
