"""What a motion training is told."""

from dataclasses import dataclass

STAGE = "Show1TrainMotionLoRA"
TIMESTEPS = ("motion", "even")


@dataclass(frozen=True)
class TrainSettings:
    """Defaults for a clip of one motion.

    width, height: size to train at; 0: the clip's aspect at the size the model was trained on.
    window: frames per step, drawn anywhere from the clip; frame_step: every how manyth frame of it
        is used.
    timesteps: "motion" draws most steps at the noise levels where a clip's motion is decided,
        "even" from all alike.
    recolour: share of steps (0..1) that see the clip in other colours, without words, so that the
        motion is not bound to its own. Not for the latent expert.
    """

    steps: int = 300
    rank: int = 16
    learning_rate: float = 5e-4  # MotionDirector
    seed: int = 0
    objective: str = "motion"
    batch_size: int = 1
    width: int = 0
    height: int = 0
    window: int = 8
    frame_step: int = 1
    targets: str = "attention"
    timesteps: str = "motion"
    sample_every: int = 0
    gradient_checkpointing: bool = True
    mixed_precision: bool = True
    recolour: float = 0.0
