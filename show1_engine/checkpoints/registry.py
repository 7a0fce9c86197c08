"""What is published: the models' repositories, their licences, and which of their files are needed."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..errors import Show1Error
from ..models.kinds import FIRST_FRAME_SR, INTERPOLATION, KEYFRAMES, LATENT_EXPERT, PIXEL_SR

TEXT_ENCODER = "t5"
ABSENT = " (not there yet: download it)"  # behind the names of known models that are not on disk

_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_SMALL = re.compile(r"[\w.-]+\.(json|txt|model)")  # configs, vocabularies; plain names only
_AT_THE_TOP = ("model_index.json", "README.md", "LICENSE", "LICENSE.md", "LICENSE.txt")


class DownloadError(Show1Error):
    """A model cannot be fetched: the hub, the network, the licence or the disk stands against it."""


@dataclass(frozen=True)
class Published:
    """A model on the Hugging Face hub, and the part of its repository that the cascade uses.

    `kind` is one of models.kinds, or TEXT_ENCODER. `parts` are folders with a config and weights, `settings` folders
    with small files only.
    """

    name: str  # of its folder in models/show1
    repo: str
    kind: str
    what: str
    size: str
    licence: str
    parts: tuple[str, ...] = ("unet",)
    settings: tuple[str, ...] = ("scheduler",)
    top: tuple[str, ...] = _AT_THE_TOP
    gated: bool = False
    without: str = ""  # how to do without it

    @property
    def page(self) -> str:
        return f"https://huggingface.co/{self.repo}"

    @property
    def terms(self) -> str:
        """What a user has to know before anything is fetched."""
        return " ".join(filter(None, (f"{self.repo} is published under {self.licence}", self.access, self.without)))

    @property
    def access(self) -> str:
        """How to be let in to a gated repository; empty for a public one."""
        if not self.gated:
            return ""
        return (f"It is gated: log in to huggingface.co, accept its licence on {self.page} and, where this runs, say "
                "'hf auth login' (older: 'huggingface-cli login') or set HF_TOKEN.")


_CC = ("CC BY-NC 4.0 (https://creativecommons.org/licenses/by-nc/4.0/): use and share it with credit, for "
       "non-commercial purposes only.")
_DEEPFLOYD = ("the DeepFloyd IF licence (https://huggingface.co/spaces/DeepFloyd/deepfloyd-if-license): for "
              "non-commercial research only.")

# Sizes: show-1-base and T5 as their repositories list them, the others from their parameter counts.
PUBLISHED: dict[str, Published] = {item.name: item for item in (
    Published("show-1-base", "showlab/show-1-base", KEYFRAMES, "keyframes", "3.5 GB", _CC),
    Published("show-1-interpolation", "showlab/show-1-interpolation", INTERPOLATION, "interpolation", "about 3.5 GB",
              _CC),
    Published("show-1-sr1", "showlab/show-1-sr1", PIXEL_SR, "pixel super-resolution", "1.6 to 3.2 GB", _CC,
              settings=("scheduler", "image_noising_scheduler")),
    Published("show-1-sr2", "showlab/show-1-sr2", LATENT_EXPERT, "latent expert, with its VAE and text encoder",
              "3.7 to 7.4 GB", _CC, parts=("unet", "vae", "text_encoder"), settings=("scheduler", "tokenizer")),
    Published("IF-II-L-v1.0", "DeepFloyd/IF-II-L-v1.0", FIRST_FRAME_SR, "first frame of the pixel super-resolution",
              "2.5 to 5 GB", _DEEPFLOYD, settings=("scheduler", "image_noising_scheduler"), gated=True,
              without="The cascade runs without it: connect a first frame from any upscaler to 'first_frame' of "
                      "Show1PixelSR, or nothing at all."),
    Published("t5-v1_1-xxl", "showlab/show-1-base", TEXT_ENCODER, "text encoder of the pixel stages", "19 GB", _CC,
              parts=("text_encoder",), settings=("tokenizer",), top=(),
              without="A t5xxl file (4.9 or 9.8 GB) in core CLIPLoader serves as well. "
                      "(T5 v1.1 itself is Google's, under Apache 2.0.)"),
)}


def published(name: str) -> Published:
    """The model of that name. Raises DownloadError with the names there are."""
    if name not in PUBLISHED:
        raise DownloadError(f"there is no '{name}' to download; known are {', '.join(PUBLISHED)}")
    return PUBLISHED[name]


def needed_files(item: Published, listing: Iterable[str]) -> list[str]:
    """The paths in `listing` (all files of the repository, or of its copy on disk) that the cascade uses.

    Of each part's weights one form: .safetensors before .bin, fp16 before full precision, whole before shards.
    Raises DownloadError if something is missing.
    """
    inside: dict[str, set[str]] = {}
    for path in map(PurePosixPath, listing):
        inside.setdefault(str(path.parent), set()).add(path.name)
    chosen = [name for name in item.top if name in inside.get(".", ())]
    for folder in (*item.parts, *item.settings):
        names = inside.get(folder, set())
        weights = _weights(names) if folder in item.parts else []
        indices = {name for name in names if ".index." in name}
        small = sorted(name for name in names - indices if _SMALL.fullmatch(name))
        if not small or (folder in item.parts and not weights):
            raise DownloadError(f"{item.repo} holds no {'weights' if small else 'files'} in {folder}/ that can be "
                                f"used; look at {item.page}")
        chosen += [f"{folder}/{name}" for name in small + weights]
    return chosen


def _weights(names: set[str]) -> list[str]:
    """The best form of the weights among `names`: one file, or an index with all of its shards; empty if none."""
    for kind in ("safetensors", "bin"):
        for variant in (".fp16", ""):
            for stem in _STEMS:
                if f"{stem}{variant}.{kind}" in names:
                    return [f"{stem}{variant}.{kind}"]
                shards = _shards(names, f"{stem}{variant}", kind)
                for index in (f"{stem}{variant}.{kind}.index.json", f"{stem}.{kind}.index{variant}.json"):
                    if shards and index in names:
                        return [index, *shards]
    return []


def _shards(names: set[str], stem: str, kind: str) -> list[str]:
    """All shards, or none if one is missing."""
    pattern = re.compile(re.escape(stem) + r"-\d{5}-of-(\d{5})\." + kind)
    shards = sorted(name for name in names if pattern.fullmatch(name))
    return shards if shards and len(shards) == int(pattern.fullmatch(shards[0])[1]) else []


def absent(found: Iterable[str], text_encoders: bool = False) -> list[str]:
    """Labels for the published models (or text encoders) that are not among the names `found` on disk."""
    there = {name.rpartition("/")[2] for name in found if not name.startswith("micro/")}
    return [item.name + ABSENT for item in PUBLISHED.values()
            if (item.kind == TEXT_ENCODER) == text_encoders and item.name not in there]


def advice(label: str) -> str | None:
    """How to get the model that `absent` has labelled so; None for any other name."""
    item = PUBLISHED.get(label.removesuffix(ABSENT))
    if item is None:
        return None
    folders = ", ".join(f"{folder}/" for folder in (*item.parts, *item.settings))
    return (f"'{item.name}' is not there. Run Show1DownloadModel (or: python -m show1_engine download {item.name}), or "
            f"put {folders} of {item.page} into models/show1/{item.name}/.")
