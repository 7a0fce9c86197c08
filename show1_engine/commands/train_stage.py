"""python -m show1_engine train-stage: a stage of the cascade on a folder of captioned videos."""

import argparse
import signal
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from ..bundled import EDITIONS, STAGE_TRAINING
from ..cascade import t5_of
from ..checkpoints.find import cascade_in, missing_model, text_encoder_in
from ..checkpoints.read import Checkpoint, read_checkpoint
from ..errors import InputError
from ..loading import load_text_encoder, model_of
from ..lora.merging import MotionLora
from ..lora.student import student_settings
from ..models.bundle import Show1Model
from ..models.handle import Handle
from ..models.kinds import KEYFRAMES, LATENT_EXPERT
from ..models.text import CLIP, TextEncoder
from ..runtime import PlainHandle, PlainRuntime
from ..stages.registry import STAGES
from ..training.clips import ClipData, Cut, SceneClips, long_enough
from ..training.encoded import Encoded
from ..training.footage import Footage, Scene, fingerprint, looked_through
from ..training.order import seeded
from ..training.processes import Processes, processes
from ..training.recipes import RECIPES, Noiser, checked_settings, sizes_of
from ..training.result import Grown, model_card, write_lora, write_model
from ..training.settings import StageTrainSettings
from ..training.stage import StageTraining
from ..training.student import Teacher, student_config
from ..training.validation import Validation
from .common import bundled, given, models_folder
from .terminal import Bar, say

_HELD_OUT = 5  # one video in so many at most
_SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")  # as far as the system has them


def run(args: argparse.Namespace) -> None:
    s = checked_settings(args.stage, settings_of(args))
    place = processes(_device(args), shard=s.shard)
    s = checked_settings(args.stage, replace(s, shard=place.shard))
    lead = place.rank == 0
    source, taught = _sources(args, s)
    model = resident(model_of(source, PlainRuntime()), place.device)
    if taught is None:
        model.require_noise(args.stage)
    cut = _cut(args.stage, s, model)
    footage = _footage(args, place)
    train, held = _parted(long_enough(footage.scenes, cut), s)
    if lead:
        say(
            f"{args.stage}: {footage.told()}; {len(train)} scenes to train on, {len(held)} held out"
        )
    texts = _texts(args, source, place, captions=[x.source.caption for x in (*train, *held)])
    noiser = Noiser(model, s)
    latents = _latents(args, cut, train)
    data = ClipData(
        SceneClips(train, cut, latents), texts.text, noiser, stride=place.count * s.batch_size
    )
    validation = Validation(
        model,
        SceneClips(held, cut),
        texts.text,
        noiser=noiser,
        folder=args.run if lead else None,
        size=cut.sizes[0],
        frames=cut.frames,
        prompts=_prompts(args.sample_prompts),
        device=place.device,
    )
    training = StageTraining(
        args.stage,
        model,
        data,
        s=s,
        folder=args.run,
        place=place,
        validate=validation,
        teacher=_teacher(taught, model, s, nothing=texts.text(""), device=place.device),
    )
    validation.loss_of = training.learner
    try:
        _learn(training, lead)
    finally:
        data.close()
        if lead and training.step and (learned := training.learned()):
            written = _result(args, training, source, footage=footage, learned=learned)
            print(written)
    if data.broken and lead:
        say(f"{args.stage}: {len(data.broken)} clips could no longer be read")


def settings_of(args: argparse.Namespace) -> StageTrainSettings:
    """As given, else what suits the micro models, else the defaults."""
    edition = bundled(args)
    preset = {**STAGE_TRAINING, "sizes": edition.sizes[args.stage]} if edition else {}
    return StageTrainSettings(**{**preset, **given(args, StageTrainSettings()), "seed": args.seed})


def resident(model: Show1Model, device: torch.device) -> Show1Model:
    """The model with networks that stay on the device beside each other."""

    def there(handle: Handle) -> Handle:
        runtime = PlainRuntime(str(device))
        return PlainHandle(handle.module.to(device), handle.dtype, runtime)

    vae = None if model.vae is None else there(model.vae)
    return replace(model, unet=there(model.unet), vae=vae)


def _device(args: argparse.Namespace) -> str:
    if args.device != "auto":
        return args.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _source(args: argparse.Namespace, s: StageTrainSettings) -> Checkpoint:
    """What is trained on from."""
    models, kind = models_folder(args), RECIPES[args.stage].kind
    paths = cascade_in(models)
    wanted = KEYFRAMES if s.start == "keyframes" else kind
    if wanted not in paths:
        raise missing_model(models, wanted)
    found = read_checkpoint(paths[wanted])
    return Grown.of(found) if s.start == "keyframes" else found


def _sources(
    args: argparse.Namespace, s: StageTrainSettings
) -> tuple[Checkpoint, Checkpoint | None]:
    """What is trained on from; of a student, with its own scheduler config, and its teacher."""
    source = _source(args, s)
    if (args.teacher is None) != (s.student_steps == 0):
        raise InputError("a student takes both --teacher DIR and --student-steps N")
    if args.teacher is None:
        return source, None
    if s.train == "lora" and source.scheduler_config.get("student_steps"):
        raise InputError(
            f"'{source.name}' is a student already, to which no student's LoRA can be applied; "
            "give --models the teacher's"
        )
    edition = EDITIONS.get(str(args.teacher))
    folder = edition.folder if edition else Path(args.teacher)
    paths = cascade_in(folder)
    if source.kind not in paths:
        raise missing_model(folder, source.kind)
    taught = read_checkpoint(paths[source.kind])
    own = student_config(taught.scheduler_config, s.student_steps, taught.kind)
    return replace(source, scheduler_config=own), taught


def _teacher(
    taught: Checkpoint | None,
    student: Show1Model,
    s: StageTrainSettings,
    *,
    nothing: Tensor,
    device: torch.device,
) -> Teacher | None:
    if taught is None:
        return None
    return Teacher(
        resident(model_of(taught, PlainRuntime()), device).network,
        taught.scheduler_config,
        student.scheduler_config,
        nothing=nothing.to(device),
        cfg=s.teacher_cfg or STAGES[taught.kind].settings.cfg,
        steps=s.teacher_steps,
    )


def _cut(stage: str, s: StageTrainSettings, model: Show1Model) -> Cut:
    recipe = RECIPES[stage]
    rate = s.frame_rate or recipe.frame_rate
    return Cut(s.frames or recipe.frames, rate, sizes_of(stage, s, model))


def _footage(args: argparse.Namespace, place: Processes) -> Footage:
    """Looked through by the first process; the others read what it found."""
    record, bar = args.run / "data.jsonl", Bar("videos looked through")
    if place.rank == 0:
        looked_through(args.data, record, bar)
    place.wait()
    return looked_through(args.data, record)


def _parted(scenes: list[Scene], s: StageTrainSettings) -> tuple[list[Scene], list[Scene]]:
    """Scenes to train on, and those of whole videos that are held out."""
    names = list(dict.fromkeys(scene.source.name for scene in scenes))
    order = torch.randperm(len(names), generator=seeded(s.seed, "held out")).tolist()
    held = {names[i] for i in order[: min(s.held_out, len(names) // _HELD_OUT)]}
    parts = ([], [])
    for scene in scenes:
        parts[scene.source.name in held].append(scene)
    return parts


def _texts(
    args: argparse.Namespace, source: Checkpoint, place: Processes, captions: list[str]
) -> Encoded:
    """The states of all captions, in the folder of what is encoded; those missing are encoded
    now.
    """
    kind = "clip" if source.kind == LATENT_EXPERT else "t5"
    encoded = Encoded(args.encoded or args.run / "encoded", kind)
    if place.rank == 0:
        wanted = ["", *captions, *_prompts(args.sample_prompts)]
        if encoded.missing(wanted):
            encoder = encoder_of(args, source.kind, place.device)
            encoded.add_texts(encoder, wanted, Bar("captions encoded"))
    place.wait()
    return encoded


def encoder_of(args: argparse.Namespace, kind: str, device: torch.device) -> TextEncoder:
    """What a model of that kind reads text with."""
    models, paths = models_folder(args), cascade_in(models_folder(args))
    runtime = PlainRuntime(str(device), torch.bfloat16 if device.type == "cuda" else torch.float32)
    if kind != LATENT_EXPERT:
        return t5_of(models, runtime, paths, chosen=args.text_encoder)
    return load_text_encoder(text_encoder_in(models, CLIP, paths.get(kind)), runtime)


def _latents(args: argparse.Namespace, cut: Cut, scenes: list[Scene]) -> Encoded | None:
    """Where the expert's latents lie, if they were encoded beforehand."""
    if args.encoded is None or args.stage != "expert":
        return None
    encoded = Encoded(args.encoded, "clip")
    there = [encoded.latents(cut.size(x), cut.rate, x.name).is_file() for x in scenes]
    return encoded if any(there) else None


def _prompts(file: Path | None) -> tuple[str, ...]:
    if file is None:
        return ()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"'{file}' is no text: {error.reason}") from None
    return tuple(line.strip() for line in lines if line.strip())


def _learn(training: StageTraining, lead: bool) -> None:
    """Trains; the first signal to end does so after the running step."""
    bar = Bar(training.stage)

    def stop(number: int, _: FrameType | None) -> None:
        training.stopped = True
        signal.signal(number, before[number])

    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        training.run(bar) if lead else training.run()
    finally:
        bar.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    if training.stopped and lead:
        say(f"{training.stage}: stopped after step {training.step} of {training.s.steps}; saved")


def _result(
    args: argparse.Namespace,
    training: StageTraining,
    source: Checkpoint,
    *,
    footage: Footage,
    learned: dict[str, Any],
) -> Path:
    """The averaged weights as a model's folder, or as a LoRA."""
    done = {
        "steps": int(learned["counters"]["step"]),
        "clips seen": int(learned["counters"]["clips"]),
        "data": f"{args.data.name}, {footage.told()}",
        "fingerprint of the data": fingerprint(footage),
    }
    card = model_card(args.run.name, source, training.s, done=done)
    adapters = training.learner.adapters
    if adapters is not None:
        student = student_settings(source.scheduler_config) if args.teacher else None
        lora = MotionLora(args.run.name, adapters.learned(), student)
        return write_lora(args.run / "lora.safetensors", lora, card)
    return write_model(args.run / "ema" / source.name, source, learned["mean"], card=card)
