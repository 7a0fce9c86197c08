"""Video file to video file, which upscale, interpolate and refine share."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..cascade import t5_of
from ..checkpoints.find import cascade_in, missing_model, text_encoder_in
from ..films.film import Film, make
from ..films.steps import Refine, Step
from ..loading import load_model, load_text_encoder
from ..models.bundle import Show1Model
from ..models.kinds import LATENT_EXPERT
from ..models.text import CLIP
from ..runtime import PlainRuntime
from ..stages.latent_expert_sr import LatentExpertSettings
from .common import models_folder, runtime, settings
from .terminal import Bar, say

Texts = tuple[Tensor, Tensor]  # the states of the prompt and of the negative prompt


class Cascade:
    """The models of --models and the prompts' states for them, loaded as they are asked for."""

    def __init__(self, args: argparse.Namespace):
        self._args, self._folder = args, models_folder(args)
        self._place: PlainRuntime = runtime(args)
        self._paths: dict[str, Path] = cascade_in(self._folder)

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


def process(
    args: argparse.Namespace, steps: Callable[[Cascade], list[Step]], *, cuts: bool
) -> None:
    """Makes --target of --source, part by part: neither needs to fit into memory."""
    bar = Bar(args.command, unit="frame")
    film = Film(source=args.source, target=args.target, cuts=cuts, stretch=args.stretch, say=say)
    made = make(film, steps(Cascade(args)), bar)
    bar.close()
    say(f"{made.timeline.frames} frames written")
    print(args.target)


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
