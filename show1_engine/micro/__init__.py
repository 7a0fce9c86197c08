"""show1-micro: the whole cascade, small enough for a CPU, trained on a synthetic text-video world."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
_STAGES = ("show-1-base", "show-1-interpolation", "show-1-sr1", "show-1-sr2")


def models(scratch: Path) -> Path:
    """Folder of the bundled cascade. Stages that are not bundled are completed, untrained, in a copy in `scratch`."""
    import shutil

    if all((WEIGHTS / name / "unet").is_dir() for name in _STAGES):
        return WEIGHTS
    from .untrained import write_untrained

    write_untrained(scratch)
    if WEIGHTS.is_dir():
        shutil.copytree(WEIGHTS, scratch, dirs_exist_ok=True)
    return scratch
