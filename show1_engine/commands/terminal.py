"""What the commands show while they work: bars on a terminal, and in a pipe only finished lines.

All of it goes to stderr; results (the paths of what was written) are printed to stdout.
"""

import sys
from typing import Any

from tqdm import tqdm


def say(text: str) -> None:
    """A line on stderr, above the bars."""
    tqdm.write(text, file=sys.stderr)


def bar(name: str, **how: Any) -> tqdm:
    """A bar on stderr, with the time left; nothing at all where stderr is no terminal."""
    return tqdm(desc=name, file=sys.stderr, disable=None, leave=False, dynamic_ncols=True, **how)


class Bar:
    """A stage's report(): one bar, gone when its steps are done. Previews are not shown.

    What works piece by piece reports from its first step again with every piece, and the bar starts
    again too. `unit` is what its steps are, and `note` stands behind the bar.
    """

    def __init__(self, name: str, unit: str = "step"):
        self.name, self.unit, self.note = name, unit, ""
        self._bar: tqdm | None = None
        self._planned = ""

    def __call__(self, step: int, total: int, preview: object = None) -> None:
        if self._bar is None:
            # The first step, which also warms up, does not count for the time left.
            self._bar = bar(self.name, unit=self.unit, initial=step, total=total)
        self._bar.set_postfix_str(self.note, refresh=False)
        self._bar.total = total
        self._bar.update(step - self._bar.n)
        if step >= total:
            self.close()

    def plan(self, text: str) -> None:
        """What a stage is about to do; said once, not again for every piece that is done alike."""
        if text != self._planned:
            say(f"{self.name}: {text}")
        self._planned = text

    def restart(self) -> None:
        """What follows is other work: its pace is measured anew."""
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None
