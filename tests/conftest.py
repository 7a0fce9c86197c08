"""What every test shares: one thread for torch, and where things lie."""
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")       # spinning OpenMP threads: one is fastest on a shared machine
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")        # nothing may be downloaded

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pack() -> Path:
    """The checkout's root, which is the node pack."""
    return Path(__file__).resolve().parent.parent
