"""python -m benchmarks: what the cascade costs, side by side with a plain baseline."""

import argparse
import sys
from pathlib import Path

from show1_engine.errors import Show1Error

_RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> int:
    """Measures and writes tables; an error a user can act on is one line and exit code 2."""
    try:
        return _bench(_parser().parse_args(arguments))
    except (Show1Error, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks", description="measure speed and memory, write tables"
    )
    add = command.add_argument
    add("--out", type=Path, default=_RESULTS, metavar="DIR", help="default: %(default)s")
    add("--repeats", type=int, default=3, help="of the micro part (default: %(default)s)")
    add(
        "--compile",
        action="store_true",
        help="the micro part also with torch.compile; minutes more",
    )
    add(
        "--no-full-size",
        action="store_true",
        help="the micro part alone (no 7 GB of random weights)",
    )
    add(
        "--gpu",
        action="store_true",
        help="instead: the full-size cascade at the paper's sizes on a card",
    )
    add("--device", default="cuda", help="of --gpu (default: %(default)s)")
    add(
        "--limits",
        type=float,
        nargs="*",
        default=[12, 8, 6, 4],
        metavar="GB",
        help="of --gpu: less and less memory",
    )
    add(
        "--comfyui",
        type=Path,
        metavar="DIR",
        help="of --gpu: ComfyUI's source tree, for its memory manager",
    )
    add(
        "--dtype",
        default="default",
        help="of --gpu: weights, fp16 or fp8_e4m3fn_fast for instance",
        choices=["default", "fp16", "bf16", "fp8_e4m3fn", "fp8_e4m3fn_fast"],
    )
    add(
        "--peak-tflops",
        type=float,
        help="of --gpu: what the card's maker promises, to compare with",
    )
    return command


def _bench(args: argparse.Namespace) -> int:
    from . import bench, gpu

    if args.gpu:
        results = gpu.run(
            args.device, args.limits, args.comfyui, dtype=args.dtype, peak_tflops=args.peak_tflops
        )
        page = bench.write(results, args.out, gpu.markdown)
    else:
        page = bench.write(
            bench.run(args.repeats, not args.no_full_size, _say, compiled=args.compile), args.out
        )
    print(page.read_text("utf-8"))
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
