"""The pack as ComfyUI sees it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from comfyui_server import PACK
from make_english import english

# The interface itself is frozen in interface.json: see test_released.py.
NODES = list(json.loads((Path(__file__).parent / "interface.json").read_text()))


@pytest.fixture(scope="module")
def object_info(server):
    return server.object_info()


def test_pack_imports_without_failure(server):
    boot = server.log_text().partition("Starting server")[0]
    assert "(IMPORT FAILED)" not in boot
    assert "/custom_nodes/show-1" in boot  # it is listed among the imported packs
    assert [
        line
        for line in boot.splitlines()
        if "how1" in line and ("Error" in line or "Warning" in line)
    ] == []


@pytest.mark.parametrize("node", NODES)
def test_everything_is_explained(object_info, node):
    info = object_info[node]
    assert info["category"] == "video/Show-1"
    assert info["display_name"] and info["display_name"] != node and info["display_name"].isascii()
    assert info["description"]
    assert all(name and name != kind for name, kind in zip(info["output_name"], info["output"]))
    inputs = info["input"].get("required", {}) | info["input"].get("optional", {})
    assert [
        name for name, spec in inputs.items() if len(spec) < 2 or not spec[1].get("tooltip")
    ] == []


def test_nothing_else_of_ours_is_listed(object_info):
    ours = {
        name
        for name, info in object_info.items()
        if info.get("category", "").startswith("video/Show-1")
    }
    assert ours >= set(NODES)
    assert all(name.startswith("Show1") for name in ours)


def test_models_are_listed(object_info):
    def options(node: str, name: str) -> list[str]:
        kind, about = object_info[node]["input"]["required"][name]
        return kind if isinstance(kind, list) else about["options"]

    models = options("Show1LoadModel", "model_name")
    assert {"show-1-base", "show-1-interpolation", "show-1-sr1", "show-1-sr2"} <= set(models)
    assert {"show-1-base", "show-1-sr2"} <= set(options("Show1LoadTextEncoder", "name"))


def test_engine_knows_the_host_in_one_place_only(pack):
    """Only host/ imports ComfyUI's modules; nodes/ may use the declared API."""
    host_modules = (
        "import comfy",
        "from comfy",
        "import folder_paths",
        "from folder_paths",
        "import server",
    )
    for folder, allowed in (("show1_engine", ()), ("nodes", ("from comfy_api.latest import",))):
        for file in (pack / folder).rglob("*.py"):
            if file.parent == pack / "show1_engine" / "host":
                continue
            for line in map(str.strip, file.read_text().splitlines()):
                assert not line.startswith(host_modules) or line.startswith(allowed or "\0"), (
                    f"{file}: {line}"
                )


def test_metadata_is_read_by_the_host(pack, comfyui):
    """pyproject.toml through ComfyUI's own parser."""
    code = (
        "import json, sys; from comfy_config.config_parser import extract_node_configuration as "
        "read; print(read(sys.argv[1]).model_dump_json())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, pack], cwd=comfyui, check=True, capture_output=True, text=True
    )
    config = json.loads(done.stdout.splitlines()[-1])
    assert (
        config["project"]["name"] == "show-1" and config["tool_comfy"]["display_name"] == "Show-1"
    )
    assert config["project"]["supported_comfyui_version"] == ">=0.3.75"


def test_no_requirement_is_torch(pack):
    assert "torch" not in Path(pack / "requirements.txt").read_text().replace("# torch", "")


def test_chinese_is_complete(server, object_info):
    """Every node, input and output has its Chinese name, every input its tooltip; nothing gone is
    translated.
    """
    chinese = server.get("/api/i18n")["zh"]["nodeDefs"]
    for node in NODES:
        info, words = object_info[node], chinese[node]
        inputs = info["input"].get("required", {}) | info["input"].get("optional", {})
        assert set(words["inputs"]) == set(inputs), node
        assert all(entry["name"] and entry["tooltip"] for entry in words["inputs"].values()), node
        assert (
            len(words["outputs"]) == len(info["output"])
            and words["display_name"]
            and words["description"]
        )


def test_english_is_what_the_nodes_say(server, object_info):
    """locales/en is the schemas' own words: scripts/make_english.py writes it."""
    served = server.get("/api/i18n")["en"]
    for name, words in english(object_info).items():
        assert json.loads((PACK / "locales" / "en" / name).read_text()) == words
        assert (
            served[name.partition(".")[0]]
            if name != "main.json"
            else {key: served[key] for key in words}
        ) == words


def test_words_mean_themselves(server):
    """The editor's translator gives these characters a meaning of its own."""
    for language in ("en", "zh"):
        assert not set("{}@|") & set(
            json.dumps(leaves(server.get("/api/i18n")[language]), ensure_ascii=False)
        )


def test_languages_have_the_same_entries(server):
    served = server.get("/api/i18n")
    english, chinese = (entries(served[language]["nodeDefs"]) for language in ("en", "zh"))
    assert {key for key in english if key.startswith("Show1")} == {
        key for key in chinese if key.startswith("Show1")
    }
    assert served["en"]["nodeCategories"].keys() == served["zh"]["nodeCategories"].keys()


def entries(words: dict, above: str = "") -> dict[str, str]:
    """Nested words by their path, as "Show1Keyframes/inputs/model/name"."""
    found = {}
    for key, value in words.items():
        found |= (
            entries(value, f"{above}{key}/") if isinstance(value, dict) else {above + key: value}
        )
    return found


def leaves(words: dict) -> list[str]:
    return [text for key, text in entries(words).items() if "Show" in key]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_help_pages(server, object_info, language):
    """Every node has one where the editor looks, with every input in it and its pictures there."""
    chinese = server.get("/api/i18n")["zh"]["nodeDefs"]
    for node in (name for name in object_info if name.startswith("Show1")):
        info = object_info[node]
        title = (info if language == "en" else chinese[node])["display_name"]
        address = f"{node}.md" if language == "en" else f"{node}/{language}.md"
        status, text = server.request("GET", f"/extensions/show-1/docs/{address}")
        text = text.decode()
        assert status == 200 and text.startswith(f"# {title}\n"), address
        inputs = info["input"].get("required", {}) | info["input"].get("optional", {})
        assert [name for name in inputs if not re.search(rf"\b{name}\b", text)] == [], address
        for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text):
            assert server.request("GET", f"/extensions/show-1/docs/{picture}")[1].startswith(
                b"\xff\xd8"
            ), picture


def test_pictures_are_small(pack):
    folders = [pack / folder for folder in ("docs", "nodes/web/docs/pictures", "workflows")]
    pictures = [
        file
        for folder in folders
        for file in folder.iterdir()
        if file.suffix in (".jpg", ".png", ".svg")
    ]
    assert sum(file.stat().st_size for file in pictures) < 1.5e6


def test_every_node_has_search_aliases(pack):
    """Newer hosts search by them (0.3.75 does not know them, so /object_info cannot be asked)."""
    for file in (pack / "nodes").glob("*.py"):
        text = file.read_text()
        assert text.count("node_id=") == text.count("search_aliases=["), file.name
