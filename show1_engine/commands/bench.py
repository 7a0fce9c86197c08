"""python -m show1_engine bench: what it costs, side by side with a plain baseline (benchmarks/)."""

import argparse
import sys
from pathlib import Path

from . import repository

_PACK = Path(__file__).absolute().parents[2]


def add_parser(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("bench", help="measure speed and memory, write tables")
    add = command.add_argument
    add("--out", type=Path, default=_PACK / "benchmarks" / "results", metavar="DIR", help="default: %(default)s")
    add("--repeats", type=int, default=3, help="of the micro part (default: %(default)s)")
    add("--compile", action="store_true", help="the micro part also with torch.compile; minutes more")
    add("--no-full-size", action="store_true", help="the micro part alone (no 7 GB of random weights)")
    add("--gpu", action="store_true", help="instead: the full-size cascade at the paper's sizes on a card")
    add("--device", default="cuda", help="of --gpu (default: %(default)s)")
    add("--limits", type=float, nargs="*", default=[12, 8, 6, 4], metavar="GB", help="of --gpu: less and less memory")
    add("--comfyui", type=Path, metavar="DIR", help="of --gpu: ComfyUI's source tree, for its memory manager")
    add("--dtype", default="default", help="of --gpu: weights, fp16 or fp8_e4m3fn_fast for instance",
        choices=["default", "fp16", "bf16", "fp8_e4m3fn", "fp8_e4m3fn_fast"])
    add("--peak-tflops", type=float, help="of --gpu: what the card's maker promises, to compare with")
    command.set_defaults(func=_bench)


def _bench(args: argparse.Namespace) -> int:
    repository.require("bench", "benchmarks/bench.py")
    sys.path.insert(0, str(_PACK))  # benchmarks/ lies beside the engine
    from benchmarks import bench, gpu

    if args.gpu:
        results = gpu.run(args.device, args.limits, args.comfyui, args.dtype, args.peak_tflops)
        page = bench.write(results, args.out, gpu.markdown)
    else:
        page = bench.write(bench.run(args.repeats, not args.no_full_size, _say, args.compile), args.out)
    print(page.read_text("utf-8"))
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
