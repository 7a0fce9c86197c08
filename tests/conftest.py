"""What every test shares: one thread for torch, and where things lie."""

import os
from pathlib import Path

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # spinning OpenMP threads: one is fastest on a shared machine
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing may be downloaded

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pack() -> Path:
    """The checkout's root, which is the node pack."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def chromium():
    """The one Chromium of this process, or a skip with the reason."""
    from browser import launched_chromium, missing_browser

    if reason := missing_browser():
        pytest.skip(reason)
    with launched_chromium() as chromium:
        yield chromium


def pytest_collection_modifyitems(config, items):
    """SHOW1_HOST_ONLY: only the tests that need a ComfyUI; scripts/test runs the others once."""
    if not os.environ.get("SHOW1_HOST_ONLY"):
        return
    host = Path(__file__).parent / "host"

    def needed(item) -> bool:
        return host in item.path.parents or "comfyui" in item.fixturenames

    others = [item for item in items if not needed(item)]
    items[:] = filter(needed, items)
    config.hook.pytest_deselected(items=others)


def pytest_terminal_summary(terminalreporter):
    """SHOW1_COUNTS: a file for how many tests have passed, failed and so on."""
    if target := os.environ.get("SHOW1_COUNTS"):
        kinds = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
        counts = [(kind, len(terminalreporter.stats.get(kind, ()))) for kind in kinds]
        always = ("passed", "failed", "skipped")
        shown = [f"{count} {kind}" for kind, count in counts if count or kind in always]
        Path(target).write_text(", ".join(shown) + "\n")
