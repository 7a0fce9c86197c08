"""Training a motion LoRA: what learns, what stays, any clip, stopping in the middle; inverted
noise; the command.
"""

import dataclasses
import math

import pytest
import torch
from safetensors.torch import load_file

from show1_engine.__main__ import main
from show1_engine.bundled import WEIGHTS
from show1_engine.errors import InputError, ModelKindError, ResultError
from show1_engine.frames import to_model
from show1_engine.loading import load_model
from show1_engine.lora.formats import lora_from, spelled
from show1_engine.lora.merging import with_motion
from show1_engine.models.bundle import Show1Model
from show1_engine.noise import generator
from show1_engine.progress import silent
from show1_engine.runtime import PlainRuntime
from show1_engine.sampling.inversion import invert, mixed
from show1_engine.sampling.loop import denoise
from show1_engine.sampling.schedules import Schedule
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.training.adapters import Adapters
from show1_engine.training.clip import recoloured
from show1_engine.training.motion import MotionTraining
from show1_engine.training.noise_levels import decisive_timesteps
from show1_engine.training.objectives import OBJECTIVES, debiased, frame_difference
from show1_engine.training.settings import TrainSettings
from show1_engine.video import write_mp4
from show1_micro.motions import clip as moving
from show1_micro.world import Scene

TEXT = torch.randn(2, 77, 64, generator=torch.Generator().manual_seed(1))
QUICK = TrainSettings(steps=3, rank=2, window=4, gradient_checkpointing=False)
CLIP = moving(Scene("square", "blue", "right", "white", "plain"), "orbit", 8)
_models: dict[str, Show1Model] = {}


def model(name: str = "show-1-base") -> Show1Model:
    if name not in _models:
        _models[name] = load_model(WEIGHTS / name, PlainRuntime())
    return _models[name]


def frames(model: Show1Model, **settings) -> torch.Tensor:
    return keyframes(
        model,
        TEXT[:1],
        TEXT[1:],
        KeyframeSettings(width=16, height=16, num_frames=3, steps=2, cfg=1.0),
        **settings,
    )


def trained(
    images: torch.Tensor = CLIP, name: str = "show-1-base", report=silent, **changes
) -> MotionTraining:
    settings = dataclasses.replace(QUICK, **changes)
    training = MotionTraining(
        model(name), images, TEXT[:1], settings, (TEXT[:1], TEXT[1:]), TEXT[1:]
    )
    training.run(report)
    return training


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_only_temporal_attention_learns(objective):
    before = {key: value.clone() for key, value in model().network.state_dict().items()}
    training = trained(objective=objective)
    assert len(training.losses) == 3 and all(
        map(torch.isfinite, map(torch.tensor, training.losses))
    )
    assert all("temp_attentions" in key and ".attn" in key for key in training.lora.changes)
    assert all(change.up.abs().sum() > 0 for change in training.lora.changes.values())
    after = model().network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not torch.equal(frames(with_motion(model(), training.lora, 1)), frames(model()))


def test_it_learns():
    """The clip's error at fixed noise falls, though the model knew such pictures before."""
    training = MotionTraining(
        model(),
        CLIP,
        TEXT[:1],
        TrainSettings(
            steps=25,
            rank=8,
            learning_rate=3e-3,
            objective="plain",
            timesteps="even",
            gradient_checkpointing=False,
        ),
    )
    training.run()

    def error(model: Show1Model) -> float:
        source, total = torch.Generator().manual_seed(5), 0.0
        model.unet.load(0)
        video = to_model(CLIP, torch.device("cpu"))
        for timestep in (600, 750, 850, 920):
            alpha = torch.cos(torch.tensor(timestep / 1000 * torch.pi / 2)) ** 2
            noise = torch.randn(video.shape, generator=source)
            with torch.no_grad():
                found = model.network(
                    alpha.sqrt() * video + (1 - alpha).sqrt() * noise, timestep, TEXT[:1]
                )
            total += float((found[:, :3] - noise).square().mean())
        return total

    assert error(with_motion(model(), training.lora, 1)) < 0.9 * error(model())


def test_same_seed_same_lora_and_checkpointing_changes_nothing():
    one, other = trained().lora, trained(gradient_checkpointing=True).lora
    assert all(
        torch.allclose(one.changes[key].up, other.changes[key].up, atol=1e-6) for key in one.changes
    )
    assert not torch.equal(
        trained(seed=1).lora.changes[key := next(iter(one.changes))].down, one.changes[key].down
    )


@pytest.mark.parametrize("count, channels", [(2, 3), (5, 4), (21, 3), (9, 1)])
def test_any_clip(count, channels):
    images = torch.rand(count, 18, 30, channels, generator=torch.Generator().manual_seed(0))
    assert len(trained(images, steps=2).losses) == 2


def test_frame_step_and_size():
    training = MotionTraining(
        model(), torch.rand(13, 20, 40, 3), TEXT[:1], dataclasses.replace(QUICK, frame_step=3)
    )
    (images,) = training._images
    assert images.shape == (1, 3, 5, 8, 16)  # the clip's aspect at the model's own 16 pixels
    asked = dataclasses.replace(QUICK, width=24, height=12)
    training = MotionTraining(model(), torch.rand(4, 20, 40, 3), TEXT[:1], asked)
    assert training._images[0].shape[-2:] == (12, 24)


def test_what_is_learned_is_averaged():
    """The mean follows slowly, and reaches a value that stays."""
    adapters = Adapters(
        {"layer": torch.nn.Linear(4, 4)}, 2, torch.Generator().manual_seed(0), torch.device("cpu")
    )
    up, found = adapters.pairs["layer"][0], []
    for step, value in enumerate([1.0] + [3.0] * 400, 1):
        up.data.fill_(value)
        adapters.average.update(step)
        found.append(float(adapters.learned()["layer.weight"].up.mean()))
    assert 0.5 < found[0] < 1 and found == sorted(found)
    assert 1 < found[1] < 3 and found[-1] == pytest.approx(3, abs=0.01)


def test_recoloured_clips_keep_their_motion():
    clip = to_model(CLIP, torch.device("cpu"))
    source = torch.Generator().manual_seed(0)
    seen = recoloured(clip.repeat(40, 1, 1, 1, 1), source)
    assert 8 < len(seen.flatten(1).unique(dim=0)) <= 12  # three channels' orders, and their inverse
    for other in seen.split(1):
        assert torch.equal(other.abs().sort(dim=1).values, clip.abs().sort(dim=1).values)
        assert torch.equal(other.diff(dim=2).ne(0).any(1), clip.diff(dim=2).ne(0).any(1))


def test_recolour_needs_pixels_and_the_empty_prompt():
    with pytest.raises(InputError, match="'recolour' is 0.5, which needs the empty prompt"):
        MotionTraining(model(), CLIP, TEXT[:1], dataclasses.replace(QUICK, recolour=0.5))
    with pytest.raises(InputError, match="latent expert's latents have no colours"):
        trained(torch.rand(4, 32, 32, 3), "show-1-sr2", recolour=0.5)
    with pytest.raises(InputError, match="from 0 to 1"):
        trained(recolour=1.5)
    key, change = next(iter(trained(recolour=1.0).lora.changes.items()))
    assert not torch.equal(change.up, trained().lora.changes[key].up)


def test_more_feed_forward_layers_on_demand():
    assert any(".ff." in key for key in trained(targets="attention_and_ff").lora.changes)


def test_latent_expert():
    training = trained(torch.rand(4, 32, 32, 3), "show-1-sr2", steps=2)
    assert any(key.startswith("transformer_in") for key in training.lora.changes)
    assert with_motion(
        model("show-1-sr2"), lora_from(spelled(training.lora), model("show-1-sr2"), "x"), 1.0
    )


def test_pixel_super_resolution():
    """It is shown what it enlarges: the clip's own low resolution, noised, and sometimes its first
    frame as it is.
    """
    training = trained(
        torch.rand(6, 32, 48, 3), "show-1-sr1", steps=2, objective="motion", recolour=0.5
    )
    assert training._images[0].shape == (1, 3, 6, 44, 64)
    assert all(map(math.isfinite, training.losses))
    assert with_motion(
        model("show-1-sr1"), lora_from(spelled(training.lora), model("show-1-sr1"), "x"), 1.0
    )
    clip = to_model(CLIP, torch.device("cpu"))
    seen = [training._low_resolution(clip) for _ in range(40)]
    assert {condition.shape for condition, _ in seen} == {clip.shape}
    assert 200 < max(int(levels) for _, levels in seen) < 300
    chained = sum(torch.equal(condition[:, :, 0], clip[:, :, 0]) for condition, _ in seen)
    assert 15 < chained < 33
    quietest = min(seen, key=lambda pair: int(pair[1]))[0]
    assert (quietest - clip)[:, :, 1:].square().mean() < 0.5 * (clip - clip.mean()).square().mean()


def test_stopped_in_the_middle_keeps_what_is_learned():
    class Cancel(Exception):
        pass

    def report(step: int, total: int, preview=None) -> None:
        if step == 2:
            raise Cancel

    training = MotionTraining(model(), CLIP, TEXT[:1], QUICK)
    before = frames(model())
    with pytest.raises(Cancel):
        training.run(report)
    assert len(training.losses) == 2
    assert any(change.up.abs().sum() > 0 for change in training.lora.changes.values())
    assert torch.equal(frames(model()), before)  # nothing stays attached to the network


def test_what_was_learned_before_a_loss_that_is_not_finite_goes_on():
    """A rate this high overflows float32 after some steps."""
    training = trained(objective="plain", learning_rate=1e30, steps=9)
    done = len(training.losses)
    assert 0 < done < 9 and f"stopped at step {done + 1} of 9" in training.stopped
    assert all(map(math.isfinite, training.losses))
    assert all(change.up.isfinite().all() for change in training.lora.changes.values())


def test_a_first_step_that_is_not_finite_is_an_error():
    broken = load_model(WEIGHTS / "show-1-base", PlainRuntime())
    broken.unet.load(0)
    broken.network.conv_in.weight.data.fill_(float("inf"))
    training = MotionTraining(broken, CLIP, TEXT[:1], QUICK)
    with pytest.raises(ResultError, match="the loss of the first step is NaN or infinite; lower"):
        training.run()


def test_samples_while_training():
    seen = {}

    def report(step: int, total: int, preview=None) -> None:
        seen[step] = preview and preview()

    trained(report=report, steps=5, sample_every=2)
    assert [step for step, picture in seen.items() if picture is not None] == [2, 4, 5]
    assert seen[4].shape == (4, 16, 16, 3) and not torch.equal(seen[2], seen[5])


def test_on_weights_of_an_inference_mode():
    """As in the host, which runs everything in inference mode."""
    with torch.inference_mode():
        own = load_model(WEIGHTS / "show-1-base", PlainRuntime())
        training = MotionTraining(own, CLIP, TEXT[:1], QUICK)
        training.run()
        assert torch.isfinite(
            keyframes(
                with_motion(own, training.lora, 1.0),
                TEXT[:1],
                TEXT[1:],
                KeyframeSettings(width=16, height=16, num_frames=2, steps=1),
            )
        ).all()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"objective": "speed"}, "objective 'speed' is not known; choose one of motion"),
        ({"rank": 0}, "'rank' is 0"),
        ({"timesteps": "odd"}, "motion, even"),
        ({"learning_rate": 0.0}, "'learning_rate' is 0.0"),
        ({"frame_step": 8}, "1 at a 'frame_step' of 8"),
        ({"targets": "all"}, "attention_and_ff"),
    ],
)
def test_refused_values(changes, message):
    with pytest.raises(InputError, match=message):
        trained(**changes)


def test_refused_models_and_frames():
    with pytest.raises(ModelKindError, match="Show1TrainMotionLoRA trains a keyframe model"):
        trained(name="show-1-interpolation")
    with pytest.raises(InputError, match="NaN"):
        trained(torch.full((3, 8, 8, 3), float("nan")))


def test_objectives_know_the_truth():
    source = torch.Generator().manual_seed(0)
    noise, other = (
        torch.randn(2, 3, 4, 8, 8, generator=source),
        torch.randn(2, 3, 4, 8, 8, generator=source),
    )
    for objective in OBJECTIVES.values():
        assert (
            objective(noise, noise, source).abs().max()
            < 1e-5
            < objective(other, noise, source).min()
        )
    # What all frames share does not count.
    assert frame_difference(noise + torch.randn(2, 3, 1, 8, 8), noise, source).max() < 1e-4
    shared = torch.randn(2, 3, 1, 8, 8).expand(2, 3, 4, 8, 8)
    assert torch.allclose(debiased(shared, 1), shared * (2**0.5 - 1), atol=1e-6)


def test_decisive_timesteps_follow_the_size():
    alphas = torch.cos(torch.linspace(0, 1, 1000) * torch.pi / 2) ** 2
    where = torch.tensor([0.0, 0.5, 1.0])
    small, large, tiny = (
        decisive_timesteps(alphas, *size, where) for size in ((16, 16), (40, 64), (1, 2))
    )
    assert (
        0 < small[0] < small[1] < small[2] < 1000 and (small < large).all() and (tiny < small).all()
    )
    assert 0.2 < alphas[small[0]].sqrt() < 0.31 and 0.03 < alphas[small[2]].sqrt() < 0.05


def test_inversion_leads_back():
    """From the inverted noise, sampled by the same steps without chance, the clip comes again."""
    schedule = Schedule(
        {
            **model().scheduler_config,
            "_class_name": "DDIMScheduler",
            "thresholding": False,
            "clip_sample": False,
            "timestep_spacing": "leading",
            "set_alpha_to_one": True,
        },
        25,
    )
    unet = model().network
    model().unet.load(0)
    with torch.no_grad():

        def predict(x: torch.Tensor, timestep: int) -> torch.Tensor:
            return unet(x, timestep, TEXT[1:])

        clean = to_model(CLIP, torch.device("cpu"))
        noise = invert(predict, clean, schedule)
        back = denoise(predict, noise, schedule, [generator(0)], silent)
    assert 0.8 < noise.std() < 1.2
    assert (back - clean).square().mean() < 0.3 * (clean - clean.mean()).square().mean()


def test_starting_from_a_clip():
    plain = frames(model())
    assert torch.allclose(frames(model(), motion_from=CLIP, motion_mix=0.0), plain, atol=1e-3)
    steps = []
    started = frames(
        model(),
        motion_from=CLIP,
        report=lambda step, total, preview=None: steps.append((step, total)),
    )
    assert not torch.equal(started, plain) and steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with pytest.raises(InputError, match="motion_mix is 1.5"):
        frames(model(), motion_from=CLIP, motion_mix=1.5)
    with pytest.raises(InputError, match="'motion_from' has shape"):
        frames(model(), motion_from=CLIP[0])


def test_mixed_noise_keeps_its_variance():
    source = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 64, 64, generator=source)
    assert all(abs(float(mixed(one, other, share).std()) - 1) < 0.05 for share in (0.0, 0.3, 1.0))


def test_command_line(tmp_path, capsys):
    write_mp4(tmp_path / "clip.mp4", CLIP, 8)
    arguments = [
        "train",
        str(tmp_path / "clip.mp4"),
        str(tmp_path / "orbit.safetensors"),
        "--prompt",
        "a blue square",
        "--steps",
        "3",
        "--rank",
        "2",
        "--window",
        "4",
        "--sample-every",
        "2",
        "--sample-sheet",
        str(tmp_path / "sheet.png"),
        "--spelling",
        "kohya",
    ]
    assert main(arguments) == 0
    assert "loss" in capsys.readouterr().err and (tmp_path / "sheet.png").stat().st_size > 100
    assert len(load_file(tmp_path / "orbit.safetensors")) == 96
    made = {}
    for name, options in (
        ("without", []),
        ("with", ["--lora", f"{tmp_path / 'orbit.safetensors'}:20"]),
    ):
        assert (
            main(
                [
                    "generate",
                    "--prompt",
                    "a red circle",
                    "--until",
                    "keyframes",
                    "--keyframes-steps",
                    "2",
                    "--frames-out",
                    str(tmp_path / f"{name}.safetensors"),
                    *options,
                ]
            )
            == 0
        )
        made[name] = load_file(tmp_path / f"{name}.safetensors")["keyframes"]
    assert not torch.equal(made["with"], made["without"])


def test_command_line_for_a_texture(tmp_path):
    write_mp4(
        tmp_path / "clip.mp4",
        moving(Scene("square", "blue", "right", "white", "striped"), "orbit", 4, size=(64, 64)),
        8,
    )
    file = tmp_path / "stripes.safetensors"
    assert (
        main(
            [
                "train",
                str(tmp_path / "clip.mp4"),
                str(file),
                "--prompt",
                "a blue square",
                "--pixel-sr",
                "--steps",
                "1",
                "--window",
                "2",
                "--rank",
                "2",
            ]
        )
        == 0
    )
    arguments = [
        "generate",
        "--prompt",
        "a red circle",
        "--until",
        "pixel-sr",
        "--keyframes-steps",
        "2",
        "--keyframes-num-frames",
        "2",
        "--interpolate-steps",
        "2",
        "--pixel-sr-steps",
        "2",
    ]
    made = []
    for options in ([], ["--pixel-sr-lora", f"{file}:20"]):
        assert main([*arguments, "--frames-out", str(tmp_path / "made.safetensors"), *options]) == 0
        made.append(load_file(tmp_path / "made.safetensors"))
    assert torch.equal(made[0]["interpolated"], made[1]["interpolated"])
    assert not torch.equal(made[0]["pixel_sr"], made[1]["pixel_sr"])
    assert main([*arguments, "--lora", str(file)]) == 2  # it is not the keyframe model's


def test_unwritable_lora(tmp_path):
    assert main(["train", "clip.mp4", str(tmp_path / "no" / "x.safetensors"), "--prompt", "a"]) == 2
