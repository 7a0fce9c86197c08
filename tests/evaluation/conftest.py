"""A real network that a package brings."""

import pytest

from show1_engine.errors import CheckpointError
from show1_engine.evaluation.networks import load_network


@pytest.fixture(scope="module")
def lite0():
    """EfficientNet-Lite0; skips where its package is not there."""
    try:
        return load_network("lite0", [])
    except CheckpointError as error:
        pytest.skip(str(error))
