"""What a motion training is told."""

from dataclasses import dataclass

STAGE = "Show1TrainMotionLoRA"
TIMESTEPS = ("motion", "even")


@dataclass(frozen=True)
class TrainSettings:
    """Defaults for a clip of one motion. Every line is also the help of the command line's option.

    steps: training steps, from 1; 300 to 500 for one clip, too many copy its looks.
    rank: size of the LoRA, from 1; 16 is enough for one motion.
    learning_rate: above 0; more learns quicker and copies more, 0.0005 to 0.002.
    seed: of all noise and of what is drawn from the clip.
    objective: motion sets the clip's looks aside (MotionDirector), frame_difference compares
        changes between frames only (VMC), plain learns all that is there, for a texture.
    batch_size: windows per step, from 1; more learns steadier and takes that much longer.
    width: pixels to train at, from 1; 0: the clip's aspect at the size the model was trained on.
    height: pixels to train at, from 1; 0: the clip's aspect at the size the model was trained on.
    window: frames per step, from 1, drawn anywhere from the clip; Show-1 was trained on 8.
    frame_step: use every n-th frame of the clip, from 1; keyframes are half a second apart.
    targets: attention is temporal attention alone, as in the paper; attention_and_ff its
        feed-forward layers too (MotionDirector).
    timesteps: motion draws most steps at the noise levels where a clip's motion is decided, even
        from all alike.
    sample_every: steps from one sampled clip to the next, 0 for none; each costs as much as about
        10 steps, keyframe models only.
    gradient_checkpointing: less memory for a third more time.
    mixed_precision: compute in bfloat16 where the device can; the LoRA itself stays in float32.
    recolour: share of steps, 0 to 1, that see the clip in other colours and without words, so that
        the motion is not bound to its own; not for the latent expert.
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
