"""What a motion training is told, and what a stage's training is."""

from dataclasses import dataclass

STAGE = "Show1TrainMotionLoRA"
TRAIN_TARGETS = ("attention", "attention_and_ff", "attention_whole")
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
        feed-forward layers too (MotionDirector); attention_whole attention's own weights, without a
        rank (section 3.7): a file hundreds of times as large.
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


TRAINED = ("temporal", "temporal-attention", "lora", "all")
DECAYS = ("none", "linear", "cosine")
PRECISIONS = ("auto", "bf16", "fp32")
VARIANCES = ("left", "trained")
STARTS = ("own", "keyframes")


@dataclass(frozen=True)
class StageTrainSettings:
    """How a stage is trained. Every line is also the help of the command line's option.

    steps: training steps in all, from 1; a run that goes on ends there too.
    batch_size: clips per step, process and part, from 1.
    accumulate: parts that a step's batch is taken in, from 1; N processes learn what one learns
        with N parts.
    learning_rate: above 0; 0.0001 for new layers, 0.00001 for trained ones.
    shard: each of several processes holds its part alone of what is trained, with its gradients,
        moments and average (FSDP2); with all and temporal.
    seed: of the order of clips and, with a clip's number, of all that is drawn for it, from 0.
    train: temporal leaves the spatial layers as they are (the paper), temporal-attention all but
        temporal attention (section 3.7), lora writes a motion LoRA, of a student one of all its
        linear layers, all trains everything.
    rank: size of the LoRA, from 1, with lora.
    targets: layers of a motion LoRA or of temporal-attention; attention alone, or its feed-forward
        too.
    start: own goes on from the stage's model, keyframes makes an interpolation model of the
        keyframe model, whose new input channels begin at 0.
    frames: of a clip, from 1; 0: the stage's own (8; interpolation 5, a first frame 1).
    frame_rate: frames per second of a clip; 0: the stage's own (keyframes 2, the others 8).
    sizes: pixels, such as 64x40 or several as 64x40,40x64, each clip in the one of the nearest
        aspect; without: the stage's own.
    text_drop: share of clips, 0 to 1, seen without their caption, for guidance.
    clean_first: share of windows, 0 to 1, whose first frame is shown as it is to become, with
        pixel-sr.
    noise_levels: noise put on what super-resolution enlarges, from 0 to below this, 1 to 1000.
    condition_noise: most noise on the frames that interpolation lies between, from 0.
    timestep_limit: timesteps below it are trained, from 1; 0: 900 for the expert, else all.
    timesteps: even draws from all alike, motion most where a clip's motion is decided.
    variance: left trains the noise alone, trained the variance too (hybrid loss), where a model
        has one.
    ema: share of the running average that a late step keeps, 0 to below 1.
    clip: longest gradient of a step, above 0.
    warm_up: steps in which the learning rate rises, from 1.
    decay: how the learning rate falls from there to 0 at the last step, if it does.
    weight_decay: of AdamW, from 0.
    precision: auto and bf16 compute in bfloat16 with float32 masters of what is trained, auto on a
        GPU only.
    gradient_checkpointing: less memory for a third more time.
    save_every: steps from one checkpoint to the next, from 1.
    keep: checkpoints that stay, from 1.
    sample_every: steps from one validation to the next, from 1; 0 for none.
    sample_steps: steps that a validation samples with, from 1.
    sample_cfg: guidance that it samples with, 0 to 50; up to 1 there is none.
    held_out: videos that are validated on and not trained on, from 0, a fifth of all at most.
    workers: threads that read clips ahead, from 0.
    student_steps: with a teacher, in how many steps the student is to sample, 1 to 8, without
        guidance; the model or the LoRA that is written carries them.
    teacher_steps: steps of the teacher for each of the student's, from 1.
    teacher_cfg: guidance of the teacher, 0 to 50, which the student learns with the rest; 0: the
        stage's released one.
    """

    steps: int = 10000
    batch_size: int = 1
    accumulate: int = 1
    shard: bool = False
    learning_rate: float = 1e-5
    seed: int = 0
    train: str = "temporal"
    rank: int = 16
    targets: str = "attention"
    start: str = "own"
    frames: int = 0
    frame_rate: float = 0.0
    sizes: str = ""
    text_drop: float = 0.1
    clean_first: float = 0.6
    noise_levels: int = 300
    condition_noise: float = 0.1
    timestep_limit: int = 0
    timesteps: str = "even"
    variance: str = "left"
    ema: float = 0.9999
    clip: float = 1.0
    warm_up: int = 100
    decay: str = "none"
    weight_decay: float = 0.01
    precision: str = "auto"
    gradient_checkpointing: bool = True
    save_every: int = 500
    keep: int = 3
    sample_every: int = 500
    sample_steps: int = 20
    sample_cfg: float = 4.0
    held_out: int = 4
    workers: int = 2
    student_steps: int = 0
    teacher_steps: int = 4
    teacher_cfg: float = 0.0
