"""A human study: blind pairs of clips, a page to judge them, and what the votes say."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from string import Template
from typing import Any

from ..errors import InputError
from ..video import write_mp4
from .choices import Sampling
from .clips import number_of, read_clip
from .sets import Clip, write_text

QUESTIONS = {  # the paper's three
    "quality": "Which one looks better?",
    "alignment": "Which one fits the text better?",
    "motion": "Which one moves better?",
}
_TEMPLATE = Path(__file__).with_name("study.html")
_CHOICES = ("a", "b", "tie")
_Z = 1.959963984540054  # of a 95 % interval
_KEY = ("pair", "clip", "a", "b")


@dataclass(frozen=True)
class Look:
    """How both clips of a pair are shown: alike, whatever they came from.

    size: side of the square that is cut out, in pixels; frames: from the centre; fps: of both.
    """

    size: int = 256
    frames: int = 16
    fps: float = 8.0


def write_pairs(
    first: tuple[str, Sequence[Clip]],
    second: tuple[str, Sequence[Clip]],
    out: Path,
    *,
    look: Look,
    count: int | None = None,
    seed: int = 0,
    per_page: int = 32,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Writes a study: `clips/NNNN-{a,b}.mp4`, `page-N.html` for raters, `key.csv` for you alone.

    Clips are matched by id; which of the two is A, and the order of the pairs, follow from the
    seed. Returns the pages.
    """
    pairs = _matched(first, second, count, seed=seed)
    folder = out / "clips"
    folder.mkdir(parents=True, exist_ok=True)
    key, shown = [], []
    for number, (clips, prompt) in enumerate(pairs, 1):
        name = f"{number:04}"
        row: dict[str, Any] = {"pair": name, "prompt": prompt}
        for side, (_, clip) in zip("ab", clips, strict=True):
            path = folder / f"{name}-{side}.mp4"
            _write_alike(path, clip, look)
            row[side] = path
        key.append((name, clips[0][1].id, clips[0][0], clips[1][0]))
        shown.append(row)
        progress(number, len(pairs))
    _write_key(out / "key.csv", key)
    starts = range(0, len(shown), per_page)
    pages = [out / f"page-{i}.html" for i in range(1, len(starts) + 1)]
    for page, start in zip(pages, starts, strict=True):
        _write_study_page(page, shown[start : start + per_page])
    return pages


def _matched(
    first: tuple[str, Sequence[Clip]],
    second: tuple[str, Sequence[Clip]],
    count: int | None,
    *,
    seed: int,
) -> list[tuple[list[tuple[str, Clip]], str]]:
    if first[0] == second[0]:
        raise InputError(f"both sides are called '{first[0]}'; give folders of two names")
    others = {clip.id: clip for clip in second[1]}
    both = [clip for clip in first[1] if clip.id in others]
    if not both:
        raise InputError(
            f"no clip of '{first[0]}' has the name of one of '{second[0]}'; pairs are matched by "
            "name"
        )
    both.sort(key=lambda clip: number_of(seed, "order", clip.id))
    pairs = []
    for clip in both[:count]:
        sides = [(first[0], clip), (second[0], others[clip.id])]
        if number_of(seed, "side", clip.id) % 2:
            sides.reverse()
        pairs.append((sides, clip.caption or others[clip.id].caption))
    return pairs


def _write_alike(path: Path, clip: Clip, look: Look) -> None:
    sampling = Sampling(
        frames=look.frames, size=look.size, antialias=True, resize="bicubic", short="stretch"
    )
    frames = read_clip(clip.path, sampling, clip.id)
    write_mp4(path, frames.float() / 255, look.fps)


def _write_key(path: Path, rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_KEY, *rows])
    write_text(path, text.getvalue())


def _write_study_page(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One file: the clips are in it. It names neither of the two sides."""
    pairs = [
        {"pair": row["pair"], "prompt": row["prompt"], "a": _data(row["a"]), "b": _data(row["b"])}
        for row in rows
    ]
    text = json.dumps(pairs)
    page = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title="Which video is better?",
        count=len(pairs),
        pairs=_in_script(text),
        questions=_in_script(json.dumps(QUESTIONS)),
        study=json.dumps(sha256(text.encode()).hexdigest()[:12]),
    )
    write_text(path, page)


def _in_script(text: str) -> str:
    """JSON that cannot end the script it stands in."""
    return text.replace("<", "\\u003c")


def _data(path: Path) -> str:
    return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()


# What the votes say


@dataclass(frozen=True)
class Share:
    """Of one question: how often `name` was preferred to `other`, ties counted half.

    low, high: Wilson's 95 % interval. agreement: share of equal votes among two raters of a pair;
    alpha: Krippendorff's, 0 is chance. NaN where no pair has two raters.
    """

    question: str
    name: str
    other: str
    votes: int
    wins: int
    ties: int
    share: float
    low: float
    high: float
    raters: int
    agreement: float
    alpha: float


def wilson(wins: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; `wins` may be a half."""
    if count < 1 or not 0 <= wins <= count:
        raise InputError(f"{wins} of {count} is no share")
    share, z = wins / count, _Z**2 / count
    middle = share + z / 2
    reach = _Z * math.sqrt(share * (1 - share) / count + z / (4 * count))
    return max(0.0, (middle - reach) / (1 + z)), min(1.0, (middle + reach) / (1 + z))


def tally(key: Path, votes: Sequence[Path]) -> list[Share]:
    """Shares by question, from the key of `write_pairs` and files of votes.

    Lines of votes: rater,pair,question,choice (a, b or tie). A rater's later vote replaces an
    earlier one. InputError names the file and line of what is none.
    """
    sides = {row["pair"]: (row["a"], row["b"]) for row in _table(key, _KEY)}
    if not sides:
        raise InputError(f"'{key}' holds no pairs")
    name = min(sides.values())[0]
    other = next(side for side in min(sides.values()) if side != name)
    given: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    for path in votes:
        for number, row in enumerate(_table(path, ("rater", "pair", "question", "choice")), 2):
            if row["pair"] not in sides or row["choice"] not in _CHOICES:
                raise InputError(
                    f"'{path}', line {number}: pair '{row['pair']}', choice '{row['choice']}'; "
                    f"the key has {len(sides)} pairs, choices are {', '.join(_CHOICES)}"
                )
            kept = _preferred(row["choice"], sides[row["pair"]])
            given[row["question"]][row["pair"], row["rater"]] = kept
    return [_share(question, found, name, other=other) for question, found in given.items()]


def _preferred(choice: str, sides: tuple[str, str]) -> str:
    return "" if choice == "tie" else sides["ab".index(choice)]


def _table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"'{path}' cannot be read as a table: {error}") from error
    for row in rows:
        if any(not row.get(column) for column in columns):
            raise InputError(f"'{path}' needs the columns {', '.join(columns)} in every line")
    return rows


def _share(question: str, found: Mapping[tuple[str, str], str], name: str, *, other: str) -> Share:
    counts = Counter(found.values())
    wins, ties, votes = counts[name], counts[""], len(found)
    low, high = wilson(wins + ties / 2, votes)
    by_pair: dict[str, list[str]] = defaultdict(list)
    for (pair, _), choice in found.items():
        by_pair[pair].append(choice)
    agreement, alpha = agreement_of(by_pair.values())
    return Share(
        question,
        name,
        other,
        votes=votes,
        wins=wins,
        ties=ties,
        share=(wins + ties / 2) / votes,
        low=low,
        high=high,
        raters=len({rater for _, rater in found}),
        agreement=agreement,
        alpha=alpha,
    )


def agreement_of(units: Iterable[Sequence[str]]) -> tuple[float, float]:
    """Mean agreement of two raters of a unit, and Krippendorff's alpha for names.

    NaN without a unit of two votes; alpha also where all votes are one.
    """
    units = [votes for votes in units if len(votes) > 1]
    if not units:
        return math.nan, math.nan
    total = sum(map(len, units))
    equal = sum(
        2 * sum(a == b for a, b in combinations(votes, 2)) / (len(votes) - 1) for votes in units
    )
    counts = Counter(vote for votes in units for vote in votes)
    chance = sum(n * (n - 1) for n in counts.values()) / (total * (total - 1))
    agreement = equal / total
    alpha = (agreement - chance) / (1 - chance) if chance < 1 else math.nan
    return agreement, alpha
