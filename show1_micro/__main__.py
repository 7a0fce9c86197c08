"""`python -m show1_micro ...`: training the micro cascade and judging it."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from show1_engine.bundled import WEIGHTS
from show1_engine.errors import InputError, Show1Error, one_of

if TYPE_CHECKING:
    from show1_engine.training.settings import TrainSettings

RUNS = Path("micro-runs")
STAGES = ("keyframes", "interpolation", "pixel_sr", "latent_expert")


def main(arguments: list[str] | None = None) -> int:
    """Parses and runs one command; an error a user can act on is one line and exit code 2."""
    args = _parser().parse_args(arguments)
    try:
        return args.func(args) or 0
    except (Show1Error, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    """Every command sets `func`, called with the parsed arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m show1_micro", description="train or evaluate the bundled tiny cascade"
    )
    commands = parser.add_subparsers(dest="micro_command", required=True)
    _add_training(commands)
    _add_judging(commands)
    _add_ablation(commands)
    _add_trials(commands)
    footage = commands.add_parser(
        "footage", help="write clips of the synthetic world as mp4s with captions"
    )
    footage.add_argument("target", type=Path)
    footage.add_argument("--clips", type=int, default=200)
    footage.add_argument("--seed", type=int, default=0)
    footage.set_defaults(func=_footage)
    untrained = commands.add_parser(
        "untrained", help="write a cascade of the same architecture with random weights"
    )
    untrained.add_argument("target", type=Path)
    untrained.add_argument("--seed", type=int, default=0)
    untrained.add_argument(
        "--temporal", action="store_true", help="the bundled weights, the temporal layers alone new"
    )
    untrained.set_defaults(func=_untrained)
    return parser


def _add_training(commands: argparse._SubParsersAction) -> None:
    """train and export."""
    train = commands.add_parser("train", help="train one stage, or continue its training")
    train.add_argument(
        "stage",
        choices=(
            "keyframes",
            "interpolation",
            "pixel_sr",
            "vae",
            "latent_expert",
            "latent_expert_full",
        ),
    )
    train.add_argument("--minutes", type=float, default=10.0, help="wall clock of this run")
    train.add_argument("--steps", type=int, help="end after so many steps, if the minutes allow")
    train.add_argument(
        "--runs", type=Path, default=RUNS, help="folder of all runs' states, logs and sheets"
    )
    train.add_argument("--seed", type=int, default=0)
    train.add_argument(
        "--bundled", action="store_true", help="without a state: go on from the edition's weights"
    )
    train.add_argument(
        "--anneal", action="store_true", help="let the learning rate fall to zero over this run"
    )
    train.add_argument(
        "--decoder-only", action="store_true", help="of the VAE: its latents stay as they are"
    )
    train.add_argument("--edition", type=int, choices=(1, 2), default=1, help="of the world")
    train.add_argument("--threads", type=int, default=1)
    train.set_defaults(func=_train)
    export = commands.add_parser("export", help="write trained stages as model folders")
    export.add_argument("stages", nargs="+", choices=STAGES)
    export.add_argument("--runs", type=Path, default=RUNS)
    export.add_argument("--edition", type=int, choices=(1, 2), default=1, help="of the weights")
    export.add_argument("--target", type=Path, help="instead of the bundled cascade's folder")
    export.set_defaults(func=_export)


def _add_judging(commands: argparse._SubParsersAction) -> None:
    """evaluate."""
    judge = commands.add_parser(
        "evaluate", help="judge the cascade with its recogniser and against drawn truth"
    )
    judge.add_argument("--clips", type=int, default=128)
    judge.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there too")
    judge.add_argument("--models", type=Path, help="another folder of models than the bundled one")
    judge.add_argument(
        "--stages", nargs="+", choices=STAGES, default=list(STAGES), help="only these, in order"
    )
    judge.add_argument(
        "--slow", type=int, metavar="N", help="clips of the two slow stages (default: an eighth)"
    )
    judge.add_argument(
        "--run", type=Path, metavar="DIR", help="keep those clips there, with report and page"
    )
    judge.add_argument(
        "--picture", type=Path, metavar="PNG", help="write each stage's median and worst clip there"
    )
    judge.add_argument(
        "--network",
        default="",
        metavar="NAME",
        help="whose features are compared with the drawn truth's (lite0; default: none)",
    )
    judge.add_argument(
        "--cascade-only",
        action="store_true",
        help="no unseen combinations, and no stage on drawn input",
    )
    judge.add_argument("--edition", type=int, choices=(1, 2), default=1, help="of the cascade")
    judge.add_argument("--threads", type=int, default=1)
    judge.set_defaults(func=_evaluate)


def _add_ablation(commands: argparse._SubParsersAction) -> None:
    """ablate."""
    ablate = commands.add_parser(
        "ablate", help="the paper's ablations in miniature; trains the experts it compares"
    )
    ablate.add_argument(
        "--runs", type=Path, default=RUNS, help="with the trained autoencoder in RUNS/vae"
    )
    ablate.add_argument("--seeds", type=int, default=3)
    ablate.add_argument("--steps", type=int, default=300, help="training steps of each expert")
    ablate.add_argument("--clips", type=int, default=16)
    ablate.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there too")
    ablate.add_argument(
        "--picture", type=Path, metavar="PNG", help="write samples of the ways there"
    )
    ablate.add_argument("--edition", type=int, choices=(1, 2), default=1, help="of the cascade")
    ablate.add_argument("--threads", type=int, default=1)
    ablate.set_defaults(func=_ablate)


def _add_trials(commands: argparse._SubParsersAction) -> None:
    """motion, style and control."""
    control = commands.add_parser(
        "control", help="what length, given frames, masks and loops are worth on this cascade"
    )
    control.add_argument("--only", nargs="+", metavar="TRIAL", help="long, switch, given, ...")
    control.add_argument("--clips", type=int, default=8, help="of each trial")
    control.add_argument("--pictures", type=Path, metavar="DIR", help="write a sheet of each there")
    control.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there too")
    control.add_argument("--threads", type=int, default=1)
    control.set_defaults(func=_control)
    motion = commands.add_parser(
        "motion", help="the proof of motion LoRAs: an unseen motion learned from one clip"
    )
    motion.add_argument("--path", choices=("orbit", "zigzag", "return"), default="orbit")
    motion.add_argument(
        "--recolour", type=float, default=0.8, help="share of steps on the clip in other colours"
    )
    # Less than in SETTINGS: guidance by a caption without a motion works against the learned one.
    motion.add_argument("--cfg", type=float, default=2.0, help="guidance of the judged clips")
    _add_trial(motion, steps=600, batch_size=4, timesteps="motion")
    motion.set_defaults(func=_motion)
    style = commands.add_parser(
        "style", help="the proof of styles: one clip's texture, learned by super-resolution"
    )
    style.add_argument("--texture", choices=("plain", "striped", "checkered"), default="striped")
    _add_trial(style, steps=300, batch_size=1, timesteps="even")
    style.set_defaults(func=_style)


def _add_trial(
    parser: argparse.ArgumentParser, steps: int, batch_size: int, timesteps: str
) -> None:
    """What both proofs of training on one clip take."""
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument(
        "--objective", choices=("motion", "frame_difference", "plain"), default="plain"
    )
    parser.add_argument(
        "--targets", choices=("attention", "attention_and_ff"), default="attention_and_ff"
    )
    parser.add_argument("--timesteps", choices=("motion", "even"), default=timesteps)
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--clips", type=int, default=24, help="judged at each strength")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=0, help="seed of the judged scenes")
    parser.add_argument("--edition", type=int, choices=(1, 2), default=1, help="of the cascade")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there too")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="write some of the clips")
    parser.add_argument("--threads", type=int, default=1)


def _train(args: argparse.Namespace) -> int:
    import torch

    from .codec import VaeTraining
    from .editions import EDITIONS
    from .train import Trainer

    if args.decoder_only and args.stage != "vae":
        raise InputError(f"--decoder-only: '{args.stage}' has no decoder, a VAE has; leave it out")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an orderly end: the state is saved
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    if args.stage == "vae":
        training = VaeTraining(
            args.runs / "vae",
            args.seed,
            world=EDITIONS[args.edition],
            start=EDITIONS[args.edition].started("show-1-sr2/vae") if args.bundled else None,
            decoder_only=args.decoder_only,
        )
        training.train(args.minutes, args.anneal, args.steps, every=300)
        return 0
    trainer = Trainer(
        args.stage,
        args.runs / args.stage,
        args.seed,
        bundled=args.bundled,
        edition=args.edition,
    )
    trainer.train(args.minutes, args.anneal, args.steps, show=_show)
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    import torch

    from .editions import EDITIONS
    from .evaluate import evaluate, table

    torch.set_num_threads(args.threads)
    results = evaluate(
        args.models or EDITIONS[args.edition].bundle.folder,
        args.clips,
        _show,
        stages=tuple(args.stages),
        slow=args.slow,
        run=args.run,
        network=args.network,
        alone=not args.cascade_only,
        picture=args.picture,
        edition=args.edition,
    )
    print("\n" + table(results))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def _ablate(args: argparse.Namespace) -> int:
    import tempfile

    import torch

    from .ablate import ablate, markdown, train_experts

    torch.set_num_threads(args.threads)
    train_experts(args.runs, args.seeds, args.steps, progress=_show, edition=args.edition)
    with tempfile.TemporaryDirectory() as scratch:
        results = ablate(
            args.edition,
            args.runs,
            Path(scratch),
            seeds=args.seeds,
            clips=args.clips,
            picture=args.picture,
            progress=_show,
        )
    print("\n" + markdown(results))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def _control(args: argparse.Namespace) -> int:
    import torch

    from .control import TRIALS, Trials
    from .evaluate import Judge

    torch.set_num_threads(args.threads)
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
    trials = Trials(Judge(WEIGHTS), args.clips, args.pictures, progress=_show)
    results = {}
    for name in args.only or TRIALS:
        one_of("trial", name, tuple(TRIALS))
        results[name] = TRIALS[name](trials)
        print(f"\n{name}: {json.dumps(results[name])}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def _export(args: argparse.Namespace) -> int:
    from .editions import EDITIONS
    from .export import export_run

    for stage in args.stages:
        target = args.target or EDITIONS[args.edition].bundle.folder
        print(export_run(args.runs, stage, target, world=EDITIONS[args.edition]))
    return 0


def _motion(args: argparse.Namespace) -> int:
    from .motion_trial import run_trial

    return _trial(
        args,
        lambda settings: run_trial(
            args.edition,
            args.path,
            settings,
            count=args.clips,
            strengths=args.strengths,
            picture=args.picture,
            say=_show,
            scenes=args.scenes,
            cfg=args.cfg,
        ),
        args.recolour,
    )


def _style(args: argparse.Namespace) -> int:
    from .style_trial import run_style

    return _trial(
        args,
        lambda settings: run_style(
            args.edition,
            args.texture,
            settings,
            count=args.clips,
            strengths=args.strengths,
            picture=args.picture,
            say=_show,
            scenes=args.scenes,
        ),
    )


def _trial(
    args: argparse.Namespace, run: Callable[[TrainSettings], dict[str, Any]], recolour: float = 0.0
) -> int:
    import torch

    from show1_engine.training.settings import TrainSettings

    torch.set_num_threads(args.threads)
    results = run(
        TrainSettings(
            steps=args.steps,
            learning_rate=2e-3,
            seed=args.seed,
            objective=args.objective,
            batch_size=args.batch_size,
            gradient_checkpointing=False,
            targets=args.targets,
            timesteps=args.timesteps,
            recolour=recolour,
        )
    )
    text = json.dumps(results, indent=1)
    print("\n" + text)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")
    return 0


def _show(text: str) -> None:
    print(f"\r{text:<72}", end="", file=sys.stderr, flush=True)


def _footage(args: argparse.Namespace) -> int:
    from .footage import write_footage

    write_footage(args.target, args.clips, args.seed)
    return 0


def _untrained(args: argparse.Namespace) -> int:
    from .untrained import write_forgotten, write_untrained

    write = write_forgotten if args.temporal else write_untrained
    write(args.target, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
