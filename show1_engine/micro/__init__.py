"""show1-micro: the whole cascade, small enough for a CPU, trained on a synthetic text-video world."""

from pathlib import Path


def models(scratch: Path) -> Path:
    """Folder of the bundled cascade. Stages that are not bundled are completed, untrained, in a copy in `scratch`."""
    import shutil

    from .configs import REPOSITORIES
    from .export import WEIGHTS

    if all((WEIGHTS / name / "unet").is_dir() for name in REPOSITORIES.values()):
        return WEIGHTS
    from .untrained import write_untrained

    write_untrained(scratch)
    if WEIGHTS.is_dir():
        shutil.copytree(WEIGHTS, scratch, dirs_exist_ok=True)
    return scratch
