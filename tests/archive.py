"""The archive that ComfyUI's registry hands out, as `comfy node pack` makes it, and what is
flagged in one."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

# The scanner reads every file of the archive, comments and prose included, by plain patterns; one
# finding of any severity keeps a version from being installed. These are the patterns of published
# findings (2026) that a pack like this one could meet by accident.
FLAGGED = {
    "python_network_operations": r"\.(connect|bind|listen|send|sendall|recv)\s*\(|\bsocket\b"
    r"|urllib\.request|urlopen"
    r"|http\.client|\brequests\.(get|post|put|Session)|aiohttp\s*\.\s*ClientSession",
    "python_command_injection_risk": r"\bsubprocess\b|os\.(system|popen|exec|spawn)|\bPopen\b",
    "python_environment_manipulation": r"os\.(environ|getenv|putenv|unsetenv)",
    "python_database_connections": r"\bsqlite3\b",
    "python_dynamic_execution": r"(?<![\w.])(eval|exec|compile)\s*\("
    r"|\.eval\s*\(\s*[^)\s]|__import__",
    "python_bytecode_manipulation": r"import_module\s*\(|\bmarshal\b",
    "python_privilege_escalation": r"\b(sudo|doas|pkexec|runas)\b",
    "contains_blacklisted_url": r"raw\.githubusercontent\.com",
    "unpickling": r"\bpickle\.loads?\b|\bcPickle\b",
}


def git(
    pack: Path, *arguments: str, text: str | None = None, fine: tuple[int, ...] = (0,)
) -> list[str]:
    """The NUL-separated answer of a git command."""
    done = subprocess.run(
        ["git", "-C", pack, *arguments], input=text, capture_output=True, text=True
    )
    if done.returncode not in fine:
        pytest.skip(f"git cannot tell what belongs to this checkout: {done.stderr.strip()}")
    return [item for item in done.stdout.split("\0") if item]


def tracked(pack: Path) -> list[str]:
    """Every file of the repository that is there."""
    return [name for name in git(pack, "ls-files", "-z") if (pack / name).is_file()]


def packed(pack: Path) -> list[str]:
    """The files that go into the archive: what git tracks, without what .comfyignore matches."""
    names = tracked(pack)
    ignored = git(
        pack,
        "-c",
        "core.excludesFile=.comfyignore",
        "check-ignore",
        "--no-index",
        "--stdin",
        "-z",
        text="\0".join(names),
        fine=(0, 1),
    )
    return sorted(set(names) - set(ignored))


def unpack(pack: Path, target: Path) -> Path:
    """The archive's content as a folder."""
    for name in packed(pack):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pack / name, target / name)
    return target


def findings(text: str) -> list[str]:
    """What the registry's scanner would say of a file's text."""
    return [
        f"{rule}: {match[0]}"
        for rule, pattern in FLAGGED.items()
        if (match := re.search(pattern, text))
    ]
