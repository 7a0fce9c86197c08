"""The bundled micro cascade: where its weights lie, and the settings that suit it.

How it was made is the laboratory's business (show1_micro in the repository); nothing that ships
needs that.
"""

from pathlib import Path
from typing import Any

WEIGHTS = Path(__file__).parent / "weights"
SETTINGS: dict[str, dict[str, Any]] = {  # by stage, as `generate` and the laboratory run them
    "keyframes": {"width": 16, "height": 16, "num_frames": 8, "steps": 16, "cfg": 3.0},
    "interpolate": {"steps": 10, "cfg": 1.0},
    "first_frame": {"steps": 12, "cfg": 1.0, "noise_level": 20},
    "pixel_sr": {"steps": 12, "cfg": 1.0, "noise_level": 20},
    "expert": {"width": 64, "height": 64, "steps": 20, "strength": 0.2, "cfg": 1.0},
}
# What the text-to-video template changes in them: outlines come out smoother and areas flatter so,
# in a third of the time (docs/micro.md).
TEMPLATE: dict[str, dict[str, Any]] = {
    "keyframes": {"preset": "fast"},
    "interpolate": {"preset": "balanced"},
    "pixel_sr": {"preset": "balanced"},
    "expert": {"strength": 0.1},
}
STAGE_TRAINING: dict[str, Any] = {
    "gradient_checkpointing": False,
    "sample_steps": 12,
    "sample_cfg": 1.0,
}
STAGE_SIZES = {  # by stage of train-stage
    "keyframes": "16x16",
    "interpolation": "16x16",
    "pixel-sr": "64x64",
    "first-frame": "64x64",
    "expert": "64x64",
}
TRAINING: dict[str, Any] = {"gradient_checkpointing": False}  # small enough to keep everything
