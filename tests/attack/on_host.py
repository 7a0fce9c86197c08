"""Graphs that nobody should queue, on a real ComfyUI: every input of every node with every hostile
value."""

import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from harness import Outcome
from hostile import VALUES
from safetensors.torch import load_file, save_file

PACK = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PACK / "scripts"), str(PACK / "tests" / "host")]

from comfyui_server import BASE_FOLDERS, Run, Server, link_pack  # noqa: E402
from graphs import Graph, run_graph  # noqa: E402

SECONDS = 10.0
OURS = "custom_nodes/show-1"  # in a traceback: one of our files
LONGEST = 1000
STAGES = {
    "Show1Keyframes": "show-1-base",
    "Show1Interpolate": "show-1-interpolation",
    "Show1PixelSR": "show-1-sr1",
    "Show1LatentExpertSR": "show-1-sr2",
}
SMALL = {
    "Show1Keyframes": {
        "width": 8,
        "height": 8,
        "num_frames": 2,
        "steps": 2,
        "cfg": 3.0,
        "seed": 1,
        "sampler": "default",
        "motion_mix": 0.5,
        "preset": "reference",
        "window": 2,
        "overlap": 1,
        "loop": False,
        "strength": 0.5,
        "drafts": 1,
        "given": None,
    },
    "Show1Interpolate": {
        "steps": 2,
        "cfg": 3.0,
        "seed": 1,
        "fps": 2.0,
        "sampler": "default",
        "tiling": 0,
        "cut_aware": True,
        "preset": "reference",
        "factor": "2",
        "target_fps": 0.0,
        "keep_given": True,
        "loop": False,
    },
    "Show1PixelSR": {
        "steps": 2,
        "cfg": 3.0,
        "noise_level": 250,
        "seed": 1,
        "sampler": "default",
        "tiling": 0,
        "color_match": "none",
        "scale": 4.0,
        "cut_aware": True,
        "preset": "reference",
        "reference_indices": "",
        "mask": None,
    },
    "Show1LatentExpertSR": {
        "width": 16,
        "height": 16,
        "steps": 2,
        "cfg": 3.0,
        "strength": 0.8,
        "seed": 1,
        "sampler": "default",
        "window": 8,
        "overlap": 2,
        "tiling": 0,
        "color_match": "none",
        "cut_aware": True,
        "preset": "reference",
        "loop": False,
    },
    "Show1PromptSchedule": {
        "prompts": "0: a\n1: b",
        "num_frames": 2,
        "transition": 1,
        "fps": 2.0,
        "clean_caption": False,
    },
    "Show1GivenFrames": {"indices": "0", "take_last": 1, "strength": 1.0, "harmonise": 1},
    "Show1PickClip": {"clips": 3, "number": 1},
    "Show1CompareClips": {
        "mode": "wipe",
        "position": 0.5,
        "label_a": "A",
        "label_b": "B",
        "a": None,
    },
    "Show1LoadModel": {
        "model_name": "micro/show-1-base",
        "weight_dtype": "default",  # not compile: what may take minutes is no hang
    },
    "Show1LoadTextEncoder": {"name": "micro/show-1-base", "weight_dtype": "default"},
    "Show1TextEncode": {"text": "a", "clean_caption": False},
    "Show1MotionLoRA": {"lora_name": "none", "strength": 1.0},
    "Show1DownloadModel": {"model": "show-1-base", "accept_license": False},
    "Show1TrainMotionLoRA": {
        "steps": 2,
        "rank": 2,
        "learning_rate": 5e-4,
        "seed": 1,
        "objective": "motion",
        "batch_size": 1,
        "width": 16,
        "height": 16,
        "window": 2,
        "frame_step": 1,
        "targets": "attention",
        "timesteps": "motion",
        "sample_every": 0,
        "recolour": 0.0,
    },
}
# What is connected. The host dies of a link to nowhere in an input that a node has not, so only
# those it has are tried.
_STAGE = ("model", "positive", "images")
SOCKETS = {
    "Show1Keyframes": ("model", "positive", "images", "motion_from"),
    "Show1Interpolate": _STAGE,
    "Show1PixelSR": (*_STAGE, "reference_frames", "first_frame", "first_frame_model"),
    "Show1LatentExpertSR": (*_STAGE, "vae", "mask"),
    "Show1PromptSchedule": ("text_encoder",),
    "Show1GivenFrames": ("images",),
    "Show1PickClip": ("images",),
    "Show1CompareClips": ("b",),
    "Show1LoadModel": (),
    "Show1LoadTextEncoder": (),
    "Show1TextEncode": ("text_encoder",),
    "Show1MotionLoRA": ("model", "lora"),
    "Show1DownloadModel": (),
    "Show1TrainMotionLoRA": (*_STAGE, "sample_positive"),
}
LINKS = ("given", "mask", "a")  # of SMALL: not connected, unless a hostile value is put there
Spot = tuple[str, str, str, Any]  # node, input, the value's name, the value


def spots(rng: random.Random) -> Iterator[Spot]:
    """Every widget of every node with every hostile value; a link's place with a value that is no
    link."""
    every = VALUES | {
        "a link to nowhere": ["99", 0],
        "a link to a place that is not there": ["1", 99],
    }
    for node, inputs in SMALL.items():
        for key in [*inputs, *SOCKETS[node]]:
            for name, value in every.items():
                yield node, key, name, value


def graph_of(spot: Spot) -> Graph:
    """The smallest graph that runs the node, with the hostile value in its place."""
    node, key, _, value = spot
    graph = Graph()
    inputs = SMALL[node] | {key: value}
    if node in STAGES:
        graph.add("TestSaveFrames", images=_stage(graph, node, inputs), file="out.safetensors")
    elif node in ("Show1PickClip", "Show1CompareClips", "Show1GivenFrames"):
        images = graph.add("TestLoadFrames", file="frames.safetensors")
        names = ("a", "b") if node == "Show1CompareClips" else ("images",)
        made = graph.add(node, **(dict.fromkeys(names, images) | _connected(inputs)))
        if node == "Show1GivenFrames":
            made = _stage(graph, "Show1Keyframes", SMALL["Show1Keyframes"] | {"given": made})
        graph.add("TestSaveFrames", images=made, file="out.safetensors")
    elif node == "Show1DownloadModel":
        graph.add(node, **inputs)
    elif node in ("Show1LoadModel", "Show1MotionLoRA"):
        loaded = graph.add(
            "Show1LoadModel", **(inputs if node == "Show1LoadModel" else SMALL["Show1LoadModel"])
        )
        changed = (
            graph.add(node, **({"model": loaded} | inputs)) if node == "Show1MotionLoRA" else loaded
        )
        images = _stage(graph, "Show1Keyframes", SMALL["Show1Keyframes"], changed)
        graph.add("TestSaveFrames", images=images, file="out.safetensors")
    elif node == "Show1TrainMotionLoRA":
        images = graph.add("TestLoadFrames", file="frames.safetensors")
        text = _text(graph, SMALL["Show1LoadTextEncoder"], SMALL["Show1TextEncode"])
        loaded = graph.add("Show1LoadModel", **SMALL["Show1LoadModel"])
        lora = graph.add(node, **({"model": loaded, "images": images, "positive": text} | inputs))
        changed = graph.add(
            "Show1MotionLoRA", model=loaded, lora_name="none", strength=1.0, lora=lora
        )
        frames = _stage(graph, "Show1Keyframes", SMALL["Show1Keyframes"], changed)
        graph.add("TestSaveFrames", images=frames, file="out.safetensors")
    elif node == "Show1PromptSchedule":
        encoder = graph.add("Show1LoadTextEncoder", **SMALL["Show1LoadTextEncoder"])
        text = graph.add(node, **({"text_encoder": encoder} | inputs))
        images = _stage(graph, "Show1Keyframes", SMALL["Show1Keyframes"], text=text)
        graph.add("TestSaveFrames", images=images, file="out.safetensors")
    else:
        encoder = inputs if node == "Show1LoadTextEncoder" else SMALL["Show1LoadTextEncoder"]
        text = _text(
            graph, encoder, inputs if node == "Show1TextEncode" else SMALL["Show1TextEncode"]
        )
        images = _stage(graph, "Show1Keyframes", SMALL["Show1Keyframes"], text=text)
        graph.add("TestSaveFrames", images=images, file="out.safetensors")
    return graph


def _stage(
    graph: Graph, node: str, inputs: dict[str, Any], model: Any = None, text: Any = None
) -> Any:
    name = f"micro/{STAGES[node]}"
    encoder = "micro/show-1-sr2" if node == "Show1LatentExpertSR" else "micro/show-1-base"
    model = model or graph.add("Show1LoadModel", model_name=name)
    text = text or _text(graph, {"name": encoder}, {"text": "a"})
    links = {"model": model, "positive": text}
    if node != "Show1Keyframes":
        links["images"] = graph.add("TestLoadFrames", file="frames.safetensors")
    return graph.add(node, **(links | _connected(inputs)))


def _connected(inputs: dict[str, Any]) -> dict[str, Any]:
    """Without the links that are not there."""
    return {name: value for name, value in inputs.items() if value is not None or name not in LINKS}


def _text(graph: Graph, encoder: dict[str, Any], inputs: dict[str, Any]) -> Any:
    return graph.add(
        "Show1TextEncode",
        **({"text_encoder": graph.add("Show1LoadTextEncoder", **encoder)} | inputs),
    )


@contextmanager
def served() -> Iterator[Server]:
    comfyui = Path(os.environ.get("COMFYUI_PATH") or PACK / ".test-env" / "ComfyUI").resolve()
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        for folder in BASE_FOLDERS:
            (base / folder).mkdir()
        link_pack(base / "custom_nodes")
        (base / "custom_nodes" / "frames_pack").symlink_to(PACK / "tests" / "host" / "frames_pack")
        save_file({"frames": torch.rand(3, 8, 8, 3)}, base / "input" / "frames.safetensors")
        with Server(comfyui, base=base, args=("--cpu", "--disable-api-nodes")) as server:
            yield server


def attack_host(server: Server, spot: Spot) -> Outcome:
    """One graph, and what a client saw of it."""
    node, key, name, _ = spot
    graph = graph_of(spot)
    result = run_graph(server, graph, timeout=SECONDS + 20)
    kind, text = _judged(server, graph, result)
    if kind in ("right", "refused") and result.seconds > SECONDS:
        kind = "hang"
    return Outcome("graph", f"{node}.{key} = {name}", kind, text, result.seconds)


def _judged(server: Server, graph: Graph, run: Run) -> tuple[str, str]:
    if run.status == "success":
        if any(entry["class_type"] == "TestSaveFrames" for entry in graph.prompt.values()):
            frames = load_file(server.base / "output" / "out.safetensors")["frames"]
            return (
                ("right", "")
                if frames.isfinite().all()
                else ("wrong", "frames that are not finite")
            )
        return "right", ""
    if run.status in ("timeout", "died"):
        return "hang", run.status
    if run.status == "rejected":
        return _rejected(run)
    if run.error["exception_type"] == "graph.DependencyCycleError":
        return "refused", run.message  # the host's own
    if (
        not run.error["exception_type"].rpartition(".")[0].endswith("show1_engine.errors")
        and "registry" not in run.error["exception_type"]
    ):
        return "raw", f"{run.error['exception_type']}: {run.message[:300]}"
    if len(run.message) > LONGEST or not run.message.isprintable():
        return "long", f"{len(run.message)} characters: {run.message[:100]!a}"
    return "refused", run.message


def _rejected(run: Run) -> tuple[str, str]:
    """The host's own words, or ours where a node checks its inputs; never an error inside our
    code."""
    told = [
        error for node in (run.error.get("node_errors") or {}).values() for error in node["errors"]
    ]
    for error in told:
        # The host trips over a link to nowhere by itself, before it asks us anything.
        traced = "".join((error.get("extra_info") or {}).get("traceback") or [])
        if error["type"].startswith("exception_during") and OURS in traced:
            return "raw", json.dumps(error)[:300]
        if error["type"] == "custom_validation_failed" and len(error["details"]) > LONGEST + 100:
            return "long", error["details"][:100]
    return "refused", run.message[:200]


def campaign_on_host(rng: random.Random, most: int) -> Iterator[Outcome]:
    chosen = list(spots(rng))
    rng.shuffle(chosen)
    with served() as server:
        for spot in chosen[:most]:
            yield attack_host(server, spot)
        last = attack_host(server, ("Show1Keyframes", "seed", "the run after all of them", 7))
        yield last if last.kind == "right" else Outcome("graph", last.name, "wrong", last.text)
