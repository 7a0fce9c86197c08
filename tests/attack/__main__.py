"""The whole campaign: python tests/attack [--seed N] [--only FAMILY ...] [--most N] [--out FILE].
See scripts/attack."""

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

import torch  # noqa: E402

torch.set_num_threads(1)

import diffusers  # noqa: E402, F401  loaded once, before the forks
import transformers  # noqa: E402, F401
from harness import Outcome, as_record, campaign  # noqa: E402
from on_host import campaign_on_host  # noqa: E402
from selection import chosen  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument(
        "--most", type=int, default=4000, help="cases, drawn evenly from the families"
    )
    parser.add_argument("--out", type=Path, help="every outcome, as JSON")
    args = parser.parse_args()
    begin, counts, bad, all_of_them = time.monotonic(), Counter(), [], []
    for outcome in _outcomes(random.Random(args.seed), args):
        counts[outcome.family, outcome.kind] += 1
        all_of_them.append(as_record(outcome))
        if not outcome.good:
            bad.append(outcome)
            _tell(outcome)
    for family, kind in sorted(counts):
        print(f"{family:12} {kind:8} {counts[family, kind]:6}")
    print(
        f"{sum(counts.values())} cases in {time.monotonic() - begin:.0f} s, {len(bad)} of them bad "
        f"(seed {args.seed})"
    )
    if args.out:
        args.out.write_text(json.dumps(all_of_them, indent=0))
    return bool(bad)


def _outcomes(rng: random.Random, args: argparse.Namespace) -> Iterator[Outcome]:
    """Graphs on a real host are the last fifth of the cases."""
    graphs = args.most // 5 if not args.only else args.most if "graph" in args.only else 0
    engine = [name for name in args.only if name != "graph"]
    if engine or not args.only:
        yield from campaign(chosen(rng, args.most - graphs, engine))
    if graphs:
        yield from campaign_on_host(rng, graphs)


def _tell(outcome: Outcome) -> None:
    print(
        f"BAD {outcome.kind}: {outcome.family}: {outcome.name[:200]!a}: {outcome.text[:400]!a} "
        f"({outcome.seconds:.1f} s, {outcome.growth / 2**20:.0f} MB)",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
