"""What the engine declares, read from its source and not imported.

Options and their help come from the settings of the stages. Importing those imports torch, which
takes seconds, and `--help` should not wait for it; so their source is parsed in its place. Only
plain declarations are understood: literals, names of such, tables, and dataclasses of them.
`tests/engine/test_options.py` compares all of it with what importing gives.
"""

import ast
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

_ENGINE = Path(__file__).absolute().parents[1]
_TYPES = {"int": int, "float": float, "str": str, "bool": bool}
_FIELD = re.compile(r"^(\w+): (.+(?:\n[ ]+.+)*)", re.MULTILINE)  # and its further, indented lines


@dataclass(frozen=True)
class Setting:
    """A field of a settings dataclass. `text` is what the class's docstring says of it."""

    name: str
    type: type
    default: Any  # None: a subclass gives it
    text: str


def settings(module: str, name: str) -> dict[str, Setting]:
    """The fields of a settings class by name, those of its bases first; or of an instance's class,
    with the instance's values as defaults.

    module: as "stages.pixel_sr"; the name may also be imported there from another of our modules.
    """
    module, node = _declaration(module, name)
    if isinstance(node, ast.Call):
        fields = settings(module, node.func.id)
        given = {word.arg: _value(module, word.value) for word in node.keywords}
        return fields | {key: replace(fields[key], default=value) for key, value in given.items()}
    fields = {}
    for base in node.bases:
        fields |= settings(module, base.id)
    texts = documented(ast.get_docstring(node) or "")
    for line in node.body:
        if isinstance(line, ast.AnnAssign):
            key, kind = line.target.id, _TYPES[line.annotation.id]
            before = fields[key].text if key in fields else ""
            value = None if line.value is None else _value(module, line.value)
            fields[key] = Setting(key, kind, value, text=texts.get(key, before))
    return fields


def stages() -> dict[str, dict[str, Setting]]:
    """The settings of every stage by its option, in order, as the stage table has them."""
    table = "stages.registry"
    _, node = _declaration(table, "STAGES")
    found = {}
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Stage":
            words = {word.arg: word.value for word in call.keywords}
            given = words["settings"]  # a class's call without arguments, or an instance's name
            name = given.func.id if isinstance(given, ast.Call) else given.id
            found[_value(table, words["option"])] = settings(table, name)
    return found


def names(module: str, table: str) -> tuple[str, ...]:
    """The keys of a table or the items of a tuple."""
    module, node = _declaration(module, table)
    return tuple(ast.literal_eval(item) for item in getattr(node, "keys", None) or node.elts)


def documented(docstring: str) -> dict[str, str]:
    """The texts of a docstring's lines `name: text`, each as one line."""
    return {name: " ".join(text.split()) for name, text in _FIELD.findall(docstring)}


def _declaration(module: str, name: str) -> tuple[str, Any]:
    """The module that declares a name, and the class or the value it stands for there."""
    for line in _parsed(module).body:
        if isinstance(line, ast.ClassDef) and line.name == name:
            return module, line
        if isinstance(line, ast.Assign) and name in (getattr(t, "id", "") for t in line.targets):
            return module, line.value
        if isinstance(line, ast.AnnAssign) and line.target.id == name:
            return module, line.value
        if isinstance(line, ast.ImportFrom) and line.level and line.module:
            original = {item.asname or item.name: item.name for item in line.names}
            if name in original:
                above = module.split(".")[: -line.level]
                return _declaration(".".join([*above, line.module]), original[name])
    raise LookupError(f"'{module}' declares no {name}")


def _value(module: str, node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return _value(*_declaration(module, node.id))
    return ast.literal_eval(node)


@cache
def _parsed(module: str) -> ast.Module:
    path = _ENGINE.joinpath(*module.split(".")).with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))
