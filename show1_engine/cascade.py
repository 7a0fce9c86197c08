"""The whole cascade without ComfyUI: a folder of models and a prompt in, every stage's frames
out.
"""

import gc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checkpoints.find import cascade_in, missing_model, text_encoder_in
from .errors import InputError
from .frames import to_uint8
from .loading import load_model, load_text_encoder
from .lora.formats import read_lora
from .lora.merging import with_motion
from .models.bundle import Show1Model
from .models.handle import Runtime
from .models.kinds import FIRST_FRAME_SR, INTERPOLATION, KEYFRAMES, LATENT_EXPERT, PIXEL_SR
from .models.text import CLIP, T5, TextEncoder
from .progress import Report
from .sampling.windows import original_windows
from .stages.given import GivenFrames
from .stages.interpolate import FACTOR
from .stages.keyframes import FPS
from .stages.prompts import Prompt, scheduled_prompts
from .stages.registry import ENDS, STAGES
from .stages.settings import StageSettings


@dataclass(frozen=True)
class Cascade:
    """What to run.

    settings: of every stage by its kind; the released ones where one is left out.
    until: name of the last stage on the command line (stages.registry).
    reference: keeps the original's windows and its 8-bit, aspect-squashing hand-over.
    loras: files and strengths, by kind of model.
    text_encoder: a T5 file or folder for the pixel stages, in place of the one that lies with the
        models.
    prompts: lines "FRAME: prompt" or "SECONDSs: prompt" over the keyframes, in place of `prompt`.
    transition: keyframes over which one of them turns into the next.
    given: frames that the keyframes are to contain.
    start: a clip (F, H, W, C) that the keyframes start from, by their strength.
    """

    models: Path
    prompt: str
    negative_prompt: str = "low resolution, blur"
    pixel_negative_prompt: str = ""
    settings: Mapping[str, StageSettings] = field(default_factory=dict)
    until: str = ENDS[-1]
    reference: bool = False
    loras: Mapping[str, list[tuple[Path, float]]] = field(default_factory=dict)
    text_encoder: Path | None = None
    prompts: str = ""
    transition: int = 2
    given: GivenFrames | None = None
    start: Tensor | None = None

    def texts(self, encoder: TextEncoder, negative: str) -> tuple[Prompt, Tensor]:
        """The prompt, or the prompts over time, and the negative one, encoded."""
        if not self.prompts:
            states = encoder.encode([self.prompt, negative])
            return states[:1], states[1:]
        frames = self.settings_of(KEYFRAMES).num_frames
        prompts = scheduled_prompts(
            "prompts",
            self.prompts,
            frames,
            fps=FPS,
            transition=self.transition,
            encode=encoder.encode,
        )
        return prompts, encoder.encode([negative])

    def fps(self, kind: str) -> float:
        """Frames per second of a stage's result: the table's, at the factor asked for."""
        rate = STAGES[kind].fps
        later = list(STAGES).index(kind) >= list(STAGES).index(INTERPOLATION)
        return rate * self.settings_of(INTERPOLATION).factor / FACTOR if later else rate

    def settings_of(self, kind: str) -> Any:
        """The settings of a stage: as given, else the released ones."""
        return self.settings.get(kind, STAGES[kind].settings)

    def kinds(self) -> list[str]:
        """The stages to run, in order."""
        last = next(i for i, stage in enumerate(STAGES.values()) if stage.option == self.until)
        return list(STAGES)[: last + 1]


class Loaded:
    """The models of a cascade on a runtime, and the LoRAs on them.

    models: their folder.
    loras: files and strengths, by kind of model.
    text_encoder: a T5 file or folder in place of the one that lies with the models.
    keep: every model stays for the next clip, else it is let go after its stage.
    """

    def __init__(
        self,
        models: Path,
        runtime: Runtime,
        loras: Mapping[str, list[tuple[Path, float]]] | None = None,
        *,
        text_encoder: Path | None = None,
        keep: bool = True,
    ):
        self.models, self.runtime, self.paths = models, runtime, cascade_in(models)
        self._loras, self._text_encoder, self._keep = loras or {}, text_encoder, keep
        self._kept: dict[str, Any] = {}

    def model(self, kind: str) -> Show1Model:
        """The stage's model with the LoRAs that are for it; CheckpointError if there is none."""
        return self._once(kind, lambda: self._model(kind))

    def t5(self) -> TextEncoder:
        """What the pixel stages read text with."""
        chosen = self._text_encoder
        return self._once(T5, lambda: t5_of(self.models, self.runtime, self.paths, chosen=chosen))

    def clip(self) -> TextEncoder:
        """What the latent expert reads text with."""
        return self._once(CLIP, self._clip)

    def all(self, kinds: list[str]) -> None:
        """Loads what these stages need, which raises what is wrong with it."""
        self.t5()
        for kind in kinds:
            if kind != FIRST_FRAME_SR or kind in self.paths:
                self.model(kind)
            if kind == LATENT_EXPERT:
                self.clip()

    def _once(self, name: str, load: Callable[[], Any]) -> Any:
        if not self._keep:
            gc.collect()  # a stage's functions hold each other, and the model before this one
            return load()
        if name not in self._kept:
            self._kept[name] = load()
        return self._kept[name]

    def _model(self, kind: str) -> Show1Model:
        if kind not in self.paths:
            raise missing_model(self.models, kind)
        loaded = load_model(self.paths[kind], self.runtime)
        for path, strength in self._loras.get(kind, []):
            loaded = with_motion(loaded, read_lora(path, loaded), strength)
        return loaded

    def _clip(self) -> TextEncoder:
        path = text_encoder_in(self.models, CLIP, self.paths.get(LATENT_EXPERT))
        return load_text_encoder(path, self.runtime)


def run(
    cascade: Cascade, runtime: Runtime, reporter: Callable[[str], Report]
) -> Iterator[tuple[str, Tensor]]:
    """Yields (name, frames (F, H, W, 3)) after every stage; `reporter(name)` gives its report().

    Models are loaded when their stage comes and let go after it.
    """
    loaded = Loaded(
        cascade.models,
        runtime,
        cascade.loras,
        text_encoder=cascade.text_encoder,
        keep=False,
    )
    return run_on(loaded, cascade, reporter)


def run_on(
    loaded: Loaded, cascade: Cascade, reporter: Callable[[str], Report]
) -> Iterator[tuple[str, Tensor]]:
    """The same on models that are there. Without a model for the first frame the clip's own makes
    it.
    """
    if cascade.settings_of(KEYFRAMES).drafts > 1 and cascade.until != STAGES[KEYFRAMES].option:
        raise InputError(
            "drafts are clips to choose from: make them with --until keyframes, then the one you "
            "like by its seed"
        )
    text, images = cascade.texts(loaded.t5(), cascade.pixel_negative_prompt), None
    # What the next stage is given besides.
    more: dict[str, Any] = {"given": cascade.given, "images": cascade.start}
    for kind in cascade.kinds():
        if kind == FIRST_FRAME_SR and kind not in loaded.paths:
            continue
        if kind == PIXEL_SR and cascade.reference:
            more["windows"] = original_windows(len(images))
        if kind == LATENT_EXPERT:
            text = cascade.texts(loaded.clip(), cascade.negative_prompt)
            images = _handed_over(cascade, images)
        stage = STAGES[kind]
        given = () if images is None else (images,)
        report = reporter(stage.result)
        made = _made(loaded, cascade, kind, inputs=(*given, *text), report=report, **more)
        yield stage.result, made
        more = {"first_frame": made} if kind == FIRST_FRAME_SR else {}
        images = images if kind == FIRST_FRAME_SR else made


def _made(
    loaded: Loaded, cascade: Cascade, kind: str, *, inputs: tuple, report: Report, **more: Any
) -> Tensor:
    """A stage's frames. In here alone its model has a name, so that it is gone before the next."""
    settings = cascade.settings_of(kind)
    model = loaded.model(kind)
    return STAGES[kind].run(model, *inputs, settings=settings, report=report, **more)


def _handed_over(cascade: Cascade, images: Tensor) -> Tensor:
    """What the expert is given of the pixel stages' frames."""
    settings = cascade.settings_of(LATENT_EXPERT)
    if not cascade.reference:
        return images
    return original_handover(images, settings.height, settings.width)


def t5_of(
    models: Path, runtime: Runtime, paths: dict[str, Path], chosen: Path | None = None
) -> TextEncoder:
    """The T5 of the pixel stages: `chosen` (a file or folder), else the one that lies in the folder
    of models.
    """
    encoder = load_text_encoder(
        chosen or text_encoder_in(models, T5, paths.get(KEYFRAMES)), runtime, models=models
    )
    if encoder.kind != T5:
        raise InputError(
            f"'{chosen}' is no T5, which the pixel stages read text with; give a t5xxl file"
        )
    return encoder


def original_handover(images: Tensor, height: int, width: int) -> Tensor:
    """Frames as the original hands them to the expert: truncated to 8 bits, resized by Pillow to
    any aspect.
    """
    import numpy as np
    from PIL import Image

    resized = [
        Image.fromarray(frame.numpy()).resize((width, height), Image.Resampling.BICUBIC)
        for frame in to_uint8(images[..., :3])
    ]
    return torch.from_numpy(np.stack([np.asarray(frame) for frame in resized])).float() / 255
