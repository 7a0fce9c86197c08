"""Writes locales/en from the nodes' own schemas, as a running ComfyUI reports them.

    python scripts/make_english.py COMFYUI

COMFYUI is a source tree whose packages this interpreter has. To be run when a node's names,
descriptions or tooltips have changed; the tests compare.
"""

import json
import sys
import tempfile
from pathlib import Path

from comfyui_server import PACK, Server, link_pack

ENGLISH = PACK / "locales" / "en"


def node_words(info: dict) -> dict:
    """A node's entry in nodeDefs.json: every word of it that a person reads, from its
    /object_info.
    """
    inputs = info["input"].get("required", {}) | info["input"].get("optional", {})
    words = {"display_name": info["display_name"], "description": info["description"]}
    words["inputs"] = {
        name: {"name": spec[1].get("display_name") or name, "tooltip": spec[1]["tooltip"]}
        for name, spec in inputs.items()
    }
    words["outputs"] = {
        str(number): {"name": name} for number, name in enumerate(info["output_name"])
    }
    return words


def english(object_info: dict[str, dict]) -> dict[str, dict]:
    """The contents of locales/en by file name."""
    ours = {name: info for name, info in object_info.items() if name.startswith("Show1")}
    categories = {
        part: part
        for info in ours.values()
        for part in info["category"].split("/")
        if "Show-1" in part
    }
    return {
        "main.json": {"nodeCategories": categories},
        "nodeDefs.json": {name: node_words(info) for name, info in ours.items()},
    }


def main(comfyui: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        link_pack(Path(folder) / "custom_nodes")
        with Server(comfyui, base=Path(folder), args=("--cpu", "--disable-api-nodes")) as server:
            files = english(server.object_info())
    ENGLISH.mkdir(parents=True, exist_ok=True)
    for name, words in files.items():
        (ENGLISH / name).write_text(json.dumps(words, indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
