"""Video file to video file, which upscale, interpolate and refine share."""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..cascade import t5_of
from ..checkpoints.find import cascade_in, missing_model, text_encoder_in
from ..films.film import Film, Row, joined_in, make
from ..films.parts import Parts
from ..films.steps import Refine, Step
from ..films.worker import Worker
from ..loading import load_model, load_text_encoder
from ..models.bundle import Show1Model
from ..models.kinds import LATENT_EXPERT
from ..models.text import CLIP
from ..runtime import PlainRuntime, device_name
from ..stages.latent_expert_sr import LatentExpertSettings
from .common import bundled, check_workers, models_folder, on_ray, runtime, settings, share_of_card
from .terminal import Bar, say

Texts = tuple[Tensor, Tensor]  # the states of the prompt and of the negative prompt
StepsOf = Callable[[argparse.Namespace, "Cascade"], list[Step]]
_ATTEMPTS = 3  # how often a row is begun whose process dies of it


class Cascade:
    """The models of --models and the prompts' states for them, loaded as they are asked for.

    planned: see PlainRuntime.
    """

    def __init__(self, args: argparse.Namespace, planned: int = 0):
        if args.threads is not None:
            torch.set_num_threads(args.threads)
        self._args, self._folder = args, models_folder(args)
        self._place: PlainRuntime = runtime(args)
        self._place.planned = planned
        self._paths: dict[str, Path] = cascade_in(self._folder)

    def place(self) -> dict[str, Any]:
        """What its frames hang on besides the models and settings: the device, and the memory that
        tiles are planned for.
        """
        memory = self._place.planned or self._place.memory()
        return {"device": device_name(self._place.device), "memory": memory}

    def model(self, kind: str) -> Show1Model:
        if kind not in self._paths:
            raise missing_model(self._folder, kind)
        return load_model(self._paths[kind], self._place)

    def t5(self) -> Texts:
        """Both prompts as the pixel stages read them."""
        chosen = self._args.text_encoder
        encoder = t5_of(self._folder, self._place, self._paths, chosen=chosen)
        states = encoder.encode([self._args.prompt, self._args.negative_prompt])
        return states[:1], states[1:]

    def clip(self, negative: str) -> Texts:
        """Both prompts as the latent expert reads them."""
        if LATENT_EXPERT not in self._paths:
            raise missing_model(self._folder, LATENT_EXPERT)
        path = text_encoder_in(self._folder, CLIP, self._paths[LATENT_EXPERT])
        states = load_text_encoder(path, self._place).encode([self._args.prompt, negative])
        return states[:1], states[1:]


def process(args: argparse.Namespace, steps: StepsOf) -> None:
    """Makes --target of --source, part by part: neither needs to fit into memory."""
    check_workers(args)
    if on_ray(args):
        _tell_workers(args)
    cascade = Cascade(args)
    film = _film(args, cascade)
    bar = Bar(args.command, unit="frame")
    work = partial(_on_workers, args, film, steps) if on_ray(args) else None
    made = make(film, steps(args, cascade), bar, elsewhere=work)
    bar.close()
    say(f"{made.timeline.frames} frames written")
    print(args.target)


def _tell_workers(args: argparse.Namespace) -> None:
    """Makes the command line mean the same in another process, wherever that is."""
    args.threads = args.threads or 1
    if bundled(args) is None:
        args.models = models_folder(args).absolute()
    if getattr(args, "text_encoder", None) is not None:  # the latent expert reads another
        args.text_encoder = args.text_encoder.absolute()


def _film(args: argparse.Namespace, cascade: Cascade) -> Film:
    return Film(
        source=args.source.absolute(),
        target=args.target,
        cuts=args.cuts is not False,
        stretch=args.stretch,
        place=cascade.place(),
        say=say,
    )


def _on_workers(
    args: argparse.Namespace, film: Film, steps: StepsOf, rows: list[Row]
) -> Iterator[Row]:
    """What Ray's workers make of rows."""
    from ..batch.on_ray import mapped

    return mapped(
        FilmWorker,
        (str(film.parts.folder.absolute()), args, steps),
        rows,
        workers=args.workers,
        address=args.address,
        gpus=share_of_card(args),
        threads=args.threads,
        attempts=_ATTEMPTS,
    )


class FilmWorker:
    """Makes rows of a film's plan in a process of its own, with models of its own.

    Args:
        folder: of the film's parts, with its plan.
        args: the command line, as it was given to the process that made the plan.
    """

    def __init__(self, folder: str, args: argparse.Namespace, steps: StepsOf):
        self._folder, self._args, self._steps = Path(folder), args, steps
        self._worker = Worker(folder, self._prepared)

    def __call__(self, row: Row) -> Row:
        return self._worker(row)

    def _prepared(self) -> list[Step]:
        plan = Parts(self._folder).plan()
        memory = 0 if plan is None else plan.settings.get("memory", 0)
        cascade = Cascade(self._args, planned=memory)
        film = replace(_film(self._args, cascade), folder=self._folder)
        return joined_in(film, self._steps(self._args, cascade))


def refine(args: argparse.Namespace, cascade: Cascade, *, negative: str, prefix: str = "") -> Step:
    """The latent expert as the command line has it. A film keeps its size unless one is given."""
    asked = settings(args, LatentExpertSettings(), "expert", prefix=prefix)
    start = f"{prefix}_" if prefix else ""
    width, height = (getattr(args, start + side) for side in ("width", "height"))
    asked = replace(asked, width=width or 0, height=height or 0)
    positive, negative_states = cascade.clip(negative)
    return Refine(
        model=cascade.model(LATENT_EXPERT),
        positive=positive,
        negative=negative_states,
        settings=asked,
    )
