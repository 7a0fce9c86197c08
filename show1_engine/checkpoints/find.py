"""Which models and text encoders lie in some folders."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError, Show1Error
from ..models.kinds import FIRST_FRAME_SR, INTERPOLATION, KEYFRAMES, LATENT_EXPERT, PIXEL_SR, kind_of
from .read import configs_in, read_json, text_type, unet_config_of

# The published names, best first.
_PUBLISHED = {
    KEYFRAMES: ("show-1-base", "show-1-base-0.0"),
    INTERPOLATION: ("show-1-interpolation",),
    PIXEL_SR: ("show-1-sr1",),
    FIRST_FRAME_SR: ("if-ii-l-v1.0", "if-ii-m-v1.0"),
    LATENT_EXPERT: ("show-1-sr2",),
}


@dataclass(frozen=True)
class Found:
    """A model (kind: one of models.kinds) or a text encoder (kind: "t5" or "clip") under the name shown to users."""

    name: str
    path: Path
    kind: str


def find_models(folders: Iterable[Path]) -> dict[str, Found]:
    """Diffusers-layout folders and our single files, one or two levels below `folders`, by relative name.

    Reads configs and headers only. What is no model, or a broken one, is left out; of equal names the first folder's
    is kept. Never raises.
    """
    return _find(folders, _model_kind)


def find_text_encoders(folders: Iterable[Path]) -> dict[str, Found]:
    """Text encoders one or two levels below `folders`: model folders with text_encoder/, or bare encoder folders."""
    return _find(folders, _text_kind)


def text_encoder_in(folder: Path, kind: str, beside: Path | None = None) -> Path:
    """The text encoder ("t5" or "clip") that lies with the model `beside`, else one of its own in `folder`.

    CheckpointError if there is none.
    """
    if beside is not None and _or_none(_text_kind, beside) == kind:
        return beside
    for item in find_text_encoders([Path(folder)]).values():
        if item.kind == kind:
            return item.path
    what = {"t5": "T5 text encoder (text_encoder/ and tokenizer/ of show-1-base)",
            "clip": "OpenCLIP text encoder (text_encoder/ and tokenizer/ of show-1-sr2)"}[kind]
    raise CheckpointError(f"'{folder}' holds no {what}.")


def cascade_in(folder: Path) -> dict[str, Path]:
    """One model of each kind in `folder`: of several, the one with the published name.

    CheckpointError if there is none at all, or several of a kind and none has a published name.
    """
    found = find_models([Path(folder)]).values()
    if not found:
        raise CheckpointError(f"'{folder}' holds no Show-1 model. Give the folder that holds the model folders "
                              "(show-1-base, show-1-interpolation, ...).")
    return {kind: _best([item for item in found if item.kind == kind], kind).path
            for kind in sorted({item.kind for item in found})}


def _best(candidates: list[Found], kind: str) -> Found:
    if len(candidates) == 1:
        return candidates[0]
    for name in _PUBLISHED[kind]:
        same = [item for item in candidates if item.path.name.lower().removesuffix(".safetensors") == name]
        if same:
            return min(same, key=lambda item: item.path.is_file())  # a folder before the file made from it
    names = ", ".join(f"'{item.name}'" for item in candidates)
    raise CheckpointError(f"There are {len(candidates)} {kind} models: {names}. Keep one of them in the folder, or "
                          f"name the one to use '{_PUBLISHED[kind][0]}'.")


def _find(folders: Iterable[Path], kind_at: Callable[[Path], str | None]) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for folder in folders:
        for item in _walk(Path(folder), kind_at, levels=2):
            found.setdefault(item.name, item)
    return found


def _walk(folder: Path, kind_at: Callable[[Path], str | None], levels: int, prefix: str = "") -> Iterator[Found]:
    for path in _entries(folder):
        kind = _or_none(kind_at, path)
        if kind:
            yield Found(prefix + path.name, path, kind)
        elif levels > 1:
            yield from _walk(path, kind_at, levels - 1, f"{prefix}{path.name}/")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:  # no folder, or one that may not be read
        return []


def _or_none(kind_at: Callable[[Path], str | None], path: Path) -> str | None:
    try:
        return kind_at(path)
    except (Show1Error, OSError):
        return None


def _model_kind(path: Path) -> str | None:
    if path.suffix == ".safetensors" and path.is_file():
        return kind_of(configs_in(path)["unet"])
    return kind_of(unet_config_of(path)) if (path / "unet" / "config.json").is_file() else None


def _text_kind(path: Path) -> str | None:
    for folder in (path / "text_encoder", path):
        if (folder / "config.json").is_file():
            return {"t5": "t5", "clip_text_model": "clip"}[text_type(read_json(folder / "config.json"), folder)]
    return None
