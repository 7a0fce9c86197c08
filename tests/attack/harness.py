"""One case in a process of its own, with limits on time and memory, and what became of it."""

import json
import os
import resource
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from show1_engine.errors import LONGEST, Show1Error

SECONDS = 10.0  # of one processor: what else the machine does is no hang of ours
PATIENCE = 60.0  # of the clock
SLACK = 100 * 2**20  # bytes beyond 1.2 times what a valid case of the family takes
GOOD = ("right", "refused")


@dataclass(frozen=True)
class Case:
    """`run` does something hostile and returns nothing, or raises. `valid`: it must succeed, and
    says what memory a case of its family may take."""

    family: str
    name: str
    run: Callable[[], None]
    valid: bool = False


@dataclass
class Outcome:
    """kind: right (finite results), refused (one clear line), raw (another error), long (a message
    past the limit), wrong (a result that is not what it has to be), hang, crash or memory."""

    family: str
    name: str
    kind: str
    text: str = ""
    seconds: float = 0.0
    growth: int = 0  # bytes

    @property
    def good(self) -> bool:
        return self.kind in GOOD


class Wrong(Exception):
    """A case ended without an error and with a result that it must not have."""


def kind_of(error: BaseException) -> tuple[str, str]:
    """What an error that ended a case amounts to."""
    text = str(error)
    if isinstance(error, Wrong):
        return "wrong", text
    if not isinstance(error, Show1Error):
        where = traceback.extract_tb(error.__traceback__)[-1]
        return "raw", f"{type(error).__name__}: {text[:300]} ({where.filename}:{where.lineno})"
    if len(text) > LONGEST or not text.isprintable() or not text:
        return "long", f"{len(text)} characters: {text[:100]!r}"
    return "refused", text


def attack(case: Case, allowed: int | None = None) -> Outcome:
    """Runs the case in a forked child. `allowed`: bytes by which the child may grow."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(case, writing, allowed)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], PATIENCE)
    if not ready:
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read() if ready else b""
    _, status, used = os.wait4(child, 0)
    seconds = used.ru_utime + used.ru_stime
    if not answer:
        why = "hang" if not ready or seconds > SECONDS else "crash"
        return Outcome(case.family, case.name, why, f"status {status}", seconds)
    kind, text, growth = json.loads(answer)
    if seconds > SECONDS:
        kind = "hang"
    elif allowed is not None and growth > allowed and kind in GOOD:
        kind, text = "memory", f"{growth / 2**20:.0f} MB, allowed {allowed / 2**20:.0f}: {text}"
    elif case.valid and kind != "right":
        kind, text = "wrong", f"a valid case: {kind} {text}"
    return Outcome(case.family, case.name, kind, text, seconds, growth)


def _child(case: Case, writing: int, allowed: int | None) -> None:
    """Never returns."""
    before = _resident()
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS) + 5, int(SECONDS) + 6))
    if allowed is not None:  # far beyond what is allowed, so that the machine is not brought down
        limit = _virtual() + 4 * allowed + 2 * 2**30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        case.run()
        kind, text = "right", ""
    except BaseException as error:  # noqa: BLE001  whatever it is, it is what we want to know
        kind, text = kind_of(error)
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(json.dumps([kind, text, max(0, growth)]).encode())
    os._exit(0)


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _virtual() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def campaign(
    cases: list[Case], told: Callable[[Outcome], None] = lambda outcome: None
) -> Iterator[Outcome]:
    """All cases, a family's valid ones first: they say how much memory its others may take."""
    allowed: dict[str, int] = {}
    for case in sorted(cases, key=lambda case: not case.valid):
        outcome = attack(case, allowed.get(case.family))
        if case.valid:
            most = int(outcome.growth * 1.2) + SLACK
            allowed[case.family] = max(allowed.get(case.family, 0), most)
        told(outcome)
        yield outcome


def as_record(outcome: Outcome) -> dict:
    return asdict(outcome)


@contextmanager
def refusing() -> Iterator[None]:
    """Inside, only a refusal is right: reaching the end is a wrong result."""
    yield
    raise Wrong("it was accepted")
