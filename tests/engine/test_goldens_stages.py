"""Each stage, and the whole cascade, give the recorded pictures."""

import shutil

import pytest
import reference
import torch
from torch import Tensor

from show1_engine import cascade
from show1_engine.cascade import Cascade
from show1_engine.checkpoints.read import read_json
from show1_engine.frames import from_model, resize_bilinear, to_uint8
from show1_engine.loading import load_model, load_text_encoder
from show1_engine.models.autoencoder import VaeCodec
from show1_engine.models.bundle import Show1Model
from show1_engine.models.kinds import (
    FIRST_FRAME_SR,
    INTERPOLATION,
    KEYFRAMES,
    LATENT_EXPERT,
    PIXEL_SR,
)
from show1_engine.noise import generator, randn
from show1_engine.progress import silent
from show1_engine.runtime import PlainRuntime
from show1_engine.sampling.loop import denoise
from show1_engine.sampling.schedules import Schedule, make_scheduler
from show1_engine.stages.interpolate import InterpolateSettings, condition_of
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.stages.latent_expert_sr import LatentExpertSettings, latent_expert_sr
from show1_engine.stages.pixel_sr import PixelSRSettings, Upscaler, first_frame_sr
from show1_engine.stages.settings import guidance

CPU = torch.device("cpu")


def model_of(name: str, scheduler: str | None = None) -> Show1Model:
    model = load_model(reference.reference_root() / "models" / name, PlainRuntime())
    if scheduler is None:
        return model
    config = read_json(
        reference.reference_root() / scheduler / "scheduler" / "scheduler_config.json"
    )
    return Show1Model(model.name, model.kind, model.unet, config, model.noising_config, model.vae)


def schedule_of(model: Show1Model, p: dict) -> Schedule:
    return Schedule(
        model.scheduler_config, p.get("steps", 1), p.get("timesteps"), p.get("strength", 1.0)
    )


def video(frames: Tensor) -> Tensor:
    """(F, H, W, 3) in [0, 1] -> (1, 3, F, H, W) in [-1, 1]."""
    return frames.permute(3, 0, 1, 2)[None] * 2 - 1


def check(case: dict, mine: Tensor, recorded: Tensor) -> None:
    assert mine.shape == recorded.shape
    assert (mine - recorded).abs().max() <= case["max_abs_tol"]


def of_kind(kind: str, *without: str) -> list:
    return [
        c for c in reference.cases("d") if c["params"]["kind"] == kind and c["id"] not in without
    ]


_LOW_LEVEL = ("d_base_prompt_kw", "d_base_batch", "d_base_custom_timesteps")


@pytest.mark.parametrize("case", of_kind("base", *_LOW_LEVEL), ids=lambda case: case["id"])
def test_keyframes(case):
    tensors, p = reference.golden(case), case["params"]
    settings = KeyframeSettings(
        width=p["width"],
        height=p["height"],
        num_frames=p["num_frames"],
        steps=p["steps"],
        cfg=p["guidance_scale"],
        seed=p["seed"],
    )
    frames = keyframes(
        model_of(case["model"], p.get("scheduler")),
        tensors["in.prompt_embeds"],
        tensors["in.negative_prompt_embeds"],
        settings,
    )
    if "out.frames_uint8" in tensors:
        assert (to_uint8(frames).int() - tensors["out.frames_uint8"].int()).abs().max() <= 1
    check(
        case, video(frames), tensors["out.frames" if "out.frames" in tensors else "out.frames_pt"]
    )


@pytest.mark.parametrize("case", of_kind("base"), ids=lambda case: case["id"])
def test_keyframe_loop_takes_batches_texts_and_timesteps(case):
    tensors, p = reference.golden(case), case["params"]
    model = model_of(case["model"], p.get("scheduler"))
    positive, negative = tensors.get("in.prompt_embeds"), tensors.get("in.negative_prompt_embeds")
    if positive is None:
        encoder = load_text_encoder(
            reference.reference_root() / "models" / case["model"], PlainRuntime()
        )
        prompts = p["prompt"] if isinstance(p["prompt"], list) else [p["prompt"]]
        copies = p.get("num_images_per_prompt", 1)
        positive = encoder.encode(prompts, p["clean_caption"]).repeat_interleave(copies, 0)
        negative = encoder.encode([p.get("negative_prompt", "")], p["clean_caption"]).expand(
            len(positive), -1, -1
        )
    source = generator(p["seed"])
    start = randn((len(positive), 3, p["num_frames"], p["height"], p["width"]), source, CPU)
    with torch.no_grad():
        predict = guidance("test", model, positive, negative, p["guidance_scale"], device=CPU)
        out = denoise(predict, start, schedule_of(model, p), [source], silent)
    check(case, out, tensors["out.frames" if "out.frames" in tensors else "out.frames_pt"])


@pytest.mark.parametrize("case", of_kind("interp"), ids=lambda case: case["id"])
def test_interpolation_window(case):
    tensors, p = reference.golden(case), case["params"]
    model, source = model_of(case["model"], p.get("scheduler")), generator(p["seed"])
    pixels = tensors["in.pixel_values"]
    start = tensors["in.init_noise"] if p["init_noise"] else randn(pixels.shape, source, CPU)
    condition = condition_of(pixels[:, :, 0], pixels[:, :, -1])
    with torch.no_grad():
        predict = guidance(
            "test",
            model,
            tensors["in.prompt_embeds"],
            tensors["in.negative_prompt_embeds"],
            p["guidance_scale"],
            device=CPU,
        )
        out = denoise(predict, start, schedule_of(model, p), [source], silent, condition)
    check(case, out, tensors["out.frames"])


@pytest.mark.parametrize("case", of_kind("ifsr"), ids=lambda case: case["id"])
def test_first_frame(case):
    tensors, p = reference.golden(case), case["params"]
    settings = PixelSRSettings(
        steps=p["steps"], cfg=p["guidance_scale"], noise_level=p["noise_level"], seed=p["seed"]
    )
    low = from_model(tensors["in.image"].unsqueeze(2))
    frame = first_frame_sr(
        model_of(case["model"]),
        low,
        tensors["in.prompt_embeds"],
        tensors["in.negative_prompt_embeds"],
        settings,
    )
    check(case, video(frame)[:, :, 0], tensors["out.images"])


@pytest.mark.parametrize(
    "case",
    of_kind("sr1_cond", "d_sr1_allframe") + of_kind("sr1_plain"),
    ids=lambda case: case["id"],
)
def test_pixel_sr_window(case):
    tensors, p = reference.golden(case), case["params"]
    model = model_of(case["model"], p.get("scheduler"))
    settings = PixelSRSettings(
        steps=p["steps"], cfg=p["guidance_scale"], noise_level=p["noise_level"], seed=p["seed"]
    )
    with torch.no_grad():
        low = tensors["in.image"]
        upscaler = Upscaler(
            model,
            tensors["in.prompt_embeds"],
            tensors["in.negative_prompt_embeds"],
            settings,
            schedule=schedule_of(model, p),
            guided_timesteps=None,
            size=low.shape[2:],
        )
        out = upscaler.window(low, tensors.get("in.first_frame_cond"))
    check(case, out, tensors["out.frames"])


@pytest.mark.parametrize("case", of_kind("v2v", "d_v2v_output_np"), ids=lambda case: case["id"])
def test_latent_expert(case):
    tensors, p = reference.golden(case), case["params"]
    scheduler = (
        "models-variants/show-1-sr2-dpmsolver" if p["scheduler"] == "DPMSolverMultistep" else None
    )
    model = model_of(case["model"], scheduler)
    seen = {}

    class Spy(VaeCodec):
        def decode(self, latents):
            seen["latents"] = latents
            return super().decode(latents)

    settings = LatentExpertSettings(
        width=p["width"],
        height=p["height"],
        steps=p["steps"],
        cfg=p["guidance_scale"],
        strength=p["strength"],
        seed=p["seed"],
    )
    encoder = load_text_encoder(
        reference.reference_root() / "models" / case["model"], PlainRuntime()
    )
    text = encoder.encode([p["prompt"], p["negative_prompt"]])
    frames = latent_expert_sr(
        model, tensors["in.video_uint8"].float() / 255, text[:1], text[1:], settings, Spy(model.vae)
    )
    if "out.latents" in tensors:
        check(case, seen["latents"], tensors["out.latents"])
    if "out.frames" in tensors:
        check(case, video(frames), tensors["out.frames"])


@pytest.mark.parametrize("case", of_kind("vae"), ids=lambda case: case["id"])
def test_vae(case):
    tensors = reference.golden(case)
    codec = VaeCodec(model_of(case["model"]).vae)
    vae = model_of(case["model"]).vae.module
    with torch.no_grad():
        mean, logvar = vae.quant_conv(vae.encoder(tensors["in.image"])).chunk(2, dim=1)
        check(case, mean, tensors["out.mean"])
        check(case, logvar, tensors["out.logvar"])
        ((_, decoded),) = codec.decode((mean[:1] * vae.config.scaling_factor).unsqueeze(2))
    check(case, decoded[:, :, 0], tensors["out.decoded_mean0"])


def test_noised_condition_is_the_resized_input():
    """all_frame_cond of the original: an enlarged condition of one's own, still noised."""
    (case,) = [c for c in reference.cases("d") if c["id"] == "d_sr1_allframe"]
    tensors, p = reference.golden(case), case["params"]
    model, source = model_of(case["model"]), generator(p["seed"])
    target = tensors["in.all_frame_cond"]
    start, noise = randn(target.shape, source, CPU), randn(target.shape, source, CPU)
    level = torch.tensor([p["noise_level"]])
    condition = make_scheduler(model.noising_config).add_noise(target, noise, level)
    with torch.no_grad():
        predict = guidance(
            "test",
            model,
            tensors["in.prompt_embeds"],
            tensors["in.negative_prompt_embeds"],
            p["guidance_scale"],
            device=CPU,
            noise_level=level,
        )
        out = denoise(predict, start, schedule_of(model, p), [source], silent, condition)
    check(case, out, tensors["out.frames"])


@pytest.mark.parametrize("case", reference.cases("e"), ids=lambda case: case["id"])
def test_cascade(case, tmp_path):
    """Prompt to frames through every stage, with the windows and the 8-bit hand-over of the
    original.
    """
    tensors, p = reference.golden(case), case["params"]
    width, height = p["sr2_size_wh"]
    job = Cascade(
        _models(p["schedulers"], tmp_path),
        p["prompt"],
        p["negative_prompt_sr2"],
        reference=True,
        settings=_settings(p),
    )
    names = {
        "keyframes": "out.base",
        "interpolated": "out.interp",
        "first_frame": "out.sr1_image",
        "pixel_sr": "out.sr1",
        "latent_expert_sr": "out.sr2",
    }
    results = dict(cascade.run(job, PlainRuntime(), lambda name: silent))
    assert results.keys() == names.keys()
    for name, golden in names.items():
        if golden in case.get("left_out", ()):
            continue
        mine = video(results[name])
        mine = mine[:, :, 0] if name == "first_frame" else mine
        tolerance = case["tensors"][golden].get("tol", case["max_abs_tol"])
        assert (mine - tensors[golden]).abs().max() <= tolerance, name
    if "out.sr2_input_uint8" in case.get("left_out", ()):
        return
    handed = to_uint8(cascade.original_handover(results["pixel_sr"], height, width))
    tolerance = (
        case["tensors"]["out.sr2_input_uint8"]["tol"] + 1
    )  # + 1: truncating a float that was an integer
    assert (handed.int() - tensors["out.sr2_input_uint8"].int()).abs().max() <= tolerance


def _settings(p):
    """Every stage's, of a case's parameters."""
    steps, scale, noise = p["steps"], p["guidance_scale"], p["noise_level"]
    width, height = p["sr2_size_wh"]
    return {
        KEYFRAMES: KeyframeSettings(
            width=p["width"],
            height=p["height"],
            num_frames=p["keyframes"],
            steps=steps["base"],
            cfg=scale["base"],
            seed=p["seed"],
        ),
        INTERPOLATION: InterpolateSettings(
            steps=steps["interp"], cfg=scale["interp"], seed=p["seed"]
        ),
        FIRST_FRAME_SR: PixelSRSettings(
            steps=steps["ifsr"], cfg=scale["ifsr"], noise_level=noise["ifsr"], seed=p["seed"]
        ),
        PIXEL_SR: PixelSRSettings(
            steps=steps["sr1"], cfg=scale["sr1"], noise_level=noise["sr1"], seed=p["seed"]
        ),
        LATENT_EXPERT: LatentExpertSettings(
            width=width,
            height=height,
            steps=steps["sr2"],
            cfg=scale["sr2"],
            strength=p["sr2_strength"],
            seed=p["seed"],
        ),
    }


def _models(schedulers, target):
    """The reference models, with other schedulers where the case says so."""
    root = reference.reference_root()
    folders = {
        "base": "show-1-base",
        "interp": "show-1-interpolation",
        "ifsr": "IF-II-L-v1.0",
        "sr1": "show-1-sr1",
        "sr2": "show-1-sr2",
    }
    for stage, name in folders.items():
        shutil.copytree(root / "models" / name, target / name)
        if isinstance(schedulers, dict):
            source = root / schedulers[stage] / "scheduler" / "scheduler_config.json"
            (target / name / "scheduler" / "scheduler_config.json").chmod(0o644)
            shutil.copyfile(source, target / name / "scheduler" / "scheduler_config.json")
    return target


def test_enlarging_aligns_corners():
    ramp = torch.arange(4.0).reshape(1, 1, 1, 1, 4).expand(1, 1, 1, 2, 4)
    assert torch.allclose(resize_bilinear(ramp, 2, 13)[0, 0, 0, 0], torch.linspace(0, 3, 13))
