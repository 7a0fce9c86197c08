"""Where ComfyUI keeps files: models, LoRAs."""

import os
from pathlib import Path

from ..errors import InputError


def register_folders() -> None:
    """models/show1, beside the folders extra_model_paths.yaml names for "show1"."""
    import folder_paths

    folder_paths.add_model_folder_path("show1", str(Path(folder_paths.models_dir) / "show1"))


def model_folders() -> list[Path]:
    """Where users put models: models/show1 and models/diffusers."""
    import folder_paths

    return [
        Path(folder)
        for key in ("show1", "diffusers")
        for folder in folder_paths.get_folder_paths(key)
    ]


def lora_names() -> list[str]:
    """LoRA files by the names the host lists them under."""
    import folder_paths

    return folder_paths.get_filename_list("loras")


def lora_path(name: str) -> Path:
    """Where a listed LoRA lies. InputError if it is gone."""
    import folder_paths

    path = folder_paths.get_full_path("loras", name) if isinstance(name, str) else None
    if path is None:
        raise InputError(
            f"Show1MotionLoRA: there is no {name!r} in models/loras or output/loras; put it there "
            "and press R"
        )
    return Path(path)


def modified(name: str) -> float:
    """When a listed LoRA was last written; 0 if it is gone."""
    import folder_paths

    path = folder_paths.get_full_path("loras", name) if isinstance(name, str) else None
    return 0.0 if path is None else os.path.getmtime(path)
