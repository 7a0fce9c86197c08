"""What is published: the models' repositories, their licences, and which of their files are
needed.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ..bundled import EDITIONS
from ..errors import Show1Error
from ..models.kinds import FIRST_FRAME_SR, INTERPOLATION, KEYFRAMES, LATENT_EXPERT, PIXEL_SR

TEXT_ENCODER = "t5"
TOKENIZER = "t5_tokenizer"
SCORER = "scorer"  # of evaluation alone: no model of the cascade
ABSENT = " (not there yet: download it)"  # behind the names of known models that are not on disk

_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_SMALL = re.compile(r"[\w.-]+\.(json|txt|model)")  # configs, vocabularies; plain names only
_AT_THE_TOP = ("model_index.json", "README.md", "LICENSE", "LICENSE.md", "LICENSE.txt")


class DownloadError(Show1Error):
    """A model cannot be fetched: the hub, the network, the licence or the disk stands
    against it.
    """


@dataclass(frozen=True)
class Published:
    """A model on the Hugging Face hub, and the part of its repository that the cascade uses.

    `kind` is one of models.kinds, TEXT_ENCODER, TOKENIZER or SCORER. `parts` are folders with a
    config and weights ("." is the top), `settings` folders with small files only. `trained_on`:
    width of the frames that a latent expert was trained on, in pixels.
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
    trained_on: int | None = None

    @property
    def page(self) -> str:
        return f"https://huggingface.co/{self.repo}"

    @property
    def terms(self) -> str:
        """What a user has to know before anything is fetched."""
        return " ".join(
            filter(
                None, (f"{self.repo} is published under {self.licence}", self.access, self.without)
            )
        )

    @property
    def access(self) -> str:
        """How to be let in to a gated repository; empty for a public one."""
        if not self.gated:
            return ""
        return (
            f"It is gated: log in to huggingface.co, accept its licence on {self.page} and, where "
            "this runs, say 'hf auth login' (older: 'huggingface-cli login') or set HF_TOKEN."
        )


_CC = (
    "CC BY-NC 4.0 (https://creativecommons.org/licenses/by-nc/4.0/): use and share it with credit, "
    "for non-commercial purposes only."
)
_DEEPFLOYD = (
    "the DeepFloyd IF licence (https://huggingface.co/spaces/DeepFloyd/deepfloyd-if-license): for "
    "non-commercial research only."
)

_EXPERT = {"parts": ("unet", "vae", "text_encoder"), "settings": ("scheduler", "tokenizer")}

# Sizes as the repositories list their files, of the form that is chosen; "about": partly from
# parameter counts.
PUBLISHED: dict[str, Published] = {
    item.name: item
    for item in (
        Published(
            "show-1-base",
            "showlab/show-1-base",
            KEYFRAMES,
            what="keyframes",
            size="3.45 GB",
            licence=_CC,
        ),
        Published(
            "show-1-base-0.0",
            "showlab/show-1-base-0.0",
            KEYFRAMES,
            what="keyframes, an earlier training",
            size="about 3.45 GB",
            licence=_CC,
        ),
        Published(
            "show-1-interpolation",
            "showlab/show-1-interpolation",
            INTERPOLATION,
            what="interpolation",
            size="3.45 GB",
            licence=_CC,
        ),
        Published(
            "show-1-sr1",
            "showlab/show-1-sr1",
            PIXEL_SR,
            what="pixel super-resolution",
            size="1.6 GB",
            licence=_CC,
            settings=("scheduler", "image_noising_scheduler"),
        ),
        Published(
            "show-1-sr2",
            "showlab/show-1-sr2",
            LATENT_EXPERT,
            what="latent expert, with its VAE and text encoder",
            size="3.67 GB",
            licence=_CC,
            trained_on=576,
            **_EXPERT,
        ),
        Published(
            "zeroscope_v2_XL",
            "cerspense/zeroscope_v2_XL",
            LATENT_EXPERT,
            what="another latent expert, made for 1024x576 and 24 frames or more",
            size="about 3.7 GB",
            licence=_CC,
            trained_on=1024,
            **_EXPERT,
        ),
        Published(
            "zeroscope_v2_576w",
            "cerspense/zeroscope_v2_576w",
            LATENT_EXPERT,
            what="another latent expert, 576x320, for low strength",
            size="about 3.7 GB",
            licence=_CC,
            trained_on=576,
            **_EXPERT,
        ),
        Published(
            "text-to-video-ms-1.7b",
            "ali-vilab/text-to-video-ms-1.7b",
            LATENT_EXPERT,
            what="the ModelScope model that zeroscope comes from, 256x256",
            size="about 3.7 GB",
            licence=_CC,
            trained_on=256,
            **_EXPERT,
        ),
        Published(
            "IF-II-L-v1.0",
            "DeepFloyd/IF-II-L-v1.0",
            FIRST_FRAME_SR,
            what="first frame of the pixel super-resolution",
            size="2.5 to 5 GB",
            licence=_DEEPFLOYD,
            settings=("scheduler", "image_noising_scheduler"),
            gated=True,
            without="The cascade runs without it: connect a first frame from any upscaler to "
            "'first_frame' of Show1PixelSR, or nothing at all.",
        ),
        Published(
            "t5-v1_1-xxl",
            "showlab/show-1-base",
            TEXT_ENCODER,
            what="text encoder of the pixel stages",
            size="19 GB",
            licence=_CC,
            parts=("text_encoder",),
            settings=("tokenizer",),
            top=(),
            without="A t5xxl file (4.9 or 9.8 GB) in core CLIPLoader serves as well. "
            "(T5 v1.1 itself is Google's, under Apache 2.0.)",
        ),
        Published(
            "t5-tokenizer",
            "showlab/show-1-base",
            TOKENIZER,
            what="T5's tokenizer, for a t5xxl file on the command line (--text-encoder)",
            size="0.8 MB",
            licence=_CC,
            parts=(),
            settings=("tokenizer",),
            top=(),
            without="(T5 v1.1 itself is Google's, under Apache 2.0.)",
        ),
        Published(
            "clip-vit-base-patch32",
            "openai/clip-vit-base-patch32",
            SCORER,
            what="CLIP ViT-B/32, for CLIPSIM (python -m show1_engine evaluate)",
            size="about 0.6 GB",
            licence="the MIT licence of https://github.com/openai/CLIP; its model card speaks of "
            "research alone.",
            parts=(".",),
            settings=(),
            top=("README.md",),
        ),
    )
}


# What a graph can use; the rest is for the command line.
OF_THE_CASCADE = {name: item for name, item in PUBLISHED.items() if item.kind != SCORER}


def published(name: str) -> Published:
    """The model of that name. Raises DownloadError with the names there are."""
    if name not in PUBLISHED:
        raise DownloadError(f"there is no '{name}' to download; known are {', '.join(PUBLISHED)}")
    return PUBLISHED[name]


def needed_files(item: Published, listing: Iterable[str]) -> list[str]:
    """The paths in `listing` (all files of the repository, or of its copy on disk) that the cascade
    uses.

    Of each part's weights one form: .safetensors before .bin, fp16 before full precision, whole
    before shards. Raises DownloadError if something is missing.
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
            raise DownloadError(
                f"{item.repo} holds no {'weights' if small else 'files'} in {folder}/ that can be "
                f"used; look at {item.page}"
            )
        chosen += [str(PurePosixPath(folder, name)) for name in small + weights]
    return chosen


def _weights(names: set[str]) -> list[str]:
    """The best form of the weights among `names`: one file, or an index with all of its shards;
    empty if none.
    """
    for kind in ("safetensors", "bin"):
        for variant in (".fp16", ""):
            for stem in _STEMS:
                if f"{stem}{variant}.{kind}" in names:
                    return [f"{stem}{variant}.{kind}"]
                shards = _shards(names, f"{stem}{variant}", kind)
                for index in (
                    f"{stem}{variant}.{kind}.index.json",
                    f"{stem}.{kind}.index{variant}.json",
                ):
                    if shards and index in names:
                        return [index, *shards]
    return []


def _shards(names: set[str], stem: str, kind: str) -> list[str]:
    """All shards, or none if one is missing."""
    pattern = re.compile(re.escape(stem) + r"-\d{5}-of-(\d{5})\." + kind)
    shards = sorted(name for name in names if pattern.fullmatch(name))
    return shards if shards and len(shards) == int(pattern.fullmatch(shards[0])[1]) else []


def absent(found: Iterable[str], text_encoders: bool = False) -> list[str]:
    """Labels for the published models (or text encoders) that are not among the names `found` on
    disk.
    """
    bundled = tuple(f"{edition}/" for edition in EDITIONS)
    there = {name.rpartition("/")[2] for name in found if not name.startswith(bundled)}
    return [
        item.name + ABSENT
        for item in OF_THE_CASCADE.values()
        if item.kind != TOKENIZER
        and (item.kind == TEXT_ENCODER) == text_encoders
        and item.name not in there
    ]


def advice(label: str) -> str | None:
    """How to get the model that `absent` has labelled so; None for any other name."""
    item = PUBLISHED.get(label.removesuffix(ABSENT))
    if item is None:
        return None
    folders = ", ".join(f"{folder}/" for folder in (*item.parts, *item.settings))
    return (
        f"'{item.name}' is not there. Run Show1DownloadModel (or: python -m show1_engine download "
        f"{item.name}), or put {folders} of {item.page} into models/show1/{item.name}/."
    )


_PIXELS_PER_LATENT = 8
# ModelScope's own sample_size, which zeroscope and show-1-sr2 keep, whatever they were trained on
_COPIED_ON = 32


def trained_latents(name: str, config: Mapping[str, Any]) -> int:
    """Latents along the wider side of the frames that an expert was trained on.

    Of a published model, known by its `name` (a folder may stand before it), what its makers say;
    of another its config's sample_size where that says more than the copied 32; else the size of
    show-1-sr2, 576x320.
    """
    bare = name.replace("\\", "/").rpartition("/")[2].lower().removesuffix(".safetensors")
    known = next(
        (item.trained_on for item in PUBLISHED.values() if item.name.lower() == bare), None
    )
    size = config.get("sample_size")
    sides = size if isinstance(size, (list, tuple)) else [size]
    if (
        known is None
        and all(isinstance(side, int) and side > 0 for side in sides)
        and max(sides) > _COPIED_ON
    ):
        return max(sides)
    return (known or PUBLISHED["show-1-sr2"].trained_on) // _PIXELS_PER_LATENT
