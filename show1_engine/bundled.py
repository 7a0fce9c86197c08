"""The bundled micro cascades, two editions: where their weights lie, and the settings that suit.

How it was made is the laboratory's business (show1_micro in the repository); nothing that ships
needs that.
"""

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Edition:
    """A bundled cascade.

    Attributes:
        folder: with a model folder for each stage.
        settings: that suit it, by stage, as `SETTINGS`.
        template: what the text-to-video template changes in them.
        sizes: to train its stages at, by stage of train-stage.
    """

    folder: Path
    settings: dict[str, dict[str, Any]]
    template: dict[str, dict[str, Any]]
    sizes: dict[str, str]


_WIDE = {
    "keyframes": {**SETTINGS["keyframes"], "width": 40, "height": 24},
    "expert": {**SETTINGS["expert"], "width": 160, "height": 96},
}
EDITIONS = {  # by what stands before "/" in the names of their models, and after --models
    "micro": Edition(WEIGHTS, SETTINGS, TEMPLATE, sizes=STAGE_SIZES),
    "micro2": Edition(
        Path(__file__).parent / "weights2",
        {**SETTINGS, **_WIDE},
        # Noise drawn anew at every step takes away the grain that a small network leaves; the small
        # frames hold the sky's colours better than what super-resolution makes of them.
        {
            **TEMPLATE,
            "keyframes": {"preset": "fast", "sampler": "ddpm", "steps": 128},
            "interpolate": {"preset": "balanced", "sampler": "ddpm", "steps": 24},
            "pixel_sr": {**TEMPLATE["pixel_sr"], "color_match": "wavelet"},
        },
        sizes={
            stage: "40x24" if stage in ("keyframes", "interpolation") else "160x96"
            for stage in STAGE_SIZES
        },
    ),
}
