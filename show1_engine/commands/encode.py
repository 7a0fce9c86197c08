"""python -m show1_engine encode: the text states and latents of a folder of videos, beforehand."""

import argparse

import torch
from torch import Tensor

from ..checkpoints.find import cascade_in, missing_model
from ..frames import cover, to_model
from ..loading import load_model
from ..models.autoencoder import VaeCodec
from ..models.bundle import Show1Model
from ..models.kinds import LATENT_EXPERT
from ..runtime import PlainRuntime
from ..training.clips import Cut, long_enough
from ..training.encoded import Encoded
from ..training.footage import Scene, looked_through
from ..training.processes import processes
from ..training.recipes import RECIPES, sizes_of
from .common import models_folder
from .terminal import Bar, say
from .train_stage import encoder_of, resident, settings_of

_FRAMES_AT_ONCE = 16


def run(args: argparse.Namespace) -> None:
    """Under torchrun every process takes its share."""
    place = processes(args.device if args.device != "auto" else _fastest())
    record = args.into / "data.jsonl"
    if place.rank == 0:
        looked_through(args.data, record, Bar("videos looked through"))
    place.wait()
    footage, kind = looked_through(args.data, record), RECIPES[args.stage].kind
    if place.rank == 0:
        say(f"encode: {footage.told()}")
    encoded = Encoded(args.into, "clip" if kind == LATENT_EXPERT else "t5")
    captions = dict.fromkeys(scene.source.caption for scene in footage.scenes)
    own = ["", *captions][place.rank :: place.count]
    if encoded.missing(own):
        # Without a name: the text encoder is gone before the model is loaded.
        encoded.add_texts(encoder_of(args, kind, place.device), own, Bar("captions encoded"))
    if kind == LATENT_EXPERT:
        _latents(args, encoded, footage.scenes[place.rank :: place.count], device=place.device)
    place.wait()
    if place.rank == 0:
        print(args.into)


def _fastest() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _latents(
    args: argparse.Namespace, encoded: Encoded, scenes: list[Scene], device: torch.device
) -> None:
    """Of every scene that a clip fits into."""
    models = models_folder(args)
    paths = cascade_in(models)
    if LATENT_EXPERT not in paths:
        raise missing_model(models, LATENT_EXPERT)
    model = resident(load_model(paths[LATENT_EXPERT], PlainRuntime()), device)
    s, recipe = settings_of(args), RECIPES[args.stage]
    rate, frames = s.frame_rate or recipe.frame_rate, s.frames or recipe.frames
    cut, bar = Cut(frames, rate, sizes_of(args.stage, s, model)), Bar("scenes encoded")
    fitting = long_enough(scenes, cut)
    for number, scene in enumerate(fitting, 1):
        file = encoded.latents(cut.size(scene), rate, scene.name)
        if not file.is_file():
            encoded.save_latents(file, *_posterior(model, scene, cut))
        bar(number, len(fitting))


def _posterior(model: Show1Model, scene: Scene, cut: Cut) -> tuple[Tensor, Tensor]:
    """Scaled mean and deviation (F, 4, h, w) of a scene's frames at the cut's rate, all of it."""
    count = max(cut.frames, int((scene.stop - scene.start) * cut.rate + 1e-6) + 1)
    times = [scene.start + i / cut.rate for i in range(count)]
    codec, parts = VaeCodec(model.vae), []
    for i in range(0, count, _FRAMES_AT_ONCE):
        pixels = to_model(scene.frames(times[i : i + _FRAMES_AT_ONCE]), torch.device("cpu"))
        parts.append(codec.posterior(cover(pixels, *cut.size(scene))))
    means, deviations = zip(*parts)
    return torch.cat(means), torch.cat(deviations)
