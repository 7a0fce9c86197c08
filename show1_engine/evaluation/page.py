"""A page of a run that people look at: scores, drawings, clips with captions. One file, offline."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import torch
import torch.nn.functional as F

from ..video import VideoReader, write_mp4
from .charts import Bar, bars, line
from .report import label, number, shown_value
from .sets import FINAL, Clip, write_text

_TEMPLATE = Path(__file__).with_name("page.html")
_SIDE = 192  # the longer side of a clip on the page, in pixels
_TINY = 100  # below, pixels are shown as squares
_LONGEST = 64  # frames
_SCORES = ("score", "value", "clips", "the paper", "what it is")


def write_page(
    path: Path, report: Mapping[str, Any], samples: Mapping[str, Sequence[tuple[Clip, str]]]
) -> None:
    """Writes the page. samples: by heading, clips and a line of text under each."""
    title = f"Evaluation: {report['set'].get('set', path.parent.name)}"
    page = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        intro=_intro(report),
        scores=_score_table(report),
        charts=_charts(report),
        samples="".join(_grid(head, clips) for head, clips in samples.items() if clips),
        choices="".join(map(_choices, report["rows"])) or '<p class="soft">None.</p>',
    )
    write_text(path, page)


def _intro(report: Mapping[str, Any]) -> str:
    about = ", ".join(f"{name}: {_short(name, value)}" for name, value in report["set"].items())
    lines = [
        about,
        f"Protocol {report['preset']}: {report['says']}.",
        f"Engine {report['engine']}. In the drawings orange marks are the paper's numbers, thin "
        "lines standard errors or 95 % intervals.",
    ]
    return "".join(f'<p class="soft">{escape(text)}</p>' for text in lines if text)


def _short(name: str, value: object) -> str:
    return str(value)[:16] if name == "sha256" else str(value)


def _score_table(report: Mapping[str, Any]) -> str:
    rows = [_metric_cells(row) for row in report["rows"] if row["stage"] == FINAL]
    for title, scores in report.get("scores", {}).items():
        rows += [_score_cells(title, row) for row in scores]
    return _table(_SCORES, rows)


def _metric_cells(row: Mapping[str, Any]) -> str:
    count = f"{row['n_fake']:,}" if row["value"] is not None else "-"
    if row["n_real"]:
        count += f" and {row['n_real']:,} real"
    rest = (count, number(row["paper"]), row["definition"])
    return _cells(label(row), _value_cell(row), rest)


def _score_cells(title: str, row: Mapping[str, Any]) -> str:
    value = _value_cell({"why": "", "error": None, **row})
    return _cells(row["name"], value, (row.get("n", "-"), number(row.get("paper")), title))


def _value_cell(row: Mapping[str, Any]) -> str:
    none = " none" if row["value"] is None else ""
    return f'<td class="value{none}">{escape(shown_value(row))}</td>'


def _cells(name: object, value: str, rest: tuple[object, object, object]) -> str:
    plain = [
        f'<td class="number" data-is="{head}">{escape(str(cell))}</td>'
        for head, cell in zip(_SCORES[2:4], rest[:2], strict=True)
    ]
    return f"<td>{escape(str(name))}</td>{value}{''.join(plain)}<td>{escape(str(rest[2]))}</td>"


def _table(header: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _charts(report: Mapping[str, Any]) -> str:
    drawings = []
    names = {label(row): row["metric"] for row in report["rows"] if row["stage"] != FINAL}
    for name in names:
        drawings.append(_by_stage(report, name))
    if curve := report.get("by_frame"):
        drawings.append(("CLIPSIM by frame", line(curve, "CLIPSIM by frame", axis="frame")))
    for title, scores in report.get("scores", {}).items():
        drawings.append((title, bars([_bar(row) for row in scores if row["value"]], title)))
    if not any(drawing for _, drawing in drawings):
        return ""
    figures = "".join(
        f"<figure><figcaption>{escape(title)}</figcaption>{drawing}</figure>"
        for title, drawing in drawings
    )
    return f'<h2>Drawn</h2><div class="charts">{figures}</div>'


def _by_stage(report: Mapping[str, Any], name: str) -> tuple[str, str]:
    rows = [row for row in report["rows"] if label(row) == name and row["value"] is not None]
    rows.sort(key=lambda row: row["stage"] == FINAL)
    return f"{name} after each stage", bars(
        [_bar({**row, "name": row["stage"]}) for row in rows], f"{name} after each stage"
    )


def _bar(row: Mapping[str, Any]) -> Bar:
    value, error = row["value"], row.get("error")
    low, high = row.get("low"), row.get("high")
    if error is not None:
        low, high = value - error, value + error
    text = shown_value({"why": "", "error": None, **row})
    return Bar(row["name"], value, low=low, high=high, mark=row.get("paper"), text=text)


def _grid(heading: str, clips: Sequence[tuple[Clip, str]]) -> str:
    cells = "".join(_clip(clip, text) for clip, text in clips)
    return (
        f'<div class="head"><h2>{escape(heading)}</h2><button class="play">Pause</button></div>'
        f'<div class="grid">{cells}</div>'
    )


def _clip(clip: Clip, text: str) -> str:
    data, tiny = _embedded(clip.path)
    caption = clip.caption or clip.label or clip.id
    return (
        f'<div class="clip{" tiny" if tiny else ""}"><video muted loop playsinline preload="auto" '
        f'aria-label="{escape(caption)}" src="{data}"></video>'
        f'<p>{escape(caption)}</p><p class="soft">{escape(text)}</p></div>'
    )


def _embedded(path: Path) -> tuple[str, bool]:
    """A video file as a data address, made small; and whether it is tiny."""
    with VideoReader(path) as video:
        fps, frames = video.fps, []
        for frame in video:
            frames.append(frame)
            if len(frames) == _LONGEST:
                break
    images = torch.stack(frames)
    longer = max(images.shape[1:3])
    if longer > _SIDE:
        size = [max(2, round(side * _SIDE / longer)) for side in images.shape[1:3]]
        planes = F.interpolate(images.movedim(-1, 1), size=size, mode="bilinear", antialias=True)
        images = planes.movedim(1, -1)
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "clip.mp4"
        write_mp4(small, images, fps)
        data = base64.b64encode(small.read_bytes()).decode()
    return f"data:video/mp4;base64,{data}", longer < _TINY


def _choices(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return ""
    lines = list(row["choices"].items())
    if row["error"] is not None:
        lines.append(("standard error", row["error_is"]))
    cells = [
        f'<td>{escape(str(name))}</td><td class="choice">{escape(str(value))}</td>'
        for name, value in lines
    ]
    notes = "".join(f"<li>{escape(note)}</li>" for note in row["notes"])
    return (
        f"<details><summary>{escape(label(row))}, {escape(row['stage'])}: "
        f"{escape(shown_value(row))}</summary>{_table(('choice', 'value'), cells)}"
        f"<ul>{notes}</ul></details>"
    )
