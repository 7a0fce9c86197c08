"""API-format prompts for the host tests, written as Python."""

from __future__ import annotations

from comfyui_server import Run, Server, run_prompt

Link = list  # [node id, output number]


class Graph:
    """A prompt in the making: every node that is added gets the next number as its id."""

    def __init__(self):
        self.prompt: dict[str, dict] = {}

    def add(self, class_type: str, **inputs) -> Link:
        """Add a node; the link to its first output (use `out` for the others)."""
        key = str(len(self.prompt) + 1)
        self.prompt[key] = {
            "class_type": class_type,
            "inputs": inputs,
            "_meta": {"title": class_type},
        }
        return [key, 0]


def out(link: Link, number: int) -> Link:
    """Another output of a node."""
    return [link[0], number]


# Few steps and small sizes: enough to go through every branch, seconds on a CPU.
FAST = {
    "Show1Keyframes": {
        "width": 24,
        "height": 16,
        "num_frames": 4,
        "steps": 2,
        "cfg": 9.0,
        "seed": 1,
    },
    "Show1Interpolate": {"steps": 2, "cfg": 4.0, "seed": 1},
    "Show1PixelSR": {"steps": 2, "cfg": 7.0, "noise_level": 250, "seed": 1},
    "Show1LatentExpertSR": {
        "width": 72,
        "height": 48,
        "steps": 3,
        "cfg": 15.0,
        "strength": 0.8,
        "seed": 1,
    },
}
MODELS = {
    "Show1Keyframes": "show-1-base",
    "Show1Interpolate": "show-1-interpolation",
    "Show1PixelSR": "show-1-sr1",
    "Show1LatentExpertSR": "show-1-sr2",
}
TEXT_ENCODERS = {
    stage: "show-1-sr2" if stage == "Show1LatentExpertSR" else "show-1-base" for stage in MODELS
}


def add_stage(
    graph: Graph,
    stage: str,
    images: Link | None = None,
    prompt: str = "a red circle",
    model: str | None = None,
    **settings,
) -> Link:
    """A stage node with its model and text; the settings go over the fast ones."""
    encoder = graph.add("Show1LoadTextEncoder", name=TEXT_ENCODERS[stage])
    inputs = FAST[stage] | settings
    if images is not None:
        inputs["images"] = images
    return graph.add(
        stage,
        model=graph.add("Show1LoadModel", model_name=model or MODELS[stage]),
        positive=graph.add("Show1TextEncode", text_encoder=encoder, text=prompt),
        **inputs,
    )


def add_save_video(graph: Graph, images: Link, fps: float | Link = 8.0) -> Link:
    """CreateVideo -> SaveVideo."""
    return graph.add(
        "SaveVideo",
        video=graph.add("CreateVideo", images=images, fps=fps),
        filename_prefix="video",
        format="auto",
        codec="auto",
    )


def stage_on_frames(stage: str, file: str, **settings) -> Graph:
    """Frames of a .safetensors file -> stage -> frames as float32 in out.safetensors."""
    graph = Graph()
    images = graph.add("TestLoadFrames", file=file)
    graph.add(
        "TestSaveFrames", images=add_stage(graph, stage, images, **settings), file="out.safetensors"
    )
    return graph


def stage_on_video(stage: str, file: str, **settings) -> Graph:
    """LoadVideo -> GetVideoComponents -> stage -> CreateVideo -> SaveVideo."""
    graph = Graph()
    parts = graph.add("GetVideoComponents", video=graph.add("LoadVideo", file=file))
    add_save_video(graph, add_stage(graph, stage, parts, **settings), out(parts, 2))
    return graph


def keyframes_only(seed: int, **settings) -> Graph:
    """The smallest run there is."""
    graph = Graph()
    images = add_stage(graph, "Show1Keyframes", seed=seed, **settings)
    graph.add("TestSaveFrames", images=images, file="out.safetensors")
    return graph


def run_graph(server: Server, graph: Graph, timeout: float = 600, **options) -> Run:
    """What a client saw of a run."""
    return run_prompt(server, graph.prompt, timeout=timeout, **options)
