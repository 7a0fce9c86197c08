"""Text states and latents, encoded once and kept as plain .safetensors files in a folder."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Generator, Tensor

from ..checkpoints.files import read_safetensors
from ..models.text import TextEncoder
from ..noise import randn
from ..progress import Report, silent

_AT_ONCE = 8  # captions


class Encoded:
    """A folder of encoded things, each under the hash of what it is of.

    folder/text-KIND/HASH.safetensors: `states` (77, width), float16.
    folder/latents-WIDTHxHEIGHT-RATE/HASH.safetensors: `mean` and `std` (F, 4, h, w), float16.
    """

    def __init__(self, folder: Path, kind: str):
        self.folder, self.kind = Path(folder), kind

    def text(self, caption: str) -> Tensor:
        """States (1, 77, width) of a caption that was encoded, float32."""
        return read_safetensors(self._text(caption))["states"].float()[None]

    def add_texts(
        self, encoder: TextEncoder, captions: Iterable[str], report: Report = silent
    ) -> None:
        """Encodes those that are missing."""
        missing = self.missing(captions)
        for i in range(0, len(missing), _AT_ONCE):
            group = missing[i : i + _AT_ONCE]
            for caption, states in zip(group, encoder.encode(group), strict=True):
                _save(self._text(caption), {"states": states.half()})
            report(i + len(group), len(missing), None)

    def missing(self, captions: Iterable[str]) -> list[str]:
        """Those without states here, each once."""
        return [text for text in dict.fromkeys(captions) if not self._text(text).is_file()]

    def _text(self, caption: str) -> Path:
        return self.folder / f"text-{self.kind}" / f"{_hash(caption)}.safetensors"

    def latents(self, size: tuple[int, int], rate: float, name: str) -> Path:
        """Where the latents of a scene lie, or would."""
        place = f"latents-{size[1]}x{size[0]}-{rate:g}"
        return self.folder / place / f"{_hash(name)}.safetensors"

    @staticmethod
    def save_latents(file: Path, mean: Tensor, std: Tensor) -> None:
        """Of the posterior, scaled: (F, 4, h, w) each."""
        _save(file, {"mean": mean.half(), "std": std.half()})


def sampled_latents(file: Path, first: int, frames: int, source: Generator) -> Tensor:
    """A sample (1, 4, F, h, w) of some frames of a scene whose latents lie in a file."""
    found = read_safetensors(file)
    mean, std = (found[name][first : first + frames].float() for name in ("mean", "std"))
    return (mean + std * randn(mean.shape, source, torch.device("cpu"))).transpose(0, 1)[None]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _save(file: Path, tensors: dict[str, Tensor]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, part)
    part.replace(file)
