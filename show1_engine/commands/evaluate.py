"""python -m show1_engine evaluate: measured as the paper measures."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..batch import plan as plans
from ..errors import CheckpointError, InputError, one_of
from ..evaluation import report as reports
from ..evaluation import sets, vbench
from ..evaluation.choices import METRICS, PRESETS, Preset, Sampling
from ..evaluation.features import (
    VIDEOS,
    Job,
    Progress,
    Store,
    check_usable,
    device_of,
    drawn,
    drawn_windows,
    measure,
)
from ..evaluation.generated import GeneratedFeatures
from ..evaluation.networks import Network, load_network
from ..evaluation.networks.published import WEIGHTS, found, missing
from ..evaluation.page import write_page
from ..evaluation.sets import FINAL, Clip
from ..evaluation.votes import QUESTIONS, Look, tally, write_pairs
from ..stages.registry import STAGES
from .arguments import models_folder
from .terminal import bar, say

_UCF_COUNT = 10_000
_EXTREMES = 4


def run(args: argparse.Namespace) -> int | None:
    return _ACTIONS[args.action](args)


# Prompts


def _prompts(args: argparse.Namespace) -> None:
    if args.set in ("ucf101", "msrvtt", "vbench") and args.source is None:
        raise InputError(f"{args.set}: the file with its prompts is missing; see --help")
    if args.set == "ucf101":
        prompts, about = sets.ucf101_prompts(args.source, args.count or _UCF_COUNT, args.seed)
    elif args.set == "msrvtt":
        prompts, about = sets.msrvtt_prompts(args.source, args.count, args.seed, each=args.each)
    elif args.set == "vbench":
        prompts, about = sets.vbench_prompts(args.source, args.seed, each=args.each or 5)
    elif Path(args.set).is_dir():
        prompts, about = sets.folder_prompts(Path(args.set).resolve(), args.count, args.seed)
    else:
        prompts, about = sets.file_prompts(
            Path(args.set), args.count, args.seed, each=args.each or 1
        )
    file = sets.write_run(args.out, prompts, about, seed=args.seed)
    counts = [f"{about[name]:,} {name}" for name in ("captions", "empty") if name in about]
    say(", ".join([f"{len(prompts):,} prompts, file {about['sha256'][:16]}", *counts]))
    say(f"generate them with: python -m show1_engine evaluate generate {args.out}")
    print(file)


# Clips


def _generate(args: argparse.Namespace) -> int:
    """As `batch` makes them: the same folder, plan and resuming."""
    from . import batch

    args.jobs = args.folder / "jobs.jsonl"
    if not args.jobs.is_file():
        raise InputError(f"'{args.folder}' has no jobs.jsonl; make it with 'evaluate prompts'")
    return batch.run(args, _while_generating(args) if args.features else None)


def _while_generating(args: argparse.Namespace) -> GeneratedFeatures:
    """What is to be measured of frames before they are encoded."""
    if args.sweep or args.names != "id":
        raise InputError("--features are of a run's clips, one a job: not with --sweep or --names")
    preset = PRESETS[args.protocol]
    wanted = {
        metric: (args.network or METRICS[metric].network, _sampling(args, preset, metric))
        for metric in _metrics(args.features, "--features")
    }
    return GeneratedFeatures(
        args.folder.absolute(),
        wanted,
        _last_stage(args.until),
        places=[path.absolute() for path in _places(args)],
        others=args.other_weights,
        device=args.device,
    )


def _last_stage(until: str) -> str:
    """The name of the frames that a run until a stage (its option) ends with."""
    return next(stage.result for stage in STAGES.values() if stage.option == until)


# Features


def _features(args: argparse.Namespace) -> None:
    stages = _stages_with_clips(args.run) if args.stage == "all" else [args.stage]
    networks = _networks(args)
    for stage in stages:
        clips = sets.run_clips(args.run, stage)
        if not clips:
            raise InputError(
                f"'{args.run}' has no clips of stage {stage}; generate them first (python -m "
                f"show1_engine evaluate generate {args.run})"
            )
        jobs = _jobs(args, networks, args.run / "features" / stage, real=False)
        for job in jobs:
            _check_not_mixed(job, clips)
        say(f"{stage}: {len(clips):,} of {len(sets.jobs_of(args.run)):,} clips are there")
        _measure(args, clips, jobs, name=stage)
    print(args.run / "features")


def _stages_with_clips(run: Path) -> list[str]:
    """The final one, and those that were saved before it: the last one's clips are the final."""
    plan = run / "plan.json"
    last = _last_stage(plans.read_fields(run, plan.name)["until"]) if plan.is_file() else FINAL
    return [FINAL, *(name for name in sets.stages_in(run / "stages") if name != last)]


def _check_not_mixed(job: Job, clips: Iterable[Clip]) -> None:
    """InputError where a store of frames before encoding lacks clips: videos are no substitute."""
    if job.source == VIDEOS:
        return
    of_all = not METRICS[job.metric].captions
    missing = [clip for clip in clips if (of_all or clip.caption) and clip.id not in job.store]
    if missing:
        raise InputError(
            f"'{job.store.folder}' holds features of frames before encoding and lacks "
            f"{len(missing):,} clips, '{missing[0].id}' the first; features of videos do not mix "
            "with them: go on with evaluate generate --features, or delete the folder"
        )
    say(f"{job.metric}: there already, of the frames before encoding")


def _real(args: argparse.Namespace) -> None:
    clips = _real_clips(args)
    count = args.count or PRESETS[args.protocol].count
    _measure_real(args, clips, _networks(args), folder=args.out, count=count)
    print(args.out)


def _measure_real(
    args: argparse.Namespace,
    clips: Sequence[Clip],
    networks: dict[str, Network],
    *,
    folder: Path,
    count: int,
) -> None:
    """Metrics that see the same frames together: each clip is read once for them."""
    jobs = _jobs(args, networks, folder, real=True)
    for sampling in dict.fromkeys(job.sampling for job in jobs):
        some = _drawn_clips(clips, sampling, count, seed=args.seed)
        alike = [job for job in jobs if job.sampling == sampling]
        _measure(args, some, alike, name="real", skip=True)


def _real_clips(args: argparse.Namespace) -> list[Clip]:
    one_of("SET", args.set, ("ucf101", "msrvtt", "folder"))
    if args.set == "ucf101":
        return sets.ucf101(args.root, args.split)
    return sets.msrvtt(args.root) if args.set == "msrvtt" else sets.folder_clips(args.root)


def _drawn_clips(clips: Sequence[Clip], sampling: Sampling, count: int, *, seed: int) -> list[Clip]:
    """`count` of real clips, or windows of them; all clips where there are no more."""
    if sampling.place == "windows":
        return drawn_windows(clips, sampling, count, seed=seed)
    by_name = {clip.id: clip for clip in clips}
    return [by_name[name] for name in sorted(drawn(list(by_name), count, seed))]


def _measure(
    args: argparse.Namespace,
    clips: Sequence[Clip],
    jobs: Sequence[Job],
    *,
    name: str,
    skip: bool = False,
) -> None:
    with bar(name, unit="clip", total=len(clips)) as shown:
        short = measure(
            clips,
            jobs,
            seed=args.seed,
            shard=getattr(args, "shard", (1, 1)),
            skip_short=skip,
            progress=_moving(shown),
        )
    if short:
        say(f"{name}: {len(short):,} clips are too short and left out, '{short[0]}' the first")


def _moving(shown: Any) -> Progress:
    def progress(done: int, total: int) -> None:
        shown.total = total
        shown.update(done - shown.n)

    return progress


def _metrics(text: str, option: str = "--metric") -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        one_of(option, name, tuple(METRICS))
    if not names:
        raise InputError(f"{option} is empty; give some of {', '.join(METRICS)}")
    return names


def _networks(args: argparse.Namespace) -> dict[str, Network]:
    """A network for each metric that has one; what is left out is said. InputError for none."""
    places, device = _places(args), device_of(args.device)
    loaded: dict[str, Network] = {}
    chosen: dict[str, Network] = {}
    for metric in _metrics(args.metric):
        name = args.network or METRICS[metric].network
        if name not in loaded and found(name, places) is None and name != "lite0":
            say(f"{metric}: not measured: {missing(name, places)}")
            continue
        if name not in loaded:
            loaded[name] = load_network(name, places, device, others=args.other_weights)
        try:
            check_usable(metric, loaded[name])
        except InputError as error:
            say(f"{metric}: not measured: {error}")
            continue
        chosen[metric] = loaded[name]
    if not chosen:
        raise CheckpointError(
            f"nothing of {args.metric} can be measured: no weights; 'evaluate weights' lists where "
            "they are, --network lite0 works with a package's"
        )
    return chosen


def _places(args: argparse.Namespace) -> list[Path]:
    usual = models_folder()
    for path in args.weights or ():
        if not path.exists():
            raise InputError(f"--weights '{path}' is not there")
    return args.weights or [usual, usual / "evaluation"]


def _jobs(
    args: argparse.Namespace, networks: dict[str, Network], folder: Path, *, real: bool
) -> list[Job]:
    preset = PRESETS[args.protocol]
    jobs = []
    for metric, network in networks.items():
        if real and not METRICS[metric].against:
            continue
        sampling = _sampling(args, preset, metric, real=real)
        there = _store(folder / metric)
        source = there.settings.get("source", VIDEOS) if there else VIDEOS
        how = {"sampling": sampling, "seed": args.seed, "source": source}
        jobs.append(Job.into(folder, metric, network, **how))
    return jobs


def _sampling(
    args: argparse.Namespace, preset: Preset, metric: str, *, real: bool = False
) -> Sampling:
    """The preset's, with what is given in its place."""
    names = [field.name for field in dataclasses.fields(Sampling)]
    given = {name: value for name in names if (value := getattr(args, name, None)) is not None}
    sampling = dataclasses.replace(preset.sampling_of(metric, real), **given)
    if real:
        sampling = dataclasses.replace(sampling, stride=sampling.real_stride)
    elif sampling.place == "windows":
        raise InputError("--place windows is for real clips; give centre, first or random")
    for name, least in (("frames", 0), ("stride", 1), ("real_stride", 1), ("size", 0)):
        if getattr(sampling, name) < least:
            raise InputError(f"--{name.replace('_', '-')} must be at least {least}")
    if sampling.place == "windows" and not sampling.frames:
        raise InputError("windows need --frames; 0 is all of a clip")
    return sampling


# Reports


def _report(args: argparse.Namespace) -> None:
    clips = {clip.id: clip for clip in sets.run_clips(args.run)}
    about = sets.set_of(args.run) | {"clips": len(clips)}
    print(_write(args, args.run, clips, about=about))


def _folder(args: argparse.Namespace) -> None:
    clips = sets.folder_clips(args.fake, args.captions)
    args.out = args.out or Path(f"{args.fake.resolve().name}-evaluation")
    networks = _networks(args)
    jobs = _jobs(args, networks, args.out / "features" / FINAL, real=False)
    _measure(args, clips, jobs, name="generated")
    if args.real is not None and not any((args.real / name).is_dir() for name in METRICS):
        real = sets.folder_clips(args.real)
        count = args.count or min(len(clips), PRESETS[args.protocol].count)
        _measure_real(args, real, networks, folder=args.out / "real", count=count)
        args.real = args.out / "real"
    about = {"set": args.fake.resolve().name, "clips": len(clips)}
    print(_write(args, args.out, {clip.id: clip for clip in clips}, about=about))


def _write(
    args: argparse.Namespace, out: Path, clips: dict[str, Clip], *, about: dict[str, Any]
) -> Path:
    """The three files of a report; the path of the page."""
    options = reports.Options(
        PRESETS[args.protocol], args.count, args.seed, splits=args.splits, force=args.force
    )
    rows = list(_rows(out, args.real, _metrics(args.metric), options=options))
    curve = _store(out / "features" / FINAL / "clipsim")
    report = reports.write_report(
        out,
        rows,
        options,
        about=about,
        scores=reports.read_scores(out),
        by_frame=reports.by_frame(curve) if curve else [],
    )
    for row in report["rows"]:
        say(f"{reports.label(row)}, {row['stage']}: {reports.shown_value(row)}")
    write_page(out / "report.html", report, _samples(clips, curve, args.samples, seed=args.seed))
    return out / "report.html"


def _rows(
    out: Path, real: Path | None, metrics: Iterable[str], *, options: reports.Options
) -> Iterable[reports.Row]:
    stages = [*sets.stages_in(out / "features"), FINAL]
    for metric in metrics:
        stores = {stage: _store(out / "features" / stage / metric) for stage in stages}
        reports.check_one_source(metric, [store for store in stores.values() if store])
        against = _store(real / metric) if real else None
        for stage, fake in stores.items():
            if fake is not None:
                yield reports.score(metric, fake, against, options=options, stage=stage)
            elif stage == FINAL:
                known = WEIGHTS[METRICS[metric].network]
                yield reports.not_measured(
                    metric, f"no features; its weights are {known.file}, {known.address}"
                )


def _store(folder: Path) -> Store | None:
    return Store(folder) if (folder / "settings.json").is_file() else None


def _samples(
    clips: dict[str, Clip], curve: Store | None, number: int, *, seed: int
) -> dict[str, list[tuple[Clip, str]]]:
    """What the page shows: some clips, and the best and worst by CLIPSIM."""
    some = [clips[name] for name in drawn(list(clips), number, seed)]
    shown = {"Samples": [(clip, clip.id) for clip in some]}
    if curve is not None:
        values = {k: v for k, v in reports.clip_scores(curve).items() if k in clips}
        order = sorted(values, key=values.get)
        for head, names in (
            ("Highest CLIPSIM", order[: -_EXTREMES - 1 : -1]),
            ("Lowest CLIPSIM", order[:_EXTREMES]),
        ):
            shown[head] = [(clips[name], f"{name}: {values[name]:.4f}") for name in names]
    return shown


# VBench and votes


def _vbench(args: argparse.Namespace) -> None:
    folder = args.run / "vbench"
    names = sets.set_of(args.run).get("about", {})
    clips = {
        names[clip.id]["vbench"]: clip.path
        for clip in sets.run_clips(args.run)
        if "vbench" in names.get(clip.id, {})
    }
    if not clips:
        raise InputError(f"'{args.run}' has no clips of 'evaluate prompts vbench'")
    videos = folder / "videos"
    say(f"{vbench.lay_out(clips, videos):,} of {len(names):,} clips in '{videos}'")
    results = folder / "results"
    scores = vbench.read_results(results) if results.is_dir() else {}
    if scores:
        reports.write_scores(args.run, "VBench", _vbench_rows(scores))
        say(reports.scores_table(_vbench_rows(scores)))
        return
    if args.info is None:
        raise InputError("give --info VBench_full_info.json, for the lines that run VBench")
    file = folder / "run.sh"
    lines = vbench.script(args.vbench_python, *(p.resolve() for p in (videos, args.info, results)))
    sets.write_text(file, lines)
    say(f"run it with: sh {file}; then this command again reads what VBench wrote")
    print(file)


def _vbench_rows(scores: dict[str, float]) -> list[dict[str, Any]]:
    rows = [
        {"name": name, "value": 100 * scores[name], "paper": vbench.PAPER[name]}
        for name in vbench.DIMENSIONS
        if name in scores
    ]
    paper = vbench.totals({name: value / 100 for name, value in vbench.PAPER.items()})
    rows += [
        {"name": name, "value": value, "paper": paper[name]}
        for name, value in vbench.totals(scores).items()
    ]
    return rows


def _pairs(args: argparse.Namespace) -> None:
    sides = [(path.resolve().name, _any_clips(path)) for path in (args.first, args.second)]
    look = Look(args.size, args.frames, args.fps)
    with bar("pairs", unit="pair", total=0) as shown:
        pages = write_pairs(
            sides[0],
            sides[1],
            args.out,
            look=look,
            count=args.count,
            seed=args.seed,
            per_page=args.per_page,
            progress=_moving(shown),
        )
    say(f"keep '{args.out / 'key.csv'}' to yourself; the pages are all that raters need")
    for page in pages:
        print(page)


def _any_clips(path: Path) -> list[Clip]:
    run = (path / "jobs.jsonl").is_file()
    return sets.run_clips(path) if run else sets.folder_clips(path)


def _votes(args: argparse.Namespace) -> None:
    shares = tally(args.study / "key.csv", args.votes)
    rows = [
        {
            "name": f"{share.question}: {share.name} over {share.other}",
            "value": 100 * share.share,
            "low": 100 * share.low,
            "high": 100 * share.high,
            "n": share.votes,
        }
        for share in shares
    ]
    reports.write_scores(args.study, "Votes, in percent, ties counted half", rows)
    print(reports.markdown_table(_VOTE_COLUMNS, [_vote_cells(share) for share in shares]))


_VOTE_COLUMNS = (
    "question",
    "preferred",
    "share",
    "95 % interval",
    "votes",
    "ties",
    "raters",
    "agreement",
    "alpha",
)


def _vote_cells(share: Any) -> tuple[object, ...]:
    return (
        QUESTIONS.get(share.question, share.question),
        f"{share.name} over {share.other}",
        f"{share.share:.1%}",
        f"{share.low:.1%} to {share.high:.1%}",
        share.votes,
        share.ties,
        share.raters,
        reports.number(share.agreement, 2),
        reports.number(share.alpha, 2),
    )


def _weights(args: argparse.Namespace) -> None:
    places = _places(args)
    rows = []
    for name, known in WEIGHTS.items():
        path = found(name, places)
        how = known.get or known.address
        files = ", ".join((known.file, *known.beside))
        rows.append((name, known.what, files, known.identity, path or f"not there: {how}"))
    print(reports.markdown_table(("network", "what", "file", "identity", "where"), rows))


_ACTIONS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "prompts": _prompts,
    "generate": _generate,
    "features": _features,
    "real": _real,
    "report": _report,
    "folder": _folder,
    "vbench": _vbench,
    "pairs": _pairs,
    "votes": _votes,
    "weights": _weights,
}
