"""Progress: what a stage reports while it works, and how it is put into words."""

import logging
import time
from collections.abc import Callable

from torch import Tensor

Preview = Callable[[], Tensor]
Report = Callable[[int, int, Preview | None], None]

log = logging.getLogger(__name__)


def silent(step: int, total: int, preview: Preview | None = None) -> None:
    """A report() nobody listens to."""


def shifted(report: Report, done: int, total: int) -> Report:
    """report() for one of several runs that share a progress bar of `total` steps, `done` of them
    before it.
    """

    def part(step: int, _: int, preview: Preview | None = None) -> None:
        report(done + step, total, preview)

    part.plan = getattr(report, "plan", None)
    return part


def previewing(report: Report, to_frames: Callable[[Tensor], Tensor]) -> Report:
    """report() whose previews are frames (F, H, W, 3) made from the predicted clean sample."""
    return lambda step, total, preview=None: report(
        step, total, preview and (lambda: to_frames(preview()))
    )


def announce(report: Report, stage: str, text: str) -> None:
    """The plan of a run: one line in the log, and on the node where there is one."""
    log.info("%s: %s", stage, text)
    plan = getattr(report, "plan", None)
    if plan is not None:
        plan(text)


def counted(number: int, what: str) -> str:
    """ "1 window", "2 windows"."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


class Clock:
    """Time left, from the pace of the steps so far; the first step, which also warms up, does not
    count.
    """

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def left(self, step: int, total: int) -> float | None:
        """Seconds until `total`; None until there is a pace."""
        now = time.monotonic()
        if self._first is None or step <= self._first[0]:
            self._first = step, now
            return None
        return (now - self._first[1]) / (step - self._first[0]) * (total - step)


def duration(seconds: float) -> str:
    """ "40 s", "12 min" or "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
