"""The house's own rules (CONTRIBUTING.md), held against the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parent.parent
ROOMS = ("nodes", "show1_engine", "show1_micro", "benchmarks")
LONGEST_FUNCTION = 60
MOST_POSITIONAL = 3
# Tensor maths, and functions of other packages whose arguments have an order everybody knows.
MATHS = re.compile(
    r"(^|\.)(rand|randn|zeros|ones|tensor|view|expand|permute|reshape|new_empty|new_full|linspace"
    r"|unet|net|network|self|cls|_means|values"
    r"|zip|partial|info|warning|to_thread|text|forward|super\(\)\.__init__|eval)"
    r"(\(.*\))?$"
)
SHIPS = ("nodes", "show1_engine")


def files(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (PACK / room).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(PACK).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in files(*ROOMS)}


def imports_of(path: Path, late: bool) -> set[str]:
    """The modules of ours that a file imports; `late`: inside functions, too."""
    name, found = module_of(path), set()
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in statements(ast.parse(path.read_text()), late):
        if isinstance(node, ast.Import):
            found |= {item.name for item in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join(filter(None, [*base, node.module]))
            for item in node.names:
                inner = f"{source}.{item.name}"
                found.add(inner if inner in MODULES else source)
    return found & MODULES.keys() - {name}


def statements(node: ast.AST, late: bool) -> Iterator[ast.AST]:
    """A module's statements, those only for type checkers left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not late:
            continue
        yield child
        yield from statements(child, late)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Every way from a module back to itself, one for each that is on such a way."""
    found = []
    for start in sorted(graph):
        ways, seen = [[start]], set()
        while ways:
            way = ways.pop()
            for after in graph[way[-1]]:
                if after == start:
                    found.append([*way, start])
                    ways = []
                    break
                if after not in seen:
                    seen.add(after)
                    ways.append([*way, after])
    return found


def test_no_import_circles():
    graph = {name: imports_of(path, late=True) for name, path in MODULES.items()}
    assert circles(graph) == []


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) != []


def test_nothing_that_ships_imports_the_laboratory_or_the_benchmarks():
    reaching = {
        module_of(path): sorted(
            name
            for name in imports_of(path, late=True)
            if name.split(".")[0] in ("show1_micro", "benchmarks")
        )
        for path in files(*SHIPS)
    }
    assert {name: found for name, found in reaching.items() if found} == {}


def test_only_the_host_and_the_nodes_know_comfyui():
    host = re.compile(r"^\s*(from|import) (comfy\w*|folder_paths|server|execution)\b", re.MULTILINE)
    knowing = [
        module_of(path)
        for path in files("show1_engine")
        if host.search(path.read_text()) and ".host" not in module_of(path)
    ]
    assert knowing == []


@pytest.mark.parametrize("room", [*ROOMS, "scripts", "tests"])
def test_lines_and_functions_are_short(room):
    found = []
    for path in files(room):
        text = path.read_text()
        where = path.relative_to(PACK)
        found += [
            f"{where}:{number}"
            for number, line in enumerate(text.splitlines(), 1)
            if len(line) > 100
        ]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > LONGEST_FUNCTION and room != "tests":  # there, tables of cases
                    found.append(f"{where}:{node.lineno}: {node.name} has {lines} lines")
    assert found == []


@pytest.mark.parametrize("room", ROOMS)
def test_calls_name_what_they_pass(room):
    found = []
    for path in files(room):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and len(node.args) > MOST_POSITIONAL:
                name = ast.unparse(node.func)
                starred = any(isinstance(argument, ast.Starred) for argument in node.args)
                if not starred and not MATHS.search(name):
                    found.append(f"{path.relative_to(PACK)}:{node.lineno}: {name}")
    assert found == []
