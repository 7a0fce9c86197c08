"""Drawings for the page of a run, as SVG: bars with intervals, a line over frames. No library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _ROW = 480, 30  # of the drawing, in its own units: about a pixel each on a card
_LETTER = 7.6  # the width of one, about
_HEIGHT, _FOOT = 190, 26


@dataclass(frozen=True)
class Bar:
    """A value with its interval; `mark`: the paper's value."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    mark: float | None = None
    text: str = ""


def bars(rows: Sequence[Bar], title: str, least: float | None = None) -> str:
    """Horizontal bars from 0 (or `least`) on, each with its value written beside it."""
    ends = [x for row in rows for x in (row.value, row.high, row.mark) if x is not None]
    top = max([end for end in ends if math.isfinite(end)], default=1.0) or 1.0
    start = least or 0.0
    texts = [row.text or f"{row.value:.4g}" for row in rows]
    left = _LETTER * max((len(row.name) for row in rows), default=0) + 12
    right = _LETTER * max(map(len, texts), default=0) + 12
    scale = max(_WIDTH - left - right, 60) / max(top - start, 1e-12)

    def at(value: float) -> float:
        return left + max(0.0, value - start) * scale

    lines = []
    for i, (row, text) in enumerate(zip(rows, texts, strict=True)):
        y = i * _ROW
        width = at(row.value) - left
        lines.append(
            f'<text x="{left - 8:.1f}" y="{y + 20}" class="name">{escape(row.name)}</text>'
            f'<rect x="{left:.1f}" y="{y + 6}" width="{width:.1f}" height="18" class="bar"/>'
        )
        if row.low is not None and row.high is not None:
            low, high = at(row.low), at(row.high)
            lines.append(
                f'<path d="M{low:.1f} {y + 15}H{high:.1f}M{low:.1f} {y + 10}v10'
                f'M{high:.1f} {y + 10}v10" class="error"/>'
            )
        if row.mark is not None:
            lines.append(f'<path d="M{at(row.mark):.1f} {y + 2}v26" class="mark"/>')
        end = max(at(x) for x in (row.value, row.high, row.mark) if x is not None)
        lines.append(f'<text x="{end + 8:.1f}" y="{y + 20}">{escape(text)}</text>')
    return _drawing(lines, len(rows) * _ROW, title)


def line(values: Sequence[float], title: str, axis: str) -> str:
    """A line over 0, 1, 2 ..., its lowest and highest value written at the left."""
    low, high = min(values), max(values)
    spread = (high - low) or abs(high) or 1.0
    low, high = low - 0.1 * spread, high + 0.1 * spread
    left, right, top, foot = 60, 12, 10, _HEIGHT - _FOOT
    across = (_WIDTH - left - right) / max(len(values) - 1, 1)
    points = [
        f"{left + i * across:.1f},{foot - (value - low) / (high - low) * (foot - top):.1f}"
        for i, value in enumerate(values)
    ]
    lines = [
        f'<path d="M{left} {top}V{foot}H{_WIDTH - right}" class="axis"/>',
        f'<polyline points="{" ".join(points)}" class="line"/>',
        f'<text x="{left - 6}" y="{top + 8}" class="name">{high:.3g}</text>',
        f'<text x="{left - 6}" y="{foot}" class="name">{low:.3g}</text>',
        f'<text x="{left}" y="{_HEIGHT - 6}">0</text>',
        f'<text x="{_WIDTH - right}" y="{_HEIGHT - 6}" class="name">'
        f"{escape(axis)} {len(values) - 1}</text>",
    ]
    return _drawing(lines, _HEIGHT, title)


def _drawing(lines: list[str], height: int, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(lines)}</svg>"
    )
