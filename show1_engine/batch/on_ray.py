"""Rows worked on by many processes, on this machine or on a cluster: all that knows Ray."""

import asyncio
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import InputError, printable

Row = dict[str, Any]

_PACK = Path(__file__).absolute().parents[2]
_ANSWERS = 15  # seconds within which a cluster does; Ray itself asks for minutes
_STORE = 512 * 2**20  # bytes of shared memory; rows are small, and frames never go through it


def mapped(
    worker: Callable[..., Callable[[Row], Row]],
    arguments: tuple,
    rows: list[Row],
    *,
    workers: int | None,
    address: str | None,
    gpus: float | None,
    threads: int,
    attempts: int,
) -> Iterator[Row]:
    """What workers make of rows, in the order they are done.

    Every worker is `worker(*arguments)` in a process of its own, called with one row after another.
    A row whose process dies is given to another one. A row that raises, or that kills its process
    more often, does not come back; the others do.

    Args:
        rows: small, and JSON.
        workers: how many; None: as many as there is room for.
        address: of a cluster, "HOST:PORT"; None: one that is started here and ends with this.
        gpus: share of a card that a worker takes; None: 1 where there are cards, else 0.
        threads: CPUs that a worker takes.
        attempts: how often a row is begun whose process dies of it; 0: always again.

    Raises:
        InputError: Ray is not installed, the cluster does not answer, or has no room.
    """
    if not rows:
        return
    with _cluster(address, workers or 1, threads) as ray:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        share = (1.0 if any(node.get("GPU") for node in nodes) else 0.0) if gpus is None else gpus
        context = ray.data.DataContext.get_current()
        context.max_errored_blocks = -1
        context.enable_progress_bars = False
        items = [{"number": i, "row": json.dumps(row)} for i, row in enumerate(rows)]
        # Ray gives the row of a process that died to the next one for ever, and restarts that.
        begun = ray.remote(num_cpus=0)(_Begun).remote() if attempts > 0 else None
        done = ray.data.from_items(items, override_num_blocks=len(items)).map(
            _OneByOne,
            fn_constructor_args=(worker, arguments, begun, attempts),
            # One row at a time: none waits for a process that another one may kill.
            compute=ray.data.ActorPoolStrategy(
                size=_size(nodes, workers, share, threads=threads, rows=len(rows)),
                max_tasks_in_flight_per_actor=1,
            ),
            num_cpus=threads,
            num_gpus=share,
        )
        try:
            for item in done.iter_rows():
                if item["row"]:
                    yield json.loads(item["row"])
        except ray.exceptions.RayError as error:
            last = str(error).strip().splitlines()[-1:]
            raise InputError(
                f"Ray gave up: {printable(*last or [error], 400)}; start again to go on"
            ) from error


class _OneByOne:
    """A worker, given rows as text: a table would even out what differs between them."""

    def __init__(
        self,
        worker: Callable[..., Callable[[Row], Row]],
        arguments: tuple,
        begun: Any,
        attempts: int,
    ):
        self._work, self._begun, self._attempts = worker(*arguments), begun, attempts

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        import ray

        if self._begun is not None:
            if ray.get(self._begun.count.remote(int(item["number"]))) > self._attempts:
                return {"row": ""}
        return {"row": json.dumps(self._work(json.loads(item["row"])))}


class _Begun:
    """How often each row was begun, in a process that no row can end."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def count(self, number: int) -> int:
        self._counts[number] += 1
        return self._counts[number]


@contextmanager
def _cluster(address: str | None, workers: int, threads: int) -> Iterator[Any]:
    """Ray, connected, as long as it is needed."""
    ray = _ray()
    paths = f"{_PACK}{os.pathsep}${{PYTHONPATH}}"
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    common = {
        "runtime_env": {"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)}},
        **quiet,
    }
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        if address is None:
            _on_loopback()
            ray.init(
                "local",
                num_cpus=workers * threads,
                object_store_memory=_STORE,
                include_dashboard=False,
                **common,
            )
        else:
            with ThreadPoolExecutor(1) as thread:  # this one may have a loop that runs
                thread.submit(asyncio.run, _answers(address)).result()
            ray.init(address, **common)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        where = "here" if address is None else f"at '{address}'"
        raise InputError(
            f"Ray cannot be used {where}: {printable(error, 400)} (docs/scale.md says how a "
            "cluster is started)"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


async def _answers(address: str) -> None:
    """OSError or ValueError unless something answers at "HOST:PORT"."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("an address is HOST:PORT, as 'ray start --head' names it")
    try:
        found = asyncio.open_connection(host.strip("[]"), int(port))
        _, writer = await asyncio.wait_for(found, _ANSWERS)
    except (asyncio.TimeoutError, OverflowError):
        raise ValueError(f"nothing answers within {_ANSWERS} s") from None
    writer.close()


def _on_loopback() -> None:
    """Whoever reaches Ray's ports runs code: of a cluster of our own they are for this machine
    alone. On Linux Ray makes any loopback address it is given the network's; this it heeds.
    """
    with suppress(ImportError):
        from ray._private import ray_constants

        ray_constants.ENABLE_RAY_CLUSTER = False


def _ray() -> Any:
    """Ray, told not to report its use to its makers."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(
            "several workers need Ray, which is not installed: say 'pip install \"ray[data]\"', or "
            f"'pip install -r requirements-scale.txt' ({printable(error, 100)})"
        ) from None
    with suppress(ImportError, AttributeError):  # its place has changed, and may again
        from ray._common.usage import usage_lib

        usage_lib.set_usage_stats_enabled_via_env_var(False)
    return ray


def _size(
    nodes: list[dict[str, float]], workers: int | None, gpus: float, *, threads: int, rows: int
) -> int:
    """How many workers there are to be; InputError where there is no room for them."""

    def fit(node: dict[str, float]) -> int:
        by_cpus = int(node.get("CPU", 0) // threads)
        return min(by_cpus, int(node.get("GPU", 0) / gpus + 1e-6)) if gpus else by_cpus

    room = sum(map(fit, nodes))
    if room < (workers or 1):
        wanted = "a worker takes" if workers is None else f"{workers} workers take each"
        cpus, cards = (int(sum(node.get(what, 0) for node in nodes)) for what in ("CPU", "GPU"))
        raise InputError(
            f"{wanted} {threads} CPUs and {gpus:g} of a card, and of the {cpus} CPUs and {cards} "
            f"cards that Ray sees {room} fit; change --workers, --threads or --gpus (such as 0.5)"
        )
    return min(workers or room, rows)
