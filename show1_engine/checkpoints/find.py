"""Which models and text encoders lie in some folders."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError, Show1Error
from ..models.kinds import (
    DESCRIPTION,
    FIRST_FRAME_SR,
    INTERPOLATION,
    KEYFRAMES,
    LATENT_EXPERT,
    PIXEL_SR,
    kind_of,
)
from .files import weights_file
from .header import HeaderError, read_metadata
from .read import METADATA_KEY, UNET_STEMS, configs_in, read_json, text_type, unet_config_of

# The published names, best first.
_PUBLISHED = {
    KEYFRAMES: ("show-1-base", "show-1-base-0.0"),
    INTERPOLATION: ("show-1-interpolation",),
    PIXEL_SR: ("show-1-sr1",),
    FIRST_FRAME_SR: ("if-ii-l-v1.0", "if-ii-m-v1.0"),
    LATENT_EXPERT: ("show-1-sr2", "zeroscope_v2_xl", "zeroscope_v2_576w", "text-to-video-ms-1.7b"),
}


@dataclass(frozen=True)
class Found:
    """A model (kind: one of models.kinds) or a text encoder (kind: "t5" or "clip") under the name
    shown to users.

    `reason`: why it cannot be used, and the way out; empty for what can. Its kind is then empty.
    """

    name: str
    path: Path
    kind: str
    reason: str = ""


def find_models(folders: Iterable[Path]) -> dict[str, Found]:
    """Diffusers-layout folders and our single files, one or two levels below `folders`, by relative
    name.

    Reads configs and headers only. What cannot be used, or is no model, is left out; of equal names
    the first folder's is kept. Never raises.
    """
    return {name: item for name, item in list_models(folders).items() if not item.reason}


def list_models(folders: Iterable[Path]) -> dict[str, Found]:
    """As `find_models`, and behind those the model folders and files of ours that cannot be used,
    each with its `reason`. Never raises.
    """
    found = _find(folders, _model_kind, _is_model)
    return dict(sorted(found.items(), key=lambda item: bool(item[1].reason)))


def find_text_encoders(folders: Iterable[Path]) -> dict[str, Found]:
    """Text encoders one or two levels below `folders`: model folders with text_encoder/, or bare
    encoder folders.
    """
    return _find(folders, _text_kind)


def text_encoder_in(folder: Path, kind: str, beside: Path | None = None) -> Path:
    """The text encoder ("t5" or "clip") that lies with the model `beside`, else one of its own in
    `folder`.

    CheckpointError if there is none.
    """
    if beside is not None and _kind_or_reason(_text_kind, beside)[0] == kind:
        return beside
    for item in find_text_encoders([Path(folder)]).values():
        if item.kind == kind:
            return item.path
    what = {
        "t5": "T5 text encoder (text_encoder/ and tokenizer/ of show-1-base)",
        "clip": "OpenCLIP text encoder (text_encoder/ and tokenizer/ of show-1-sr2)",
    }[kind]
    raise CheckpointError(f"'{folder}' holds no {what}.")


def cascade_in(folder: Path) -> dict[str, Path]:
    """One model of each kind in `folder`: of several, the one with the published name.

    CheckpointError if there is none at all, or several of a kind and none has a published name.
    """
    listed = list_models([Path(folder)]).values()
    found = [item for item in listed if not item.reason]
    if not found:
        raise CheckpointError(
            f"'{folder}' holds no Show-1 model{_unusable(listed)}. Give the folder that holds the "
            "model folders (show-1-base, show-1-interpolation, ...)."
        )
    return {
        kind: _best([item for item in found if item.kind == kind], kind).path
        for kind in sorted({item.kind for item in found})
    }


def missing_model(folder: Path, kind: str) -> CheckpointError:
    """The error for a folder without a usable model of this kind; it names what lies there and
    cannot be used.
    """
    listed = list_models([Path(folder)]).values()
    what = DESCRIPTION[kind].removeprefix("a ").removeprefix("an ")
    return CheckpointError(f"'{folder}' holds no {what}{_unusable(listed)}")


def _unusable(listed: Iterable[Found]) -> str:
    reasons = [f"'{item.name}': {item.reason.rstrip('.')}" for item in listed if item.reason]
    return f" that can be used ({'; '.join(reasons)})" if reasons else ""


def _best(candidates: list[Found], kind: str) -> Found:
    if len(candidates) == 1:
        return candidates[0]
    for name in _PUBLISHED[kind]:
        same = [
            item
            for item in candidates
            if item.path.name.lower().removesuffix(".safetensors") == name
        ]
        if same:
            return min(
                same, key=lambda item: item.path.is_file()
            )  # a folder before the file made from it
    names = ", ".join(f"'{item.name}'" for item in candidates)
    raise CheckpointError(
        f"There are {len(candidates)} {kind} models: {names}. Keep one of them in the folder, or "
        f"name the one to use '{_PUBLISHED[kind][0]}'."
    )


_KindAt = Callable[[Path], str | None]


def _find(
    folders: Iterable[Path], kind_at: _KindAt, is_one: Callable[[Path], bool] = lambda path: False
) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for folder in folders:
        for item in _walk(Path(folder), kind_at, is_one, levels=2):
            if item.name not in found or found[item.name].reason and not item.reason:
                found[item.name] = item
    return found


def _walk(
    folder: Path, kind_at: _KindAt, is_one: Callable[[Path], bool], levels: int, prefix: str = ""
) -> Iterator[Found]:
    for path in _entries(folder):
        kind, reason = _kind_or_reason(kind_at, path)
        if kind:
            yield Found(prefix + path.name, path, kind)
        elif reason and is_one(path):
            yield Found(prefix + path.name, path, "", reason=reason)
        elif levels > 1:
            yield from _walk(
                path, kind_at, is_one, levels=levels - 1, prefix=f"{prefix}{path.name}/"
            )


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:  # no folder, or one that may not be read
        return []


def _kind_or_reason(kind_at: _KindAt, path: Path) -> tuple[str | None, str]:
    """What lies there, or why that cannot be said."""
    try:
        return kind_at(path), ""
    except Show1Error as error:
        return None, str(error)
    except OSError as error:
        return None, f"'{path}' cannot be read: {error.strerror or error}."


def _model_kind(path: Path) -> str | None:
    if path.suffix == ".safetensors" and path.is_file():
        return kind_of(configs_in(path)["unet"])
    if not ((path / "unet" / "config.json").is_file() or _is_model(path)):
        return None
    kind = kind_of(unet_config_of(path))
    weights_file(path / "unet", UNET_STEMS)
    if not (path / "scheduler" / "scheduler_config.json").is_file():
        raise CheckpointError(
            f"'{path}' lacks scheduler/scheduler_config.json. Download it, or copy the whole model "
            "folder again."
        )
    return kind


def _is_model(path: Path) -> bool:
    """True for what is meant as a model, whole or not: a folder with a UNet, a file with our
    metadata.
    """
    try:
        if path.is_file():
            return path.suffix == ".safetensors" and METADATA_KEY in read_metadata(path)
        return (path / "unet" / "config.json").exists() or (
            (path / "model_index.json").is_file() and (path / "unet").is_dir()
        )
    except (OSError, HeaderError):
        return False


def _text_kind(path: Path) -> str | None:
    for folder in (path / "text_encoder", path):
        if (folder / "config.json").is_file():
            return {"t5": "t5", "clip_text_model": "clip"}[
                text_type(read_json(folder / "config.json"), folder)
            ]
    return None
