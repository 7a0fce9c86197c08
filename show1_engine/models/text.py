"""Text encoders: T5 for the pixel stages, OpenCLIP for the latent expert."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.tokenizer import check_tokenizer
from ..errors import CheckpointError, InputError, printable
from .handle import Handle
from .managed import Managed

T5, CLIP = "t5", "clip"
TOKENS = 77
_BYTES_PER_TOKEN = (
    2**18
)  # activations: 240 kB in T5 v1.1 XXL, 66 kB in OpenCLIP-H, computed in float32


def caption(text: str, clean: bool = False) -> str:
    """A T5 prompt as Show-1 reads it: lower-cased and stripped, or cleaned of web debris (twice, as
    recorded).

    Cleaning is DeepFloyd's, as diffusers keeps it in its IF pipelines (needs ftfy and
    beautifulsoup4).
    """
    _check_text(text)
    if not clean:
        return text.lower().strip()
    from diffusers import IFPipeline

    pipeline = IFPipeline.__new__(IFPipeline)  # the method reads no state of a pipeline
    return pipeline._text_preprocessing(text, clean_caption=True)[0]


def fixed(text: str) -> str:
    """A CLIP prompt with broken unicode mended, which tokenizers up to transformers 4 did
    themselves.
    """
    _check_text(text)
    import ftfy

    return ftfy.fix_text(text)


def _check_text(text: str) -> None:
    """InputError unless it is text that tokenizers can read."""
    try:
        text.encode()
    except (AttributeError, UnicodeEncodeError):
        raise InputError(f"the prompt {text!r} is no text; type it anew") from None


@dataclass(frozen=True)
class TextEncoder(Managed):
    """A tokenizer and the network behind it. `network(ids, mask)` gives the last hidden states."""

    name: str
    kind: str
    tokenizer: Any
    network: Handle
    vocabulary: int | None = None  # words the network knows

    def handles(self) -> list[Handle]:
        """The one network there is."""
        return [self.network]

    def encode(self, texts: list[str], clean_caption: bool = False) -> Tensor:
        """(len(texts), 77, width) float32 on the CPU; pads are kept, and masked inside T5 only."""
        ids, mask = self.tokenize(texts, clean_caption)
        device = self.network.load(ids.numel() * _BYTES_PER_TOKEN)
        with torch.no_grad():
            states = self.network.module(
                ids.to(device), mask.to(device) if self.kind == T5 else None
            )
        return states.float().cpu()

    def tokenize(self, texts: list[str], clean_caption: bool = False) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask, (len(texts), 77) each."""
        texts = [caption(text, clean_caption) if self.kind == T5 else fixed(text) for text in texts]
        tokens = self.tokenizer(
            texts,
            max_length=TOKENS,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
            return_attention_mask=True,
            add_special_tokens=True,
        )
        ids = tokens.input_ids
        if (
            self.vocabulary is not None
            and not 0 <= int(ids.min()) <= int(ids.max()) < self.vocabulary
        ):
            raise CheckpointError(
                f"The tokenizer of '{self.name}' has a word of number {int(ids.max())}, and its "
                f"text encoder knows {self.vocabulary}. They are of different models: download "
                "both again."
            )
        return ids, tokens.attention_mask


class TransformersText(nn.Module):
    """A transformers text model as `network(ids, mask)`."""

    def __init__(self, kind: str, config: dict[str, Any]):
        super().__init__()
        import transformers

        names = {T5: ("T5Config", "T5EncoderModel"), CLIP: ("CLIPTextConfig", "CLIPTextModel")}[
            kind
        ]
        config_class, model_class = (getattr(transformers, name) for name in names)
        with torch.device("meta"):
            self.model = model_class(config_class.from_dict(config)).eval()

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        return self.model(input_ids=ids, attention_mask=mask)[0]


def load_tokenizer(kind: str, folder: Path) -> Any:
    """The tokenizer a checkpoint carries. Never asks a hub. CheckpointError if its files are
    damaged.
    """
    import transformers

    check_tokenizer(kind, folder)
    # Before transformers 5 only the fast one reads a folder with tokenizer.json alone, as ComfyUI
    # carries it.
    t5 = "T5Tokenizer" if (folder / "spiece.model").is_file() else "T5TokenizerFast"
    cls = getattr(transformers, {T5: t5, CLIP: "CLIPTokenizer"}[kind])
    try:
        tokenizer = cls.from_pretrained(str(folder), local_files_only=True)
        probe = tokenizer(
            ["a prompt"],
            max_length=TOKENS,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        )
        right = probe.input_ids.shape == (1, TOKENS)
    except MemoryError:
        raise
    except Exception as error:  # the tokenizers library, which is Rust, raises Exception itself
        raise CheckpointError(
            f"'{folder}' holds a tokenizer that cannot be used ({type(error).__name__}: "
            f"{printable(error, 200)}). Download its files again."
        ) from error
    if not right:
        raise CheckpointError(
            f"'{folder}' holds a tokenizer that does not make {TOKENS} tokens of a prompt. "
            "Download its files again."
        )
    return tokenizer
