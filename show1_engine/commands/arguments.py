"""What every command takes: one function per command, which fills its parser.

What a command does is in the module of its name, imported when it runs. So `--help` imports no
torch.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from ..bundled import SETTINGS, STAGE_TRAINING, TRAINING
from ..checkpoints.registry import PUBLISHED
from ..errors import printable
from ..films import STRETCH
from ..models.kinds import KEYFRAMES, LATENT_EXPERT, PIXEL_SR
from . import declared, evaluation_arguments

FIRST_FRAME = "first-frame"  # part of its clip's stage
CLIP_ONLY = ("tiling", "color_match", "scale", "cuts")  # mean nothing for a single frame
UPSCALE = {"cuts": True, "color_match": "wavelet"}  # a file is not one scene of our own making
INTERPOLATE = {"cuts": True}
REFINE = {"cuts": True, "width": 0, "height": 0}  # a film keeps its size
NEGATIVE = "low resolution, blur"  # the released script's, for the latent stage
TABLES = {  # settings with a choice -> the table of what there is
    "sampler": ("sampling.samplers", "SAMPLERS"),
    "preset": ("sampling.presets", "PRESETS"),
    "color_match": ("color", "METHODS"),
    "objective": ("training.objectives", "OBJECTIVES"),
    "targets": ("training.settings", "TRAIN_TARGETS"),
    "timesteps": ("training.settings", "TIMESTEPS"),
    "train": ("training.settings", "TRAINED"),
    "start": ("training.settings", "STARTS"),
    "variance": ("training.settings", "VARIANCES"),
    "decay": ("training.settings", "DECAYS"),
    "precision": ("training.settings", "PRECISIONS"),
}
_METAVARS = {int: "N", float: "X", str: "NAME"}
_PACK = Path(__file__).absolute().parents[2]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all of ours are."""

    def error(self, message: str) -> NoReturn:
        line = printable(f"error: {message} ('{self.prog} --help' lists all there is)")
        self.exit(2, f"{line}\n")


def generate(command: argparse.ArgumentParser) -> None:
    command.usage = "%(prog)s --prompt TEXT [--models DIR] [--out FILE] [options]"
    add = command.add_argument
    add("--prompt", metavar="TEXT", help="what is to be seen (this or --prompts is needed)")
    _add_negatives(command)
    _add_runtime(command)
    _add_text_encoder(command)
    add("--out", type=Path, metavar="FILE", help="mp4 of the last stage")
    add("--save-stages", type=Path, metavar="DIR", help="mp4 and contact sheet of every stage")
    add(
        "--frames-out",
        type=Path,
        metavar="FILE",
        help="float32 frames of every stage as .safetensors",
    )
    add(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="prompts over time in place of --prompt, a line for each: '16: a blue square' from "
        "keyframe 16 on, '8s: a blue square' from second 8",
    )
    _add_cascade(command)


def batch(command: argparse.ArgumentParser) -> None:
    command.usage = "%(prog)s JOBS DIR [--models DIR] [--workers N] [options]"
    add = command.add_argument
    add(
        "jobs",
        type=Path,
        metavar="JOBS",
        help=".txt with a prompt a line; .csv or .jsonl with prompt and, where wanted, id, seed, "
        "negative_prompt, prompts (over time), settings of stages such as keyframes.cfg",
    )
    add(
        "folder",
        type=Path,
        metavar="DIR",
        help="folder for the clips; what is done there already is not made again",
    )
    _add_batch(command)


def run_of_clips(command: argparse.ArgumentParser) -> None:
    command.usage = "%(prog)s RUN [--models DIR] [--workers N] [options]"
    command.add_argument(
        "folder",
        type=Path,
        metavar="RUN",
        help="what 'prompts' wrote; its clips are made here, as 'batch' makes them",
    )
    _add_batch(command)


def _add_batch(command: argparse.ArgumentParser) -> None:
    """All of a batch but its jobs and folder."""
    _add_many(command)
    _add_places(command)
    _add_negatives(command)
    _add_runtime(command, seed=False)
    _add_text_encoder(command)
    _add_cascade(command)


def _add_many(command: argparse.ArgumentParser) -> None:
    """What is made of the jobs."""
    add = command.add_argument
    add(
        "--seeds",
        default="0",
        metavar="LIST",
        help="seeds of every prompt that has none of its own, such as 0-9 or 0,3,5 (default: "
        "%(default)s)",
    )
    add(
        "--sweep",
        action="append",
        default=[],
        metavar="STAGE.NAME=VALUES",
        help="every clip with each of these values of a setting, such as keyframes.cfg=7,9; may be "
        "given several times",
    )
    add(
        "--names",
        choices=declared.names("batch.jobs", "NAMES"),
        default="id",
        help="vbench: videos/PROMPT-INDEX.mp4, as VBench looks for them (default: %(default)s)",
    )
    add("--save-stages", action="store_true", help="mp4 and contact sheet of every stage")
    add("--verify", action="store_true", help="read the clips that are there, not only their sizes")
    add("--dry-run", action="store_true", help="print what is to be made, and make nothing")


def _add_places(command: argparse.ArgumentParser) -> None:
    """Where, and by how many, rows are worked on."""
    add = command.add_argument
    add(
        "--shard",
        default="1/1",
        metavar="I/N",
        help="make only every N-th clip, from the I-th on: for N processes that know nothing of "
        "each other (default: %(default)s)",
    )
    _add_workers(command, threads=1)
    add(
        "--attempts",
        type=int,
        default=3,
        metavar="N",
        help="how often a clip is begun whose worker dies of it (default: %(default)s)",
    )


def _add_workers(command: argparse.ArgumentParser, threads: int | None = None) -> None:
    """Processes that share the work, and what each takes."""
    add = command.add_argument
    add(
        "--workers",
        type=int,
        metavar="N",
        help="processes with models of their own, by Ray on this machine or at --address (default: "
        "this process alone; at --address as many as it has room for)",
    )
    add("--address", metavar="HOST:PORT", help="Ray cluster to work on")
    add(
        "--gpus",
        type=float,
        metavar="SHARE",
        help="of a card that a worker of Ray takes (default: 1 where there are cards)",
    )
    add(
        "--threads",
        type=int,
        default=threads,
        metavar="N",
        help="of torch, for each worker; other numbers give other frames on a CPU (default: "
        + (f"{threads})" if threads else "torch's own; 1 with workers)"),
    )


def _add_negatives(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--negative-prompt",
        default=NEGATIVE,
        metavar="TEXT",
        help="for the latent stage (default: %(default)s)",
    )
    add(
        "--pixel-negative-prompt",
        default="",
        metavar="TEXT",
        help="for the pixel stages (default: the empty prompt)",
    )


def _add_cascade(command: argparse.ArgumentParser) -> None:
    """How the cascade is run, and every stage of it."""
    add = command.add_argument
    _add_control(command)
    _add_lora(command, "--lora", "the keyframe model")
    _add_lora(command, "--pixel-sr-lora", "pixel super-resolution")
    stages = declared.stages()
    until = [prefix for prefix in stages if prefix != FIRST_FRAME]
    add(
        "--until", choices=until, default=until[-1], help="last stage to run (default: %(default)s)"
    )
    add(
        "--preset",
        choices=declared.names(*TABLES["preset"]),
        help="for all stages: fewer steps than asked for, guided in part; a stage's own goes "
        "before it",
    )
    add(
        "--reference",
        action="store_true",
        help="the original's windows and 8-bit hand-over, flaws included",
    )
    for prefix, fields in stages.items():
        bundled = SETTINGS[prefix.replace("-", "_")]
        group = _group(command, f"{prefix} stage", bundled)
        without = CLIP_ONLY if prefix == FIRST_FRAME else ()
        _add_settings(group, fields, prefix=prefix, without=without)


def _add_control(command: argparse.ArgumentParser) -> None:
    """What the keyframes are to follow besides the prompt."""
    add = command.add_argument
    add(
        "--transition",
        type=int,
        default=2,
        metavar="N",
        help="keyframes over which one of --prompts turns into the next (default: %(default)s)",
    )
    add(
        "--given",
        type=Path,
        metavar="FILE",
        help="picture or video whose frames the keyframes are to contain",
    )
    add(
        "--given-indices",
        default="",
        metavar="TEXT",
        help="which keyframe each frame of --given is, such as '0, -1' or '0-3' (default: the "
        "first ones)",
    )
    add(
        "--harmonise",
        type=int,
        default=0,
        metavar="N",
        help="how often the keyframes are cleaned and noised again before each step, so that they "
        "agree with --given, 0 to 10 (default: %(default)s)",
    )
    add(
        "--start-from",
        type=Path,
        metavar="FILE",
        help="video that the keyframes start from, noised by --keyframes-strength",
    )


def upscale(command: argparse.ArgumentParser) -> None:
    _add_files(command)
    fields = declared.stages()["pixel-sr"]
    group = _group(command, "sampling", SETTINGS["pixel_sr"])
    _add_settings(group, fields, changed=UPSCALE)
    group = _group(command, "refining", _refining())
    group.add_argument(
        "--refine",
        action="store_true",
        help="each stretch goes on through the latent expert, as 'refine' would do it, without a "
        "file between",
    )
    group.add_argument(
        "--refine-negative-prompt",
        default=NEGATIVE,
        metavar="TEXT",
        help="for the latent expert (default: %(default)s)",
    )
    expert = declared.stages()["expert"]
    _add_settings(group, expert, changed=REFINE, prefix="refine", without=("cuts", "loop"))


def interpolate(command: argparse.ArgumentParser) -> None:
    _add_files(command)
    fields = declared.stages()["interpolate"]
    group = _group(command, "sampling", SETTINGS["interpolate"])
    # A film ends where it ends.
    _add_settings(group, fields, changed=INTERPOLATE, without=("loop",))


def refine(command: argparse.ArgumentParser) -> None:
    _add_files(command, negative=NEGATIVE, text_encoder=False)
    group = _group(command, "sampling", _refining())
    fields = declared.stages()["expert"]
    _add_settings(group, fields, changed=REFINE, without=("loop",))


def _refining() -> dict[str, Any]:
    """What suits the bundled expert, but for the size, which is the film's."""
    return {k: v for k, v in SETTINGS["expert"].items() if k not in ("width", "height")}


def train(command: argparse.ArgumentParser) -> None:
    command.usage = "%(prog)s clip lora --prompt TEXT [--models DIR] [options]"
    add = command.add_argument
    add("clip", type=Path, help="video file; one scene with the motion")
    add("lora", type=Path, help=".safetensors file to write")
    add(
        "--prompt",
        required=True,
        metavar="TEXT",
        help="what the clip shows, without how it moves",
    )
    add("--sample-prompt", metavar="TEXT", help="what the samples show (default: --prompt)")
    add(
        "--sample-sheet",
        type=Path,
        metavar="PNG",
        help="where the latest sample goes (with --sample-every)",
    )
    stage = command.add_mutually_exclusive_group()
    stage.add_argument(
        "--expert",
        dest="kind",
        action="store_const",
        const=LATENT_EXPERT,
        default=KEYFRAMES,
        help="train the latent expert in place of the keyframe model",
    )
    stage.add_argument(
        "--pixel-sr",
        dest="kind",
        action="store_const",
        const=PIXEL_SR,
        help="train pixel super-resolution: for a texture",
    )
    add(
        "--spelling",
        choices=declared.names("lora.formats", "SPELLINGS"),
        default="peft",
        help="how layers are named in the file (default: %(default)s)",
    )
    _add_runtime(command, dtype="bf16 on cuda")
    _add_text_encoder(command)
    group = _group(command, "training", TRAINING)
    _add_settings(group, declared.settings("training.settings", "TrainSettings"))


def download(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one or several of {', '.join(PUBLISHED)}"
    )
    command.add_argument(
        "--into", type=Path, metavar="DIR", default=models_folder(), help="default: %(default)s"
    )
    command.add_argument(
        "--accept-license", action="store_true", help="the licences are known and accepted"
    )
    command.add_argument(
        "--list", action="store_true", help="what there is, how large, under which licence"
    )


def convert(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("source", type=Path, help="diffusers-layout folder (unet/, scheduler/, ...)")
    add("target", type=Path, help="the .safetensors file to write")
    add(
        "--dtype",
        choices=["keep", "fp32", "fp16", "bf16"],
        default="keep",
        help="what the weights are stored as (default: %(default)s)",
    )


def train_stage(command: argparse.ArgumentParser) -> None:
    command.usage = "%(prog)s STAGE DATA RUN [--models DIR] [options]"
    add = command.add_argument
    add("stage", choices=declared.names("training.recipes", "RECIPES"), help="what is trained")
    _add_data(command)
    add(
        "run",
        type=Path,
        help="folder for checkpoints, log and result; what lies there is gone on from",
    )
    _add_runtime(command, dtypes=False)
    _add_text_encoder(command)
    add(
        "--encoded",
        type=Path,
        metavar="DIR",
        help="what 'encode' wrote (default: captions are encoded into RUN/encoded)",
    )
    add(
        "--sample-prompts",
        type=Path,
        metavar="FILE",
        help="a prompt a line that keyframes are sampled of (default: held out captions)",
    )
    add(
        "--teacher",
        metavar="DIR",
        help="folder of models, or micro, whose stage is to have a student of few steps, as a "
        "model or, with --train lora, as a LoRA: see --student-steps",
    )
    fields = declared.settings("training.settings", "StageTrainSettings")
    _add_settings(_group(command, "training", STAGE_TRAINING), fields)


def encode(command: argparse.ArgumentParser) -> None:
    command.usage = "%(prog)s DATA INTO [--stage STAGE] [--models DIR] [options]"
    add = command.add_argument
    _add_data(command)
    add("into", type=Path, help="folder to write, for --encoded of train-stage")
    add(
        "--stage",
        choices=declared.names("training.recipes", "RECIPES"),
        default="keyframes",
        help="text as this stage reads it; for the expert latents too (default: %(default)s)",
    )
    _add_runtime(command, dtypes=False)
    _add_text_encoder(command)
    fields = declared.settings("training.settings", "StageTrainSettings")
    chosen = {name: fields[name] for name in ("frames", "frame_rate", "sizes")}
    _add_settings(_group(command, "latents", {}), chosen)


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "data",
        type=Path,
        help="folder of videos with captions beside them (a.mp4, a.txt), with a metadata.jsonl or "
        ".csv (file_name, text), or of .tar shards",
    )


COMMANDS = {  # name -> how its parser is filled, what it does
    "generate": (generate, "sample a video from a prompt"),
    "batch": (batch, "sample many videos, on one machine or several"),
    "upscale": (upscale, "enlarge a video file four times (pixel super-resolution)"),
    "refine": (refine, "redraw a video file's detail (latent expert)"),
    "interpolate": (interpolate, "put new frames between every two of a video file"),
    "train": (train, "learn the motion of a video file as a LoRA"),
    "train-stage": (train_stage, "train a stage on a folder of captioned videos"),
    "encode": (encode, "encode a folder's captions, and latents, before a training"),
    "download": (download, "fetch published models"),
    "convert": (convert, "write a model folder as one .safetensors file"),
    "evaluate": (
        partial(evaluation_arguments.fill, generate=run_of_clips),
        "measure clips as the paper measures them",
    ),
}


def _add_files(
    command: argparse.ArgumentParser, negative: str = "", text_encoder: bool = True
) -> None:
    command.usage = "%(prog)s source target [--models DIR] [--prompt TEXT] [options]"
    add = command.add_argument
    add("source", type=Path, help="video file")
    add("target", type=Path, help="mp4 to write")
    add(
        "--prompt",
        default="",
        metavar="TEXT",
        help="what is to be seen (default: the empty prompt)",
    )
    add(
        "--negative-prompt",
        default=negative,
        metavar="TEXT",
        help=f"what is not (default: {negative or 'the empty prompt'})",
    )
    add(
        "--stretch",
        type=int,
        default=STRETCH,
        metavar="N",
        help="frames of the result that are made together where a shot is longer, from 8: more "
        "need more memory (default: %(default)s)",
    )
    _add_workers(command)
    _add_runtime(command)
    if text_encoder:
        _add_text_encoder(command)


def _add_runtime(
    command: argparse.ArgumentParser,
    dtype: str = "fp16 on cuda",
    dtypes: bool = True,
    seed: bool = True,
) -> None:
    """--models, --seed, --device, --dtype. `dtype`: what "auto" is, where not fp32."""
    add = command.add_argument
    add(
        "--models",
        default="micro",
        metavar="DIR",
        help="folder with the models of the cascade, or a bundled one: 'micro' or its second "
        "edition 'micro2', at 160x96 (default: %(default)s)",
    )
    if seed:
        add(
            "--seed",
            type=int,
            default=0,
            metavar="N",
            help="of all noise, from 0; the same seed, inputs and device give the same result "
            "(default: %(default)s)",
        )
    add(
        "--device",
        default="auto",
        metavar="NAME",
        help="cpu, cuda, cuda:1, mps ...; auto: cuda where there is one, else cpu (default: "
        "%(default)s)",
    )
    if not dtypes:
        return
    add(
        "--dtype",
        choices=["auto", "fp32", "fp16", "bf16"],
        default="auto",
        help=f"what models compute in; auto: {dtype}, fp32 elsewhere (default: %(default)s)",
    )


def _add_text_encoder(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--text-encoder",
        type=Path,
        metavar="FILE",
        help="T5 v1.1 XXL for the pixel stages: a t5xxl .safetensors file (fp16, fp8, scaled fp8) "
        "or a folder with text_encoder/ and tokenizer/ (default: the one in --models)",
    )


def _add_lora(command: argparse.ArgumentParser, option: str, model: str) -> None:
    command.add_argument(
        option,
        action="append",
        type=_lora,
        default=[],
        metavar="FILE[:STRENGTH]",
        help=f"motion LoRA, or a student's, for {model}; may be given several times",
    )


def _lora(text: str) -> tuple[Path, float]:
    """A file and its strength; 1 where none is given."""
    name, colon, number = text.rpartition(":")
    try:
        return (Path(name), float(number)) if colon else (Path(text), 1.0)
    except ValueError:  # a colon of the path itself
        return Path(text), 1.0


def _group(command: argparse.ArgumentParser, title: str, bundled: dict[str, Any]) -> Any:
    """A group of options, which says what --models micro has for defaults."""
    values = ", ".join(f"{name.replace('_', '-')} {value}" for name, value in bundled.items())
    return command.add_argument_group(title, f"With --models micro: {values}.")


def _add_settings(
    group: Any,
    fields: dict[str, declared.Setting],
    changed: dict[str, Any] | None = None,
    prefix: str = "",
    without: tuple[str, ...] = (),
) -> None:
    """An option `--<prefix>-<field>` for every setting but the seed and those `without`.

    Their value is None where they are not given, as the default depends on --models. `changed`:
    this command's defaults where they differ from the settings'.
    """
    for field in fields.values():
        if field.name == "seed" or field.name in without:
            continue
        default = (changed or {}).get(field.name, field.default)
        name = "--" + "-".join(filter(None, (prefix, field.name.replace("_", "-"))))
        text = f"{field.text.rstrip('.')} (default: {default})".replace("%", "%%")
        if field.type is bool:
            flag = argparse.BooleanOptionalAction
            group.add_argument(name, action=flag, default=None, help=text)
        elif field.name in TABLES:
            group.add_argument(name, choices=declared.names(*TABLES[field.name]), help=text)
        else:
            metavar = _METAVARS[field.type]
            group.add_argument(name, type=field.type, metavar=metavar, help=text)


def models_folder() -> Path:
    """ComfyUI's models/show1 if this is a node pack, else models/show1 here."""
    root = _PACK.parents[1] if _PACK.parent.name == "custom_nodes" else Path()
    return root / "models" / "show1"
