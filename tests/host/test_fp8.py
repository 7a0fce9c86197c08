"""Linear layers that multiply in fp8, as on cards that can; the host is told that this machine's
processor can.
"""

import torch
from comfyui_server import Server
from graphs import Graph, run_graph
from safetensors.torch import load_file

from show1_micro.recogniser import read_clip
from show1_micro.world import Scene

SCENE = Scene("circle", "red", "right", "black", "plain")


def keyframes(server: Server, weight_dtype: str) -> torch.Tensor:
    graph, micro = Graph(), "micro/show-1-base"
    model = graph.add("Show1LoadModel", model_name=micro, weight_dtype=weight_dtype)
    text = graph.add(
        "Show1TextEncode",
        text_encoder=graph.add("Show1LoadTextEncoder", name=micro),
        text=SCENE.caption(),
    )
    images = graph.add(
        "Show1Keyframes",
        model=model,
        positive=text,
        width=16,
        height=16,
        num_frames=8,
        steps=16,
        cfg=3.0,
        seed=3,
    )
    graph.add("TestSaveFrames", images=images, file=f"{weight_dtype}.safetensors")
    run = run_graph(server, graph)
    assert run.status == "success", f"{run.message}\n{server.log_tail()}"
    return load_file(server.base / "output" / f"{weight_dtype}.safetensors")["frames"]


def test_multiplied_in_fp8_where_the_device_can(server, comfyui):
    options = {
        "base": server.base,
        "args": ("--cpu", "--disable-api-nodes", "--supports-fp8-compute"),
        "log": server.base / "fp8.log",
    }
    with Server(comfyui, **options) as able:
        exact, stored, multiplied = (
            keyframes(able, name) for name in ("fp32", "fp8_e4m3fn", "fp8_e4m3fn_fast")
        )
        assert "Exception during fp8 op" not in options["log"].read_text()
    assert not torch.equal(stored, multiplied)
    assert (multiplied - exact).abs().mean() < 2 * (stored - exact).abs().mean() + 0.02
    assert all(read_clip(frames).matches(SCENE) for frames in (exact, stored, multiplied))


def test_the_same_as_stored_in_fp8_elsewhere(server):
    assert torch.equal(keyframes(server, "fp8_e4m3fn"), keyframes(server, "fp8_e4m3fn_fast"))
