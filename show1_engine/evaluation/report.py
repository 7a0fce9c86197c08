"""From features to numbers: report.json, and as Markdown, with every choice beside them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .choices import BEST_OF_ONE, FID_VID, METRICS, PAPER, STAGES, Preset
from .features import Store, drawn
from .metrics import (
    Moments,
    frechet,
    frechet_of_few,
    inception_score,
    mean_and_error,
    softmax,
)
from .sets import FINAL, write_text

_SEEN = ("frames", "stride", "place", "size", "fit", "resize", "antialias")
_FOLDS = 5  # disjoint parts whose spread gives a standard error
_PYPROJECT = Path(__file__).absolute().parents[2] / "pyproject.toml"


@dataclass(frozen=True)
class Options:
    """What a report is asked for.

    count: clips of each kind; None: the preset's, or all where there are fewer.
    seed: of the draw of clips.
    splits: of the Inception score; None: the preset's.
    force: unequal counts, and an Inception score of few clips, are meant.
    """

    preset: Preset
    count: int | None = None
    seed: int = 0
    splits: int | None = None
    force: bool = False


@dataclass
class Row:
    """A number and all that it depends on. `value` None: not measured, `why` says why."""

    metric: str
    definition: str
    stage: str = FINAL
    value: float | None = None
    error: float | None = None
    error_is: str = ""
    n_fake: int = 0
    n_real: int | None = None
    paper: float | None = None
    paper_at: str = ""
    why: str = ""
    choices: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def score(
    metric: str, fake: Store, real: Store | None, options: Options, *, stage: str = FINAL
) -> Row:
    """One metric of one set of features. Raises InputError for what must not be compared."""
    about = METRICS[metric]
    row = Row(metric, about.definition, stage, choices=_choices(fake, real))
    if about.against and real is None:
        row.why = "no features of real clips (--real)"
        return row
    if about.against and fake.settings["weights"] != real.settings["weights"]:
        raise InputError(
            f"{metric}: generated and real clips were seen by networks of different weights "
            f"({fake.settings['weights'][:12]}, {real.settings['weights'][:12]}); make one again"
        )
    _SCORES[metric](row, fake, real, options=options)
    return row


def check_one_source(metric: str, stores: Sequence[Store]) -> None:
    """InputError where some stages' features are of frames, and others' of videos."""
    sources = {store.settings.get("source"): store.folder for store in stores}
    if len(sources) > 1:
        places = ", ".join(f"'{folder}' of {source}" for source, folder in sources.items())
        raise InputError(
            f"{metric}: {places}: stages compare only where all are of frames before encoding, or "
            "all of videos; delete one of them and make it again"
        )


def _choices(fake: Store, real: Store | None) -> dict[str, Any]:
    own = {name: value for name, value in fake.settings.items() if name != "metric"}
    if real is not None:
        for name in ("source", *_SEEN):
            if real.settings.get(name) != own.get(name):
                own[f"real {name}"] = real.settings.get(name)
    return own


@dataclass(frozen=True)
class _Side:
    """Some clips of a store."""

    store: Store
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, part: slice) -> _Side:
        return _Side(self.store, self.names[part])

    def distance(self, other: _Side, ddof: int) -> float:
        """The Frechet distance, by whichever form is exact and cheaper."""
        first = next(self.store.rows(self.names[:1]))
        if len(first) * max(len(self), len(other)) <= first.shape[1]:
            tables = [side.store.table(side.names) for side in (self, other)]
            return frechet_of_few(*tables, ddof=ddof)
        parts = [Moments.of_parts(side.store.rows(side.names)) for side in (self, other)]
        return frechet(*parts, ddof=ddof)


def _frechet(row: Row, fake: Store, real: Store, *, options: Options) -> None:
    row.n_fake, row.n_real = _counts(row, fake, real, options=options)
    against = _Side(real, drawn(real.names(), row.n_real, options.seed))
    draws = [_Side(fake, names) for names in _draws(fake.names(), row.n_fake, options)]
    ddof = options.preset.ddof
    values = [draw.distance(against, ddof) for draw in draws]
    row.value = float(np.mean(values))
    row.choices |= {"ddof": ddof, "draw seed": options.seed, "draws": len(values)}
    if len(values) > 1:
        row.error = mean_and_error(values)[1]
        row.error_is = f"of {len(values)} draws of {row.n_fake:,} clips"
    else:
        _add_fold_error(row, draws[0], against, ddof=ddof)
    half = len(against) // 2
    if half > 1:
        floor = against[:half].distance(against[half : 2 * half], ddof)
        row.notes.append(
            f"two halves of the real clips, {half:,} each, are {floor:.4g} apart: that is no "
            "difference at all, but the bias of few clips"
        )
    if row.metric != "fvd":
        row.notes.append(FID_VID)
    if row.n_fake < (wanted := options.preset.count):
        row.notes.append(
            f"{row.n_fake:,} clips, not the protocol's {wanted:,}: the distance is biased upwards, "
            "and compares only with others of as many clips"
        )


def _counts(row: Row, fake: Store, real: Store, *, options: Options) -> tuple[int, int]:
    """How many clips of each kind: equal, unless forced."""
    there = (len(fake), len(real))
    for store in (fake, real):
        if not len(store):
            raise InputError(f"'{store.folder}' holds features of no clip; make them first")
    if options.count is not None:
        if options.count > min(there) or options.count < 2:
            raise InputError(
                f"{row.metric}: --count {options.count:,}, and there are {there[0]:,} generated "
                f"and {there[1]:,} real clips; give 2 to {min(there):,}"
            )
        return options.count, options.count
    if min(there) >= options.preset.count:
        return options.preset.count, options.preset.count
    if there[0] != there[1] and not options.force:
        raise InputError(
            f"{row.metric}: {there[0]:,} generated and {there[1]:,} real clips; distances of "
            f"unequal numbers compare with nothing. Take --count {min(there)} of both, or --force"
        )
    if there[0] != there[1]:
        row.notes.append("unequal numbers of clips (--force): compares with nothing")
    return there


def _draws(names: Sequence[str], count: int, options: Options) -> list[list[str]]:
    """The clips of each repeat, disjoint, as many repeats as there are clips for."""
    repeats = max(1, min(options.preset.repeats, len(names) // count))
    ordered = drawn(names, repeats * count, options.seed)
    return [ordered[i * count : (i + 1) * count] for i in range(repeats)]


def _add_fold_error(row: Row, fake: _Side, real: _Side, ddof: int) -> None:
    """Variance falls as 1/n, so the spread of disjoint parts over the root of their number."""
    if min(len(fake), len(real)) < 2 * _FOLDS:
        return
    parts = [slice(k, None, _FOLDS) for k in range(_FOLDS)]
    row.error = mean_and_error(fake[part].distance(real[part], ddof) for part in parts)[1]
    row.error_is = f"from {_FOLDS} disjoint parts, scaled to all"


def _inception(row: Row, fake: Store, real: Store | None, *, options: Options) -> None:
    preset, names = options.preset, fake.names()
    if len(names) > (count := options.count or preset.score_count):
        names = sorted(drawn(names, count, options.seed))
    if len(names) < BEST_OF_ONE and not options.force:
        raise InputError(
            f"is: {len(names):,} clips; of fewer than {BEST_OF_ONE:,} an Inception score says "
            "little. Leave it out of --metric, or --force"
        )
    splits = min(options.splits or preset.splits, len(names))
    mean, spread = inception_score(softmax(fake.table(names)), splits, preset.score_seed)
    row.value, row.n_fake = mean, len(names)
    row.error, row.error_is = spread / math.sqrt(splits), f"of {splits} splits (sd {spread:.4g})"
    row.choices |= {"splits": splits, "shuffle seed": preset.score_seed}
    if len(names) < preset.score_count:
        row.notes.append(
            f"{len(names):,} clips, not the protocol's {preset.score_count:,}: {splits} splits of "
            "fewer clips give a lower score"
        )


def _clipsim(row: Row, fake: Store, real: Store | None, *, options: Options) -> None:
    names = fake.names()
    if not names:
        row.why = "no clip has a caption"
        return
    if options.count is not None:
        names = drawn(names, options.count, options.seed)
    means = [float(fake.read(name).astype(np.float64).mean()) for name in names]
    row.value, row.error = mean_and_error(means)
    row.error = None if math.isnan(row.error) else row.error
    row.error_is, row.n_fake = "of the clips' mean", len(names)
    row.choices["captions"] = "one a clip, cut off at 77 tokens"


_SCORES: dict[str, Callable[..., None]] = {
    "fvd": _frechet,
    "is": _inception,
    "fid_frames": _frechet,
    "fid_clip": _frechet,
    "clipsim": _clipsim,
}


def not_measured(metric: str, why: str, stage: str = FINAL) -> Row:
    """A row that says why there is no number; never a 0."""
    return Row(metric, METRICS[metric].definition, stage, why=why)


def clip_scores(store: Store) -> dict[str, float]:
    """CLIPSIM of each clip."""
    return {name: float(store.read(name).mean()) for name in store.names()}


def by_frame(store: Store) -> list[float]:
    """CLIPSIM of each frame, mean over the clips that are so long."""
    rows = [store.read(name).astype(np.float64) for name in store.names()]
    return [
        float(np.mean([row[i] for row in rows if len(row) > i]))
        for i in range(max(map(len, rows), default=0))
    ]


def write_report(
    out: Path, rows: Iterable[Row], options: Options, *, about: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    """Writes report.json and report.md into a folder; returns what report.json holds.

    about: what set.json says. more: further JSON-ready parts, such as "scores" and "by_frame".
    """
    rows = list(rows)
    known = str(about.get("set", ""))
    for row in rows:
        _set_paper(row, known, options)
    report = {
        "set": {name: value for name, value in about.items() if name != "about"},
        "preset": options.preset.name,
        "says": options.preset.says,
        "engine": version(),
        "rows": [asdict(row) for row in rows],
        **more,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "report.json", json.dumps(_plain(report), indent=1) + "\n")
    write_text(out / "report.md", markdown(report))
    return report


def _set_paper(row: Row, known: str, options: Options) -> None:
    """The paper's number beside ours, where it is of the same set and network."""
    published = row.choices.get("network") in (None, METRICS[row.metric].network)
    if not published:
        return
    if row.stage == FINAL and (known, row.metric) in PAPER:
        row.paper, row.paper_at = PAPER[known, row.metric]
    if row.stage != FINAL and row.metric == "fvd" and known == "ucf101":
        row.paper, row.paper_at = STAGES.get(row.stage), "FVD after each stage"


def _plain(value: Any) -> Any:
    """NaN becomes null: JSON has none."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def version() -> str:
    """The pack's."""
    found = re.search(r'^version = "(.+)"', _PYPROJECT.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else "unknown"


# Markdown


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; cells as they are written, bars in them escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def number(value: float | None, digits: int = 4) -> str:
    """A number in a table; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"


def shown_value(row: Mapping[str, Any]) -> str:
    """A value with its standard error, or why there is none."""
    if row["value"] is None:
        return f"not measured: {row['why']}"
    error = f" \u00b1 {number(row['error'], 2)}" if row["error"] is not None else ""
    return number(row["value"]) + error


def label(row: Mapping[str, Any]) -> str:
    """A metric's name; with its network, where that is not the field's."""
    network = row["choices"].get("network")
    other = network not in (None, METRICS[row["metric"]].network)
    return f"{row['metric']} ({network})" if other else row["metric"]


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report."""
    about = ", ".join(f"{name} {value}" for name, value in report["set"].items())
    parts = [
        "# Evaluation",
        f"Set: {about or 'a folder of clips'}. Engine {report['engine']}.",
        f"Protocol `{report['preset']}`: {report['says']}.",
        markdown_table(
            ("metric", "stage", "value", "clips", "real clips", "the paper", "what it is"),
            [
                (
                    label(row),
                    row["stage"],
                    shown_value(row),
                    f"{row['n_fake']:,}",
                    "-" if row["n_real"] is None else f"{row['n_real']:,}",
                    _paper_cell(row),
                    row["definition"],
                )
                for row in report["rows"]
            ],
        ),
    ]
    for title, scores in report.get("scores", {}).items():
        parts += [f"## {title}", scores_table(scores)]
    parts.append("## Choices")
    for row in report["rows"]:
        if row["value"] is not None:
            parts += [f"### {label(row)}, {row['stage']}", _choices_table(row)]
    return "\n\n".join(parts) + "\n"


def _paper_cell(row: Mapping[str, Any]) -> str:
    return f"{row['paper']:g} ({row['paper_at']})" if row["paper"] is not None else "-"


def _choices_table(row: Mapping[str, Any]) -> str:
    lines = [(name, value) for name, value in row["choices"].items()]
    if row["error"] is not None:
        lines.append(("standard error", row["error_is"]))
    table = markdown_table(("choice", "value"), lines)
    return "\n\n".join([table, *(f"- {note}" for note in row["notes"])])


def scores_table(scores: Sequence[Mapping[str, Any]]) -> str:
    """Scores that others computed: name, value, its error, of how many, the paper's."""
    return markdown_table(
        ("score", "value", "n", "the paper"),
        [
            (
                row["name"],
                shown_value({"why": "", **row, "error": row.get("error")}),
                row.get("n", "-"),
                number(row.get("paper")),
            )
            for row in scores
        ],
    )


# Scores that others computed: VBench, the recogniser, votes


def write_scores(folder: Path, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keeps scores beside a run, for its report: name, value, and if known error, low, high, n,
    paper.
    """
    path = folder / "scores"
    path.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "-", title.lower()).strip("-")
    content = _plain({"title": title, "rows": list(rows)})
    write_text(path / f"{name}.json", json.dumps(content, indent=1) + "\n")


def read_scores(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """All scores that were kept beside a run, by title."""
    found = {}
    for path in sorted((folder / "scores").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        found[content["title"]] = content["rows"]
    return found
