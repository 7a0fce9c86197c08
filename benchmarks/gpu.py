"""`python -m show1_engine bench --gpu`: the full-size cascade at the paper's sizes and steps on a
card, random weights.

Every stage is timed with its peaks of allocated and reserved memory, on the whole card and with
less and less of it, each limit in a process of its own (torch's allocator refuses more, ComfyUI is
told as by its --reserve-vram). With ComfyUI's source tree (--comfyui) its memory manager is used,
as in the nodes; without it plain torch, one whole model at a time.
"""

import argparse
import dataclasses
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from show1_engine.host.memory import ComfyRuntime
from show1_engine.loading import empty_unet, filled
from show1_engine.models import autoencoder
from show1_engine.models.bundle import Show1Model
from show1_engine.models.handle import TEXT, UNET, VAE, Runtime
from show1_engine.models.kinds import (
    FIRST_FRAME_SR,
    INTERPOLATION,
    KEYFRAMES,
    LATENT_EXPERT,
    PIXEL_SR,
)
from show1_engine.models.text import T5, TOKENS
from show1_engine.models.unet import UNet
from show1_engine.runtime import PlainRuntime
from show1_engine.stages.interpolate import InterpolateSettings, interpolate
from show1_engine.stages.keyframes import KeyframeSettings, keyframes
from show1_engine.stages.latent_expert_sr import LatentExpertSettings, latent_expert_sr
from show1_engine.stages.pixel_sr import (
    FIRST_FRAME_SETTINGS,
    PixelSRSettings,
    first_frame_sr,
    pixel_sr,
)
from show1_micro import configs

from . import full_size, paper
from .baseline import plain_twin
from .measure import flops

_ROOT = Path(__file__).resolve().parent.parent
_T5_XXL = {
    "model_type": "t5",
    "d_model": 4096,
    "d_ff": 10240,
    "d_kv": 64,
    "num_heads": 64,
    "num_layers": 24,
    "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu",
    "dense_act_fn": "gelu_new",
    "is_gated_act": True,
    "is_encoder_decoder": False,
    "use_cache": False,
    "layer_norm_epsilon": 1e-6,
    "dropout_rate": 0.0,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
}


@dataclass(frozen=True)
class Workload:
    """What is run: architectures and the stages' settings. The defaults are the paper's cascade."""

    unets: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            kind: full_size.UNETS[stage.model] for kind, stage in paper.STAGES.items()
        }
    )
    vae: dict[str, Any] = field(default_factory=lambda: full_size.VAE)
    t5: dict[str, Any] = field(default_factory=lambda: _T5_XXL)
    keyframes: KeyframeSettings = KeyframeSettings()
    interpolate: InterpolateSettings = InterpolateSettings()
    first_frame: PixelSRSettings = FIRST_FRAME_SETTINGS
    pixel_sr: PixelSRSettings = PixelSRSettings()
    expert: LatentExpertSettings = LatentExpertSettings()

    def with_preset(self, name: str) -> "Workload":
        stages = {
            stage: dataclasses.replace(getattr(self, stage), preset=name)
            for stage in ("keyframes", "interpolate", "first_frame", "pixel_sr", "expert")
        }
        return dataclasses.replace(self, **stages)


class Meter:
    """Seconds and peaks of memory of what runs on a device."""

    def __init__(self, device: torch.device):
        self.device = device
        self.cuda = device.type == "cuda"

    def synchronized(self) -> float:
        if self.cuda:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def measure(self, function: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
        """The function's result (None if the device ran out of memory), and what it took."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        start, failed, result = self.synchronized(), False, None
        try:
            result = function()
        except torch.cuda.OutOfMemoryError:
            failed = True
        row: dict[str, Any] = {"seconds": self.synchronized() - start, "out of memory": failed}
        if self.cuda:
            row["peak allocated"] = torch.cuda.max_memory_allocated(self.device)
            row["peak reserved"] = torch.cuda.max_memory_reserved(self.device)
        return result, row


def cascade(
    work: Workload, runtime: Runtime, device: torch.device, dtype: str = "default"
) -> dict[str, Any]:
    """Runs every stage, each fed by the one before, one model after the other; a row for each."""
    meter, rows = Meter(device), {}
    rows["text"] = meter.measure(lambda: _text(work.t5, runtime, dtype))[1]
    images = first = None
    for kind in _STAGES:
        model = random_model(
            kind,
            work.unets[kind],
            work.vae if kind == LATENT_EXPERT else None,
            runtime=runtime,
            dtype=dtype,
        )
        out, rows[kind] = _stage(work, model, meter, images=images, first=first)
        if out is None:  # go on with frames of the right shape
            out = torch.rand(_shape(kind, work))
        first, images = (out, images) if kind == FIRST_FRAME_SR else (first, out)
        del model
    return rows


def _stage(
    work: Workload, model: Show1Model, meter: Meter, images: Tensor | None, first: Tensor | None
) -> tuple[Tensor | None, dict[str, Any]]:
    counted: list[tuple[int, ...]] = []
    kept: list[bool] = []

    def count(net: UNet, args: tuple, options: dict[str, Any]) -> None:
        counted.append(tuple(args[0].shape))
        kept.append(bool(options.get("kept")))

    hook = model.network.register_forward_pre_hook(count, with_kwargs=True)
    out, row = meter.measure(lambda: _STAGES[model.kind](work, model, images, first=first))
    hook.remove()
    evaluations = sum(shape[0] for shape in counted)
    operations = _flops(work.unets[model.kind], counted, kept)
    return out, row | {"evaluations": evaluations, "flops": operations}


def _text(config: dict[str, Any], runtime: Runtime, dtype: str) -> Tensor:
    network = runtime.build_text(T5, config)
    handle = filled(
        TEXT,
        network,
        network.model,
        found=(full_size.random_weights(network.model), Path("t5")),
        runtime=runtime,
        weight_dtype=dtype,
    )
    device = handle.load(2 * TOKENS * 2**18)
    ids = torch.ones(2, TOKENS, dtype=torch.long, device=device)
    with torch.inference_mode():
        return handle.module(ids, torch.ones_like(ids))


def random_model(
    kind: str, config: dict[str, Any], vae: dict[str, Any] | None, runtime: Runtime, dtype: str
) -> Show1Model:
    """A model of this architecture with random weights, managed by the runtime."""
    net = empty_unet(config, runtime, dtype)
    handle = filled(
        UNET,
        net,
        net,
        found=(full_size.random_weights(net), Path(kind)),
        runtime=runtime,
        weight_dtype=dtype,
    )
    codec = None
    if vae is not None:
        module = autoencoder.build(vae)
        codec = filled(
            VAE,
            module,
            module,
            found=(full_size.random_weights(module), Path("vae")),
            runtime=runtime,
        )
    family = "pixel_sr" if kind == FIRST_FRAME_SR else kind
    return Show1Model(
        kind,
        kind,
        handle,
        scheduler_config=configs.scheduler_config(family),
        noising_config=configs.noising_config(),
        vae=codec,
    )


def _states(model: Show1Model) -> tuple[Tensor, Tensor]:
    values = torch.randn(
        2, TOKENS, model.network.text_width, generator=torch.Generator().manual_seed(0)
    )
    return values[:1], values[1:]


_STAGES: dict[str, Callable[..., Tensor]] = {
    KEYFRAMES: lambda work, model, images, first: keyframes(model, *_states(model), work.keyframes),
    INTERPOLATION: lambda work, model, images, first: interpolate(
        model, images, *_states(model), work.interpolate
    ),
    FIRST_FRAME_SR: lambda work, model, images, first: first_frame_sr(
        model, images, *_states(model), work.first_frame
    ),
    PIXEL_SR: lambda work, model, images, first: pixel_sr(
        model, images, *_states(model), work.pixel_sr, first
    ),
    LATENT_EXPERT: lambda work, model, images, first: latent_expert_sr(
        model, images, *_states(model), work.expert
    ),
}


def _shape(kind: str, work: Workload) -> tuple[int, int, int, int]:
    """Of a stage's frames."""
    s = work.keyframes
    frames = (
        s.num_frames
        if kind == KEYFRAMES
        else 1
        if kind == FIRST_FRAME_SR
        else 4 * (s.num_frames - 1) + 1
    )
    scale = 1 if kind in (KEYFRAMES, INTERPOLATION) else 4
    return frames, scale * s.height, scale * s.width, 3


def _flops(config: dict[str, Any], shapes: list[tuple[int, ...]], kept: list[bool]) -> int:
    """Of all forwards, counted on meta tensors for one video and multiplied; on `kept` features the
    top level alone.
    """
    if not shapes:
        return 0
    with torch.device("meta"):
        net = UNet(config).eval().requires_grad_(False)
    sample, timestep, text, labels = paper.evaluation(net, 1, *shapes[0][2:])
    states = net.prepare_text(text)
    features: list[Tensor] = []
    whole = flops(lambda: net(sample, timestep, states, labels, kept=features))
    top = flops(lambda: net(sample, timestep, states, labels, kept=features))
    return sum(shape[0] * (top if some else whole) for shape, some in zip(shapes, kept))


def against_baseline(
    work: Workload, device: torch.device, dtype: torch.dtype, repeats: int = 5
) -> dict[str, Any]:
    """Seconds of one guided step of each stage's UNet, ours and the baseline's, which takes windows
    one by one.
    """
    results = {}
    for kind, config in work.unets.items():
        stage = paper.STAGES[kind]
        size = (
            (stage.frames, stage.height, stage.width)
            if work.unets[kind] == full_size.UNETS[stage.model]
            else (5, 16, 16)
        )
        with torch.device("meta"):
            net = UNet(config).eval().requires_grad_(False)
        net = full_size.fill(net.to(dtype).to_empty(device=device))
        windows = 7 if kind == INTERPOLATION else 1
        results[kind] = _step_seconds(net, size, windows, meter=Meter(device), repeats=repeats)
        del net
    return results


def _step_seconds(
    net: UNet, size: tuple[int, int, int], windows: int, meter: Meter, repeats: int
) -> dict[str, float]:
    plain = plain_twin(net)
    one, all_windows = (paper.evaluation(net, 2 * count, *size) for count in (1, windows))
    seconds: dict[str, list[float]] = {"ours": [], "baseline": []}
    with torch.no_grad():
        states = net.prepare_text(one[2]).repeat(windows)
        calls = {
            "ours": lambda: net(all_windows[0], all_windows[1], states, all_windows[3]),
            "baseline": lambda: [plain(*one) for _ in range(windows)],
        }
        for turn in range(repeats + 1):
            for name, call in calls.items():
                start = meter.synchronized()
                call()
                if turn:  # the first warms up
                    seconds[name].append(meter.synchronized() - start)
    medians = {name: statistics.median(row) for name, row in seconds.items()}
    return medians | {"times as fast": medians["baseline"] / medians["ours"]}


def measure(
    work: Workload,
    device: str,
    limit: float | None = None,
    comfyui: bool = False,
    dtype: str = "default",
    baseline: bool = True,
) -> dict[str, Any]:
    """Everything on one device with at most `limit` GB of its memory."""
    place = torch.device(device)
    if limit is not None and place.type == "cuda":
        total = torch.cuda.get_device_properties(place).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit * 1e9 / total), place)
        if comfyui:
            _tell_comfyui(total / 2**30 - limit * 1e9 / 2**30)
    runtime: Runtime = ComfyRuntime() if comfyui else PlainRuntime(device, _compute(place))
    with torch.inference_mode():
        result = {
            "limit GB": limit,
            "weights": dtype,
            "manager": "ComfyUI" if comfyui else "plain torch",
            "reference": cascade(work, runtime, place, dtype=dtype),
            "fast": cascade(work.with_preset("fast"), runtime, place, dtype=dtype),
        }
    if baseline:
        result["against the baseline"] = against_baseline(work, place, _compute(place))
    return result


def _tell_comfyui(gigabytes: float) -> None:
    """What ComfyUI's --reserve-vram does: that much of the card is not its to use."""
    import comfy.model_management as mm

    mm.EXTRA_RESERVED_VRAM = int(gigabytes * 2**30) + mm.EXTRA_RESERVED_VRAM


def _compute(device: torch.device) -> torch.dtype:
    return torch.float16 if device.type == "cuda" else torch.float32


def run(
    device: str, limits: list[float], comfyui: Path | None, dtype: str, peak_tflops: float | None
) -> dict[str, Any]:
    """The whole protocol: the card whole, then each limit, in processes of their own."""
    runs = []
    for limit in [None, *limits]:
        command = [
            sys.executable,
            str(Path(__file__).resolve()),
            "--device",
            device,
            "--dtype",
            dtype,
        ]
        command += [] if limit is None else ["--limit", str(limit)]
        command += ["--comfyui"] if comfyui else []
        # ComfyUI's nodes.py before our nodes/.
        path = os.pathsep.join(
            map(str, filter(None, (comfyui, _ROOT, os.environ.get("PYTHONPATH"))))
        )
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
        )
        runs.append(
            json.loads(done.stdout.splitlines()[-1])
            if done.returncode == 0
            else {"limit GB": limit, "failed": done.returncode}
        )
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": name,
        "torch": torch.__version__,
        "peak TFLOP/s": peak_tflops,
        "runs": runs,
    }


def markdown(results: dict[str, Any]) -> str:
    """The runs as tables."""
    lines = [
        f"# {results['device']}, {results['date']}",
        "",
        f"torch {results['torch']}. The cascade at the paper's sizes and steps, random weights, "
        "each stage fed by the one before.",
    ]
    for one in results["runs"]:
        lines += [
            "",
            f"## {'Whole card' if one['limit GB'] is None else str(one['limit GB']) + ' GB'}",
            "",
        ]
        lines += (
            [f"Failed with code {one['failed']}."]
            if "failed" in one
            else _tables(one, results["peak TFLOP/s"])
        )
    return "\n".join(lines) + "\n"


def _tables(one: dict[str, Any], peak: float | None) -> list[str]:
    lines = [
        f"{one['manager']}, weights {one['weights']}.",
        "",
        "| preset | stage | seconds | evaluations | TFLOP/s | of peak | peak allocated / reserved "
        "GB |",
        "|---|---|---|---|---|---|---|",
    ]
    for preset in ("reference", "fast"):
        for kind, row in one[preset].items():
            speed = row.get("flops", 0) / row["seconds"] / 1e12
            share = f"{speed / peak:.0%}" if peak and speed else ""
            memory = " / ".join(
                f"{row[name] / 1e9:.2f}"
                for name in ("peak allocated", "peak reserved")
                if name in row
            )
            seconds = "out of memory" if row["out of memory"] else f"{row['seconds']:.1f}"
            lines.append(
                f"| {preset} | {kind} | {seconds} | {row.get('evaluations', '')} | {speed:.1f} | "
                f"{share} | {memory} |"
            )
    for kind, row in one.get("against the baseline", {}).items():
        lines += (
            []
            if kind != KEYFRAMES
            else [
                "",
                "| one guided step of | baseline s | ours s | times as fast |",
                "|---|---|---|---|",
            ]
        )
        lines.append(
            f"| {kind} | {row['baseline']:.3f} | {row['ours']:.3f} | {row['times as fast']:.2f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="default")
    parser.add_argument("--limit", type=float)
    parser.add_argument("--comfyui", action="store_true")
    args = parser.parse_args()
    print(
        json.dumps(
            measure(
                Workload(),
                args.device,
                args.limit,
                comfyui=args.comfyui,
                dtype=args.dtype,
                baseline=args.limit is None,
            )
        )
    )


if __name__ == "__main__":
    main()
