"""python -m show1_engine download: published models, fetched only when asked for."""

import argparse

from tqdm import tqdm

from ..checkpoints.download import Report, download
from ..checkpoints.registry import PUBLISHED
from .terminal import bar


def run(args: argparse.Namespace) -> None:
    if args.list or not args.names:
        for item in PUBLISHED.values():
            print(f"{item.name}: {item.what}, {item.size}. {item.terms}")
    for name in args.names:
        with bar(name, unit="B", unit_scale=True, total=0) as shown:
            folder = download(name, args.into, args.accept_license, report=_report(shown))
        print(folder)


def _report(shown: tqdm) -> Report:
    """Moves the bar; behind it stands the file that comes, or what is waited for."""

    def report(done: int, total: int, text: str) -> None:
        shown.n, shown.total = done, total
        shown.set_postfix_str(text.splitlines()[-1])

    return report
