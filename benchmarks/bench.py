"""`python -m show1_engine bench`: ours, our presets and a plain baseline, measured side by side on
the CPU.

Three parts. `micro`: every stage of the bundled cascade, with its trained weights. `full size`:
single forwards of the published architectures with random weights. `paper`: what the whole cascade
costs at the paper's sizes, counted on meta tensors (operations, bytes), not timed.

Variants take turns, and CPU seconds are compared, so that other work on the machine counts little.
Before anything is timed the baseline's numbers have to equal ours.
"""

import copy
import dataclasses
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from show1_engine.bundled import WEIGHTS
from show1_engine.loading import empty_unet
from show1_engine.models.compiled import compile_network
from show1_engine.models.kinds import INTERPOLATION, KEYFRAMES, LATENT_EXPERT, PIXEL_SR
from show1_engine.models.memory import unet_bytes
from show1_engine.models.unet import UNet
from show1_engine.runtime import PlainHandle, PlainRuntime
from show1_micro.configs import FRAMES, KEYFRAME_SIZE, SR_SIZE, unet_config
from show1_micro.evaluate import Judge, drawn
from show1_micro.world import frame_times

from . import full_size, paper
from .baseline import one_by_one, plain_twin

OURS, PLAIN, PLAIN_FUSED, COMPILED = "ours", "baseline", "baseline, fused attention", "compiled"
Progress = Callable[[str], None]
# Frames, rows, columns of one forward: interpolation as in the paper, the others smaller, for a
# CPU's sake.
FORWARDS = {
    "show-1-interpolation": (5, 40, 64),
    "show-1-base": (8, 24, 32),
    "IF-II-L": (1, 80, 128),
    "show-1-sr1": (8, 48, 64),
    "show-1-sr2": (4, 24, 40),
}
_MICRO_WINDOWS = {
    KEYFRAMES: 1,
    INTERPOLATION: 1,
    PIXEL_SR: 4,
    LATENT_EXPERT: 29 / FRAMES,
}  # of the whole clip
_TOLERANCE = 1e-4


def run(
    repeats: int = 3,
    full: bool = True,
    progress: Progress = lambda text: None,
    compiled: bool = False,
) -> dict[str, Any]:
    """All measurements, JSON-ready. `compiled`: the micro part also with torch.compile, which takes
    minutes.
    """
    results = {
        "date": time.strftime("%Y-%m-%d"),
        "device": f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "repeats": repeats,
        "micro": micro(repeats, progress, compiled),
    }
    if full:
        results["full size"] = forwards(1, progress)
        progress("paper")
        results["paper"] = paper.costs()
    return results


def interleaved(
    variants: dict[str, Callable[[], Any]], repeats: int
) -> dict[str, dict[str, float]]:
    """Median wall-clock and CPU seconds of each variant; they take turns, so that a disturbance
    meets all of them.
    """
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, function in variants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            rows[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: {
            "seconds": statistics.median(wall for wall, _ in row),
            "cpu seconds": statistics.median(cpu for _, cpu in row),
        }
        for name, row in rows.items()
    }


def micro(repeats: int, progress: Progress, compiled: bool = False) -> dict[str, Any]:
    """Every stage of the micro cascade on drawn input, by all variants."""
    judge = Judge(WEIGHTS)
    others = {
        PLAIN: _with_networks(judge, plain_twin),
        PLAIN_FUSED: _with_networks(judge, lambda net: plain_twin(net, fused_attention=True)),
    }
    if compiled:
        others[COMPILED] = _with_networks(judge, _compiled)
    results = {}
    for kind in (KEYFRAMES, INTERPOLATION, PIXEL_SR, LATENT_EXPERT):
        progress(f"micro {kind}")
        results[kind] = _MicroStage(judge, kind).measured(others, repeats)
    results["whole clip"] = _whole(results)
    return results


class _MicroStage:
    """A stage of the micro cascade on a drawn scene."""

    def __init__(self, judge: Judge, kind: str):
        self.kind, self.scene = kind, judge.scenes(1, 9)[0]
        size = SR_SIZE if kind == LATENT_EXPERT else KEYFRAME_SIZE
        step = 1.0 if kind == INTERPOLATION else 0.25
        self.images = (
            None if kind == KEYFRAMES else drawn(self.scene, frame_times(FRAMES) * step, size)
        )
        frames = 5 if kind == INTERPOLATION else FRAMES
        side = {PIXEL_SR: SR_SIZE, LATENT_EXPERT: SR_SIZE // 4}.get(kind, KEYFRAME_SIZE)
        self.size = frames, side, side
        self.judge = judge

    def measured(self, others: dict[str, Judge], repeats: int) -> dict[str, Any]:
        """All variants on this stage; the baseline's frames must be ours."""
        variants = {
            OURS: lambda: self.run(self.judge),
            **{name: partial(self.run, judge) for name, judge in others.items()},
            "balanced": lambda: self.run(self.judge, preset="balanced"),
            "fast": lambda: self.run(self.judge, preset="fast"),
        }
        first = {name: self.counted(variant) for name, variant in variants.items()}
        _same(self.kind, *(first[name][0] for name in (OURS, PLAIN, PLAIN_FUSED)))
        rows = _with_ratios(interleaved(variants, repeats))
        for name in (OURS, "balanced", "fast"):
            rows[name]["evaluations"] = first[name][1]
        if COMPILED in rows:  # rounds otherwise
            rows[COMPILED]["difference"] = (first[COMPILED][0] - first[OURS][0]).abs().max().item()
        counted, estimated = self.memory()
        return rows | {
            "flops of one": self.flops(),
            "activations counted": counted,
            "activations estimated": estimated,
        }

    def run(self, judge: Judge, **changes: Any) -> Tensor:
        """One run of the stage. The baseline interpolates every two frames on their own."""
        if self.kind == INTERPOLATION and hasattr(
            judge.models[self.kind].network.mid_block, "fused_attention"
        ):
            return one_by_one(
                lambda pair: judge.run(self.kind, self.scene, pair, seed=0, **changes), self.images
            )
        return judge.run(self.kind, self.scene, self.images, seed=0, **changes)

    def counted(self, variant: Callable[[], Tensor]) -> tuple[Tensor, int]:
        """A variant's frames, and how many videos went through our UNet for them."""
        rows: list[int] = []
        network = self.judge.models[self.kind].network
        hook = network.register_forward_pre_hook(lambda net, args: rows.append(len(args[0])))
        try:
            return variant(), sum(rows)
        finally:
            hook.remove()

    def flops(self) -> int:
        with torch.device("meta"):
            net = UNet(unet_config(self.kind))
        sample, timestep, text, labels = paper.evaluation(net, 1, *self.size)
        states = net.prepare_text(text)
        return paper.flops(lambda: net(sample, timestep, states, labels))

    def memory(self) -> tuple[int, int]:
        """Activations of one guided forward, counted and estimated."""
        with torch.device("meta"):
            net = UNet(unet_config(self.kind))
        return (
            paper.forward_peak(net, 2, *self.size),
            unet_bytes(net.config, 2, *self.size, torch.float32),
        )


def _with_networks(judge: Judge, other_network: Callable[[UNet], UNet]) -> Judge:
    """The same judge with other networks in place of ours."""
    runtime, other = PlainRuntime(), copy.copy(judge)
    other.models = {
        kind: dataclasses.replace(
            model, unet=PlainHandle(other_network(model.network), model.unet.dtype, runtime)
        )
        for kind, model in judge.models.items()
    }
    return other


def _compiled(network: UNet) -> UNet:
    twin = empty_unet(network.config, PlainRuntime()).requires_grad_(False)
    twin.load_state_dict(network.state_dict(), assign=True)
    compile_network(twin, torch.device("cpu"))
    return twin


def _whole(results: dict[str, Any]) -> dict[str, Any]:
    """Seconds of the whole clip, from those of one window of the two last stages."""
    sums = {
        name: {
            unit: sum(_MICRO_WINDOWS[kind] * results[kind][name][unit] for kind in _MICRO_WINDOWS)
            for unit in ("seconds", "cpu seconds")
        }
        for name, row in results[KEYFRAMES].items()
        if isinstance(row, dict)
    }
    return _with_ratios(sums)


def forwards(repeats: int, progress: Progress) -> dict[str, Any]:
    """One forward of one video through each published architecture, random weights, float32."""
    results = {}
    for name, size in FORWARDS.items():
        progress(f"full size {name}")
        net = full_size.unet(name, device="cpu")
        results[name] = {
            "frames, height, width": size,
            "flops": paper.forward_flops(name, *size),
            **forward_ratios(net, size, repeats),
        }
    return results


def forward_ratios(net: UNet, size: tuple[int, int, int], repeats: int) -> dict[str, Any]:
    """Our forward and the baseline's, timed; both on the same weights. A step's text is the
    baseline's own business.
    """
    sample, timestep, text, labels = paper.evaluation(net, 1, *size)
    plain, fused = plain_twin(net), plain_twin(net, fused_attention=True)
    with torch.no_grad():
        states = net.prepare_text(text)
        outputs: dict[str, Tensor] = {}

        def forward(name: str, unet: UNet, text: Any) -> Callable[[], None]:
            def call() -> None:
                outputs[name] = unet(sample, timestep, text, labels)

            return call

        rows = interleaved(
            {
                OURS: forward(OURS, net, states),
                PLAIN: forward(PLAIN, plain, text),
                PLAIN_FUSED: forward(PLAIN_FUSED, fused, text),
            },
            repeats,
        )
    _same("a forward", *outputs.values())
    return _with_ratios(rows)


def _same(what: str, ours: Tensor, *others: Tensor) -> None:
    for other in others:
        difference = (ours - other).abs().max().item()
        if not difference <= _TOLERANCE:
            raise RuntimeError(
                f"the baseline's {what} differs from ours by {difference}: there is nothing to "
                "compare"
            )


def _with_ratios(rows: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Beside each variant's seconds: CPU seconds of the baseline over the variant's."""
    for row in rows.values():
        row["times as fast"] = rows[PLAIN]["cpu seconds"] / row["cpu seconds"]
    return rows


def write(
    results: dict[str, Any], folder: Path, page_of: Callable[[dict[str, Any]], str] | None = None
) -> Path:
    """Writes results as JSON and as a page of tables, named after device and date; returns the
    page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{results['date']} {results['device']}".replace(",", "").replace(" ", "-")
    (folder / f"{stem}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page = folder / f"{stem}.md"
    page.write_text((page_of or markdown)(results), encoding="utf-8")
    return page


def markdown(results: dict[str, Any]) -> str:
    """The results as tables."""
    lines = [
        f"# {results['device']}, {results['date']}",
        "",
        f"torch {results['torch']}, {results['threads']} threads. Variants took turns "
        f"({results['repeats']} times each in the micro part, medians); ratios are of CPU seconds "
        "to the baseline's. *fused*: the baseline with scaled_dot_product_attention. Not measured "
        "here: any card.",
        "",
        "## Micro cascade, whole stages",
        "",
    ]
    columns = [
        name
        for name in (PLAIN_FUSED, OURS, COMPILED, "balanced", "fast")
        if name in results["micro"][KEYFRAMES]
    ]
    lines += _table(
        [
            "stage",
            "baseline s",
            *("fused" if name == PLAIN_FUSED else name for name in columns),
            "evaluations ours / balanced / fast",
            "activations counted / estimated",
        ],
        [_micro_row(kind, rows, columns) for kind, rows in results["micro"].items()],
    )
    if "full size" in results:
        lines += ["", "## Full size, one forward of one video, float32", ""]
        lines += _table(
            [
                "model",
                "frames, height, width",
                "TFLOP",
                "baseline s",
                "fused",
                "ours",
                "ours GFLOP/s",
            ],
            [_forward_row(name, row) for name, row in results["full size"].items()],
        )
        lines += ["", "## The paper's cascade, counted and computed, half precision", ""]
        lines += _paper_tables(results["paper"])
    return "\n".join(lines) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _micro_row(kind: str, rows: dict[str, Any], columns: list[str]) -> list[str]:
    counts = " / ".join(
        str(rows[name].get("evaluations", "")) for name in (OURS, "balanced", "fast")
    )
    memory = " / ".join(
        f"{rows[name] / 1e6:.1f} MB"
        for name in ("activations counted", "activations estimated")
        if name in rows
    )
    return [
        kind,
        f"{rows[PLAIN]['cpu seconds']:.2f}",
        *(f"{rows[name]['times as fast']:.2f}\u00d7" for name in columns),
        counts.strip(" /"),
        memory,
    ]


def _forward_row(name: str, row: dict[str, Any]) -> list[str]:
    speed = row["flops"] / row[OURS]["seconds"] / 1e9
    return [
        name,
        " \u00d7 ".join(map(str, row["frames, height, width"])),
        f"{row['flops'] / 1e12:.2f}",
        f"{row[PLAIN]['cpu seconds']:.1f}",
        *(f"{row[name]['times as fast']:.2f}\u00d7" for name in (PLAIN_FUSED, OURS)),
        f"{speed:.0f}",
    ]


def _paper_tables(costs: dict[str, Any]) -> list[str]:
    rows = [
        [
            kind,
            row["model"],
            f"{row['parameters'] / 1e6:.0f} M",
            f"{row['evaluations']} / {row['evaluations balanced']} / {row['evaluations fast']}",
            f"{row['flops of one'] / 1e12:.2f}",
            f"{row['flops'] / 1e15:.2f}",
            f"{row['activations counted'] / 1e9:.2f} / {row['activations estimated'] / 1e9:.2f} / "
            f"{row['activations estimated, halves apart'] / 1e9:.2f} GB",
        ]
        for kind, row in costs.items()
    ]
    total = sum(row["flops"] for row in costs.values()) / 1e15
    shares = {
        place: [row["resident"][place] for row in costs.values()]
        for place in next(iter(costs.values()))["resident"]
    }
    return [
        *_table(
            [
                "stage",
                "model",
                "parameters",
                "evaluations reference / balanced / fast",
                "TFLOP of one",
                "PFLOP",
                "activations of both halves counted / estimated / of one half",
            ],
            rows,
        ),
        "",
        f"Together {total:.1f} PFLOP. What part of each model's weights stays on a card under "
        "ComfyUI, the rest coming in layer by layer, and the most it then holds beside a CUDA "
        "context: **computed from these estimates, not measured**.",
        "",
        *_table(
            ["card, storage", *costs],
            [
                [
                    place,
                    *(
                        f"{cell['share']:.0%}, {cell['peak'] / 1e9:.1f} GB"
                        + ("" if cell["halves together"] else ", halves apart")
                        for cell in cells
                    ),
                ]
                for place, cells in shares.items()
            ],
        ),
    ]
