"""Less memory: the same frames, in more parts. Presets and the guidance interval: fewer
evaluations.
"""

import math

import pytest
import reference
import torch

from show1_engine.bundled import WEIGHTS
from show1_engine.errors import InputError
from show1_engine.loading import load_model
from show1_engine.models.autoencoder import VaeCodec
from show1_engine.models.bundle import Show1Model
from show1_engine.models.memory import unet_bytes, vae_bytes
from show1_engine.noise import generator
from show1_engine.runtime import PlainHandle, PlainRuntime
from show1_engine.sampling.presets import FROM_CONDITION, PRESETS
from show1_engine.stages.interpolate import InterpolateSettings, interpolate
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.stages.plan import Steps, layout, sharing

FRAMES = torch.rand(4, 8, 8, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def models(monkeypatch):
    """load(name): a model of the reference cascade; `rows` of every forward are written down,
    `room` can be set.
    """

    class Models:
        rows: list[int] = []

        def load(self, name: str) -> Show1Model:
            model = load_model(reference.reference_root() / "models" / name, PlainRuntime())
            model.network.register_forward_pre_hook(
                lambda net, args: self.rows.append(len(args[0]))
            )
            return model

        def room(self, count: int) -> None:
            monkeypatch.setattr(PlainHandle, "room", lambda handle: count)

        def forwards(self) -> list[int]:
            seen, self.rows[:] = self.rows[:], []
            return seen

    Models.rows = []
    return Models()


def text(model: Show1Model) -> tuple[torch.Tensor, torch.Tensor]:
    states = torch.randn(
        2, 77, model.network.text_width, generator=torch.Generator().manual_seed(1)
    )
    return states[:1], states[1:]


@pytest.mark.parametrize(
    "samples, most, expected",
    [
        (14, 20, 14),
        (14, 13, 7),
        (14, 5, 5),
        (14, 1, 1),
        (14, 0, 1),
        (2, 2, 2),
        (2, 1, 1),
        (1, 0, 1),
    ],
)
def test_as_many_samples_share_a_forward_as_fit(samples, most, expected):
    assert sharing(samples, lambda count: count <= most) == expected


def test_guidance_halves_and_windows_run_apart_when_memory_is_short(models):
    model = models.load("show-1-interpolation")
    s = InterpolateSettings(steps=2)
    together = interpolate(model, FRAMES, *text(model), s)
    assert models.forwards() == [6, 6]
    one = unet_bytes(model.network.config, 1, 5, 8, 8, torch.float32)
    for room, expected in ((3.5 * one, [3, 3] * 2), (2.5 * one, [2, 2, 2] * 2), (0, [1] * 12)):
        models.room(int(room))
        apart = interpolate(model, FRAMES, *text(model), s)
        assert models.forwards() == expected
        assert (apart - together).abs().max() < 1e-5


def test_running_out_of_memory_halves_the_forward(models):
    model = models.load("show-1-interpolation")
    s = InterpolateSettings(steps=2)
    expected = interpolate(model, FRAMES, *text(model), s)
    models.forwards()

    def full(net, args):
        if len(args[0]) > 2:
            raise torch.cuda.OutOfMemoryError

    hook = model.network.register_forward_pre_hook(full)
    out = interpolate(model, FRAMES, *text(model), s)
    assert models.forwards() == [6, 3, 2, 2, 2, 2, 2, 2] and (out - expected).abs().max() < 1e-5
    hook.remove()
    model.network.register_forward_pre_hook(
        lambda net, args: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError())
    )
    with pytest.raises(torch.cuda.OutOfMemoryError):
        interpolate(model, FRAMES, *text(model), s)


def test_the_plan_says_that_halves_run_apart(models):
    model = models.load("show-1-base")
    assert "at a time" not in str(layout(model, 2, 8, (40, 64), 64, 0))
    models.room(0)
    assert str(layout(model, 2, 8, (40, 64), 64, 0)).endswith("1 of 2 samples at a time")


def test_vae_by_frames_and_by_tiles(models):
    """The same latents and pixels by any number of frames. Tiles are no larger than fits (how they
    look is the VAE's: micro's, which sees a whole scene at a time, loses 10 dB).
    """
    vae = load_model(WEIGHTS / "show-1-sr2", PlainRuntime()).vae
    factor = VaeCodec(vae).factor
    side = 64 * factor
    rows = torch.linspace(-1, 1, side).view(1, 1, 1, side, 1).expand(1, 3, 3, side, side)
    video = 0.4 * (rows + rows.transpose(3, 4))

    def through() -> tuple[torch.Tensor, torch.Tensor]:
        codec = VaeCodec(vae)
        with torch.no_grad():
            latents = codec.encode(lambda part: video[:, :, part], 3, generator(0))
            return latents, torch.cat([pixels for _, pixels in codec.decode(latents)], dim=2)

    whole = through()
    config = vae.module.config
    models.room(vae_bytes(config, 1, side, side, torch.float32))
    assert all((a - b).abs().max() < 1e-4 for a, b in zip(through(), whole))
    models.room(vae_bytes(config, 1, side // 2, side // 2, torch.float32))
    seen = {net: [] for net in (vae.module.encoder, vae.module.decoder)}
    for net in seen:
        net.register_forward_pre_hook(lambda net, args: seen[net].append(max(args[0].shape[-2:])))
    latents, pixels = through()
    assert (latents.shape, pixels.shape) == tuple(part.shape for part in whole)
    assert torch.isfinite(pixels).all()
    assert (
        max(seen[vae.module.encoder]) == side // 2
        and max(seen[vae.module.decoder]) == side // 2 // factor
    )


def test_presets_run_fewer_evaluations_and_say_so(models):
    model = models.load("show-1-base")
    plans, seen = [], {}

    def report(step, total, preview=None):
        pass

    report.plan = plans.append
    for name in PRESETS:
        out = keyframes(
            model,
            *text(model),
            KeyframeSettings(width=8, height=8, num_frames=2, steps=15, preset=name),
            report,
        )
        assert torch.isfinite(out).all()
        seen[name] = sum(models.forwards())
    assert seen == {"reference": 30, "balanced": 22, "fast": 10}
    assert plans[0].endswith("; 15 steps") and plans[2].endswith(
        "; 6 steps (fast instead of 15, guided in 4, the whole network in 3)"
    )


@pytest.mark.parametrize("name", ["show-1-interpolation", "show-1-sr1", "show-1-base"])
@pytest.mark.parametrize("preset", ["balanced", "fast"])
def test_presets_begin_where_a_condition_shows_the_picture(models, name, preset):
    """At a logarithm of signal to noise of -3, down to no noise; keyframes where they always do."""
    model = models.load(name)
    settings = KeyframeSettings(steps=20, preset=preset)
    schedule = Steps.of("stage", model, settings).schedule
    level = -math.log(schedule.stepper().noise_to_signal(schedule.timesteps[0]))
    ends = float(schedule.scheduler().sigmas[-1])
    if name == "show-1-base":
        assert level < -5 and ends > 0
    else:
        assert level == pytest.approx(FROM_CONDITION, abs=0.05) and ends == 0


def test_reference_is_what_the_widgets_say(models):
    model = models.load("show-1-base")
    out = [
        keyframes(
            model,
            *text(model),
            KeyframeSettings(width=8, height=8, num_frames=2, steps=4, **changes),
        )
        for changes in ({}, {"preset": "reference"}, {"guidance_start": 0.0, "guidance_end": 1.0})
    ]
    assert torch.equal(out[0], out[1]) and torch.equal(out[0], out[2])


def test_guidance_in_an_interval(models):
    """Not at all is cfg 1; outside the interval only the prompt runs."""
    model = models.load("show-1-base")
    none = keyframes(
        model,
        *text(model),
        KeyframeSettings(
            width=8, height=8, num_frames=2, steps=4, guidance_start=0.5, guidance_end=0.5
        ),
    )
    assert models.forwards() == [1] * 4
    assert (
        none
        - keyframes(
            model, *text(model), KeyframeSettings(width=8, height=8, num_frames=2, steps=4, cfg=1.0)
        )
    ).abs().max() < 1e-5
    models.forwards()
    keyframes(
        model,
        *text(model),
        KeyframeSettings(
            width=8, height=8, num_frames=2, steps=4, guidance_start=0.25, guidance_end=0.75
        ),
    )
    assert models.forwards() == [1, 2, 2, 1]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"preset": "quick"}, "preset 'quick' is not known; choose one of reference"),
        ({"guidance_start": 0.6, "guidance_end": 0.4}, "guidance from 0.6 to 0.4"),
    ],
)
def test_wrong_choices_are_one_clear_line(models, changes, message):
    model = models.load("show-1-base")
    with pytest.raises(InputError, match=message):
        keyframes(
            model,
            *text(model),
            KeyframeSettings(width=8, height=8, num_frames=2, steps=4, **changes),
        )
