"""Show1DownloadModel on a real server, from a hub on this machine."""

import sys
import time
from pathlib import Path

import pytest
from comfyui_server import BASE_FOLDERS, Server, link_pack
from graphs import Graph, run_graph

# The hub lies with the engine's tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engine"))
from fake_hub import UNET, FakeHub, Fault, repository  # noqa: E402

from show1_engine.checkpoints.registry import OF_THE_CASCADE  # noqa: E402

BASE = "show-1-base"


@pytest.fixture(scope="module")
def hub():
    with FakeHub() as hub:
        for name in ("show-1-base", "show-1-sr1"):
            hub.add(f"showlab/{name}", repository(name))
        yield hub


@pytest.fixture(scope="module")
def server(comfyui, hub, tmp_path_factory):
    """A server of its own, whose hub is ours."""
    base = tmp_path_factory.mktemp("comfyui")
    for folder in BASE_FOLDERS:
        (base / folder).mkdir()
    link_pack(base / "custom_nodes")
    env = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "", "NO_PROXY": "127.0.0.1"}
    with Server(comfyui, base=base, args=("--cpu", "--disable-api-nodes"), env=env) as server:
        yield server


def fetch(server, model: str, accept: bool = True, **options):
    graph = Graph()
    graph.add("Show1DownloadModel", model=model, accept_license=accept)
    return run_graph(server, graph, timeout=120, **options)


def models(server) -> list[str]:
    kind, about = server.object_info()["Show1LoadModel"]["input"]["required"]["model_name"]
    return kind if isinstance(kind, list) else about["options"]


def test_the_node_offers_every_published_model(server):
    info = server.object_info()["Show1DownloadModel"]
    kind, about = info["input"]["required"]["model"]
    assert (kind if isinstance(kind, list) else about["options"]) == list(OF_THE_CASCADE)
    assert all(
        f"{item.name}: {item.what}, {item.size}" in about["tooltip"]
        for item in OF_THE_CASCADE.values()
    )
    assert info["input"]["required"]["accept_license"][1]["default"] is False
    assert info["output"] == ["STRING"] and info["output_node"]


def test_nothing_is_fetched_unasked(server, hub):
    result = fetch(server, BASE, accept=False)
    assert (
        result.status == "error"
        and "CC BY-NC 4.0" in result.message
        and "accept_license" in result.message
    )
    assert hub.requests == [] and not (server.base / "models" / "show1").exists()


def test_a_cancelled_download_goes_on_and_the_model_is_listed(server, hub):
    hub.faults[UNET] = iter([Fault("slow", seconds=2)])

    def cancel(kind: str, data: dict) -> None:
        if kind == "progress" and data["value"] > 60_000:
            server.request("POST", "/interrupt", {})

    start = time.monotonic()
    assert fetch(server, BASE, on_event=cancel).status == "interrupted"
    assert time.monotonic() - start < 20
    assert BASE not in models(server)
    hub.requests.clear()
    result = fetch(server, BASE)
    assert result.status == "success", result.message
    assert hub.fetched(UNET)[0].startswith("bytes=")
    values = [value for value, _ in result.progress["1"]]
    assert values[-1] == result.progress["1"][-1][1] > 200_000
    assert BASE in models(server)


def test_a_model_that_was_deleted_is_fetched_again(server):
    folder = server.base / "models" / "show1" / "show-1-sr1"
    assert fetch(server, "show-1-sr1").status == "success" and folder.is_dir()
    folder.rename(folder.with_name("moved"))
    assert fetch(server, "show-1-sr1").status == "success" and folder.is_dir()


def test_an_error_names_what_went_wrong(server):
    result = fetch(server, "show-1-sr2")
    assert result.status == "error" and "withdrawn" in result.message
