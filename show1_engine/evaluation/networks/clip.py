"""CLIP by transformers: images and captions in one space."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import CheckpointError

_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of OpenAI's models; a folder may say others
_STD = (0.26862954, 0.26130258, 0.27577711)
_FILES = ("model.safetensors", "pytorch_model.bin")
TOKENS = 77


def weights_file(folder: Path) -> Path:
    """The file with the weights; CheckpointError without."""
    for name in _FILES:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"'{folder}' holds no {' and no '.join(_FILES)}: it is no CLIP")


class Clip:
    """A CLIP in a folder, as the hub has them."""

    def __init__(self, folder: Path, device: str):
        from transformers import AutoTokenizer, CLIPModel

        try:
            model = CLIPModel.from_pretrained(folder, local_files_only=True)
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            raise CheckpointError(f"'{folder}' cannot be read as a CLIP: {error}") from error
        self._model = model.to(device).eval()
        self._device = device
        config = model.config.vision_config
        self._side = config.image_size
        self.backbone = f"patches of {config.patch_size} at {config.image_size} pixels"
        self._mean, self._std = _statistics(folder)

    @torch.inference_mode()
    def images(self, frames: Tensor) -> Tensor:
        """uint8 frames (F, H, W, 3) -> features (F, d)."""
        pixels = (self._fitted(frames).float() / 255 - self._mean) / self._std
        seen = self._model.vision_model(pixel_values=pixels.movedim(-1, 1).to(self._device))
        return self._model.visual_projection(seen.pooler_output).float().cpu()

    @torch.inference_mode()
    def caption(self, text: str) -> Tensor:
        """Features (d,); what is longer than 77 tokens is cut off."""
        tokens = self._tokenizer(text, truncation=True, max_length=TOKENS, return_tensors="pt")
        read = self._model.text_model(**tokens.to(self._device))
        return self._model.text_projection(read.pooler_output)[0].float().cpu()

    def _fitted(self, frames: Tensor) -> Tensor:
        """The shorter side to the model's, bicubically (Pillow's, antialiased), the middle cut out.

        A frame of 576x320 loses 44 % of its width.
        """
        import numpy as np
        from PIL import Image

        height, width = frames.shape[1:3]
        scale = self._side / min(height, width)
        size = (max(self._side, int(width * scale)), max(self._side, int(height * scale)))
        left, top = (size[0] - self._side) // 2, (size[1] - self._side) // 2
        box = (left, top, left + self._side, top + self._side)
        pictures = [
            Image.fromarray(frame.numpy()).resize(size, Image.Resampling.BICUBIC).crop(box)
            for frame in frames
        ]
        return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))


def _statistics(folder: Path) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a pixel's channels."""
    file = folder / "preprocessor_config.json"
    told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return torch.tensor(told.get("image_mean", _MEAN)), torch.tensor(told.get("image_std", _STD))


def similarities(images: Tensor, caption: Tensor) -> Tensor:
    """Cosine of each frame (F, d) with a caption (d,), from -1 to 1."""
    return F.cosine_similarity(images.double(), caption.double()[None])
