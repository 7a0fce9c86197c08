"""The command line, whose workers meet two clips that cannot be made: one that raises, and one that
ends its process each time. Arguments: the command's.
"""

import os
import sys

from torch import Tensor

from show1_engine.__main__ import main
from show1_engine.batch import worker

RAISES, ENDS = "raises", "ends"


class Poisoned(worker.Worker):
    def __init__(self, *given: object):
        super().__init__(*given, observe=poison)


def poison(row: dict, name: str, images: Tensor) -> None:
    if row["id"] == RAISES:
        raise TypeError("nobody thought of this")
    if row["id"] == ENDS:
        os._exit(9)


if __name__ == "__main__":
    worker.Worker = Poisoned
    sys.exit(main(sys.argv[1:]))
