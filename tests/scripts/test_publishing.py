"""The metadata of pyproject.toml as a publisher's workflow fills it in; the workflows
themselves.
"""

import re
import shutil
import subprocess
from pathlib import Path

import yaml

ACCELERATORS = {
    "Environment :: GPU :: NVIDIA CUDA",
    "Environment :: GPU :: AMD ROCm",
    "Environment :: GPU :: Intel Arc",
    "Environment :: NPU :: Huawei Ascend",
    "Environment :: GPU :: Apple Metal",
}  # the registry's


def fields(file: Path) -> dict[str, str]:
    return dict(re.findall(r'^(\w+) = "(.*)"$', file.read_text(), re.MULTILINE))


def test_a_publishers_fields(pack, tmp_path):
    file = Path(shutil.copy(pack / "pyproject.toml", tmp_path))
    before = fields(file)
    address = "https://github.com/somebody/their-show-1"
    subprocess.run([pack / "scripts" / "fill_in_publisher", address, "somebody", file], check=True)
    added = {name: value for name, value in fields(file).items() if name not in before}
    assert added == {
        "Repository": address,
        "Documentation": f"{address}#readme",
        "Issues": f"{address}/issues",
        "PublisherId": "somebody",
        "Icon": f"{address}/raw/HEAD/docs/icon.svg",
        "Banner": f"{address}/raw/HEAD/docs/banner.svg",
    }
    assert "OWNER" not in file.read_text() and before.items() <= fields(file).items()


def test_accelerators_are_the_registrys_words(pack):
    """A single word that it does not know empties its whole list."""
    named = set(re.findall(r'"(Environment :: .*)"', (pack / "pyproject.toml").read_text()))
    assert "Environment :: GPU :: NVIDIA CUDA" in named and named <= ACCELERATORS


def test_workflows_call_what_is_there(pack):
    """They parse, and every script and path of the repository in their commands exists."""
    files = sorted((pack / ".github" / "workflows").glob("*.yml"))
    assert len(files) >= 3
    for file in files:
        workflow = yaml.safe_load(file.read_text())
        assert {"name", True, "jobs", "permissions"} <= workflow.keys(), (
            file.name
        )  # YAML reads "on" as true
        for job in workflow["jobs"].values():
            assert job["runs-on"] and job["timeout-minutes"]
            for step in job["steps"]:
                assert ("run" in step) != ("uses" in step)
                assert re.search(r"@(v\d+|[0-9a-f]{40})$", step.get("uses", "@v1")), step
                for path in re.findall(r"(?:scripts|tests)/[\w/.]+", step.get("run", "")):
                    assert (pack / path).exists(), f"{file.name}: {path}"
