"""Show1TrainMotionLoRA."""

from collections import Counter
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..show1_engine.host.ui import TrainingReport, cancelled, show_text
from ..show1_engine.lora.formats import lora_from, spelled
from ..show1_engine.lora.merging import MotionLora
from ..show1_engine.models.bundle import Show1Model
from ..show1_engine.stages.prompts import Prompt
from ..show1_engine.training.motion import MotionTraining
from ..show1_engine.training.objectives import OBJECTIVES
from ..show1_engine.training.settings import (
    STAGE,
    TIMESTEPS,
    TRAIN_TARGETS,
    TrainSettings,
)
from .schema import clip_input, model_input, positive_input, schema, seed_input
from .sockets import (
    Conditioning,
    clip_frames,
    empty_prompt,
    linked,
    loaded,
    one_text,
    texts,
)

_DEFAULTS = TrainSettings()
_LINKS = ("model", "sample_positive", "lora")
_cut_short: Counter[str] = Counter()  # trainings that a user stopped, by their settings


def _size_input(name: str) -> io.Input:
    return io.Int.Input(
        name,
        default=0,
        min=0,
        max=1024,
        optional=True,
        tooltip=f"{name.capitalize()} to train at, in pixels. 0: the clip's aspect at the size the "
        "model was trained on.",
    )


def _learning_inputs() -> list[io.Input]:
    """How much is learned, and how quickly."""
    return [
        io.Int.Input(
            "steps",
            default=_DEFAULTS.steps,
            min=2,
            max=100000,
            tooltip="Training steps, 2 to 100000. 300 to 500 for one clip; too many copy "
            "its looks.",
        ),
        io.Int.Input(
            "rank",
            default=_DEFAULTS.rank,
            min=1,
            max=256,
            tooltip="Size of the LoRA, 1 to 256. 16 is enough for one motion.",
        ),
        io.Float.Input(
            "learning_rate",
            default=_DEFAULTS.learning_rate,
            min=1e-7,
            max=1.0,
            step=1e-7,
            tooltip="Above 0 up to 1. More learns quicker and copies more; 0.0005 to 0.002.",
        ),
        seed_input(),
    ]


def _clip_inputs() -> list[io.Input]:
    """What is learned from, at a time."""
    return [
        io.Combo.Input(
            "objective",
            options=list(OBJECTIVES),
            default=_DEFAULTS.objective,
            optional=True,
            tooltip='"motion" sets the clip\'s looks aside (MotionDirector), '
            '"frame_difference" compares changes between frames only (VMC), '
            '"plain" learns all that is there: for a texture.',
        ),
        io.Int.Input(
            "batch_size",
            default=_DEFAULTS.batch_size,
            min=1,
            max=64,
            optional=True,
            tooltip="Windows per step, 1 to 64. More learns steadier and takes that much longer.",
        ),
        _size_input("width"),
        _size_input("height"),
        io.Int.Input(
            "window",
            default=_DEFAULTS.window,
            min=2,
            max=64,
            optional=True,
            tooltip="Frames seen at once, 2 to 64, drawn from anywhere in the clip. Show-1 "
            "was trained on 8.",
        ),
        io.Int.Input(
            "frame_step",
            default=_DEFAULTS.frame_step,
            min=1,
            max=240,
            optional=True,
            tooltip="Use every n-th frame, 1 to 240. Keyframes are half a second apart: 12 "
            "suits a clip of 24 frames per second.",
        ),
    ]


def _more_inputs() -> list[io.Input]:
    """Where it is learned, what is shown meanwhile, and what it costs."""
    return [
        io.Combo.Input(
            "targets",
            options=list(TRAIN_TARGETS),
            default=_DEFAULTS.targets,
            optional=True,
            tooltip='"attention": temporal attention alone, as in the paper. '
            '"attention_and_ff": its feed-forward layers too (MotionDirector). "attention_whole": '
            "attention's own weights without a rank, a file hundreds of times as large.",
        ),
        io.Combo.Input(
            "timesteps",
            options=list(TIMESTEPS),
            default=_DEFAULTS.timesteps,
            optional=True,
            tooltip='"motion" trains mostly at the noise levels where motion is decided, '
            '"even" at all alike: for a texture.',
        ),
        io.Int.Input(
            "sample_every",
            default=100,
            min=0,
            max=100000,
            optional=True,
            tooltip="Show a sampled clip every so many steps, 0: never. Each costs about "
            "as much as 10 steps. Keyframe models only.",
        ),
        io.Conditioning.Input(
            "sample_positive",
            optional=True,
            tooltip="What the samples show; not connected: what is trained on. Another "
            "subject tells whether the motion carries over.",
        ),
        io.Boolean.Input(
            "gradient_checkpointing",
            default=True,
            optional=True,
            tooltip="Less memory for a third more time.",
        ),
        io.Boolean.Input(
            "mixed_precision",
            default=True,
            optional=True,
            tooltip="Compute in bfloat16 where the device can; the LoRA itself is kept in float32.",
        ),
        io.Float.Input(
            "recolour",
            default=_DEFAULTS.recolour,
            min=0.0,
            max=1.0,
            step=0.05,
            optional=True,
            tooltip="Share of steps, 0 to 1, that see the clip in other colours and "
            "without words: the motion is then bound less to the clip's own. 0.8 on "
            "show1-micro; not for the latent expert.",
        ),
    ]


def _lora_input() -> io.Input:
    return io.LoraModel.Input(
        "lora",
        optional=True,
        tooltip="A LoRA to go on from, straight from another training; its own rank stays.",
    )


class Show1TrainMotionLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id=STAGE,
            display_name="Train Show-1 Motion LoRA",
            description="Learns the motion of one clip, or of a list of clips with a prompt each, "
            "as a LoRA of the model's temporal attention. A cancel keeps what is learned so far.",
            is_input_list=True,
            search_aliases=[
                "show1",
                "show-1",
                "train lora",
                "motion director",
                "motion customization",
            ],
            inputs=[
                model_input(
                    "A keyframe model (show-1-base) for a motion, pixel super-resolution for a "
                    "texture, or the latent expert"
                ),
                clip_input(
                    "images",
                    "The clip, from any node or straight from Load Video: any "
                    "number of frames, any size. Of a list of clips all are learned.",
                ),
                positive_input(
                    "the model's text encoder: what the clip shows, without how it moves; of a "
                    "list one for each clip, or one for all"
                ),
                *_learning_inputs(),
                *_clip_inputs(),
                *_more_inputs(),
                _lora_input(),
            ],
            outputs=[
                io.LoraModel.Output(display_name="lora"),
                io.LossMap.Output(display_name="loss_map"),
            ],
            advanced=(
                "batch_size",
                "width",
                "height",
                "window",
                "targets",
                "timesteps",
                "gradient_checkpointing",
                "mixed_precision",
                "recolour",
            ),
        )

    @classmethod
    def execute(
        cls, images: list[Any], positive: list[Conditioning], **lists: Any
    ) -> io.NodeOutput:
        given = {name: values[0] for name, values in lists.items() if values}
        values = {name: value for name, value in given.items() if name not in _LINKS}
        settings = TrainSettings(**{"sample_every": 100, **values})
        model = loaded(STAGE, given["model"])
        training = MotionTraining(
            model,
            [clip_frames(STAGE, "images", clip) for clip in images],
            [one_text(STAGE, "positive", prompt) for prompt in positive],
            settings=settings,
            sample=_sample(given.get("sample_positive") or positive[0], settings),
            empty=empty_prompt(positive[0]),
            begin=_begin(model, given.get("lora")),
        )
        try:
            training.run(TrainingReport(training.losses))
        except cancelled():
            if (
                len(training.losses) < 2
            ):  # nothing worth keeping, and the host's graph of losses needs two
                raise
            _cut_short[_key(**values)] += 1
            show_text(
                f"stopped after {len(training.losses)} of {settings.steps} steps; what is learned "
                "goes on"
            )
        if training.stopped:
            show_text(training.stopped)
        losses = (
            training.losses if len(training.losses) > 1 else 2 * training.losses
        )  # the host's graph needs two
        return io.NodeOutput(spelled(training.lora), {"loss": losses})

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> int:
        """A training that was cut short is not taken from the cache when the graph is run again."""
        return _cut_short[_key(**inputs)]


def _sample(prompt: Conditioning, settings: TrainSettings) -> tuple[Prompt, Prompt] | None:
    """What samples are made of, where there are to be any."""
    return texts(STAGE, prompt, None, guide=False) if settings.sample_every else None


def _begin(model: Show1Model, lora: dict[str, Tensor] | None) -> MotionLora | None:
    """The connected LoRA, as this model takes it."""
    if lora is None:
        return None
    linked(STAGE, "lora", lora, kind=dict, source="Train Show-1 Motion LoRA")
    return lora_from(lora, model, "the connected LoRA")


def _key(**values: Any) -> str:
    """Of the settings, each alone or in a list as the host hands them."""
    plain = {n: v[0] if isinstance(v, list) and len(v) == 1 else v for n, v in values.items()}
    return repr(sorted((n, v) for n, v in plain.items() if isinstance(v, (int, float, str))))
