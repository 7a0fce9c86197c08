"""What the pack calls of the host, and the parameters it has there in several releases.

    python tests/host/signatures.py TREE [TREE ...]

reads ComfyUI source trees (as text: nothing of them is imported) and writes signatures.json beside
this file: one entry per host callable, one line per release. Run it when the pack begins to call
something new of the host, with every release that is listed there. `test_signatures.py` binds each
call of ours against all of them.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACK = Path(__file__).resolve().parents[2]
RECORD = Path(__file__).with_name("signatures.json")
HOST = ("comfy", "comfy_api", "comfy_execution", "folder_paths", "server")
# What a name in our source stands for, where no import says so: the receiver of a call, and its
# class in the host.
OBJECTS = {
    "show1_engine": {
        "patcher": "comfy.model_patcher.ModelPatcher",
        "self.patcher": "comfy.model_patcher.ModelPatcher",
        "loaded": "comfy.model_management.LoadedModel",
        "clip": "comfy.sd.CLIP",
        "clip.cond_stage_model": "comfy.sd1_clip.SD1ClipModel",
        "encoder": "comfy.sd1_clip.SDClipModel",
        "self._vae": "comfy.sd.VAE",
        "bar": "comfy.utils.ProgressBar",
        "self._bar": "comfy.utils.ProgressBar",
        "PromptServer.instance": "server.PromptServer",
    },
    "nodes": {
        "clip": "comfy_api.latest.VideoInput",
        "Model": "comfy_api.latest.io.ComfyTypeIO",
        "TextEncoder": "comfy_api.latest.io.ComfyTypeIO",
    },
    "__init__.py": {},
}
# Classes that are called by a local name, by the start of that call in our source.
CLASSES = {
    "cls(Patchable(": ("comfy.model_patcher.ModelPatcher",),
    "cls(config, torch.float32": ("comfy.text_encoders.t5.T5", "comfy.clip_model.CLIPTextModel"),
}
# Layers of the host that networks are built from: nothing of ours may get in the way of their
# methods.
LAYERS = tuple(
    f"comfy.ops.{namespace}.{layer}"
    for namespace in ("disable_weight_init", "manual_cast")
    for layer in ("Linear", "Conv2d", "Conv3d", "GroupNorm", "LayerNorm", "Embedding")
)
_METHOD = "()"  # behind a name: called on an instance, so that the first parameter is given


@dataclass(frozen=True)
class Call:
    """One call of a host callable in our source."""

    name: str  # dotted, with "()" behind it for a method of an instance
    where: str  # file:line
    positional: int
    keywords: tuple[str, ...]
    open: bool  # holds * or **, or is only named: not all that is passed is known

    def fits(self, signature: str) -> bool:
        """Whether a callable with these parameters takes this call."""
        parameters = parameters_of(signature, bound=self.name.endswith(_METHOD))
        bind = parameters.bind_partial if self.open else parameters.bind
        try:
            bind(*[None] * self.positional, **dict.fromkeys(self.keywords))
        except TypeError:
            return False
        return True


def accepts(override: str, declared: str) -> bool:
    """Whether a method takes, by position and by name, all that the one it replaces declares."""
    ours, theirs = parameters_of(override, bound=True), parameters_of(declared, bound=True)
    kinds = inspect.Parameter
    required = [
        p
        for p in theirs.parameters.values()
        if p.default is kinds.empty and p.kind is kinds.POSITIONAL_OR_KEYWORD
    ]
    named = [
        p.name
        for p in theirs.parameters.values()
        if p not in required and p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    ]
    try:
        ours.bind(*[None] * len(required), **dict.fromkeys(named))
    except TypeError:
        return False
    return True


@cache
def parameters_of(signature: str, bound: bool = False) -> inspect.Signature:
    """ "(self, x, y=..., *rest, key=..., **more)" as a Signature; `bound` leaves out the first
    parameter.
    """
    declared = ast.parse(f"def f{signature}: ...").body[0].args
    kinds, found = inspect.Parameter, []
    positional = declared.posonlyargs + declared.args
    defaults = [None] * (len(positional) - len(declared.defaults)) + declared.defaults
    for argument, default in list(zip(positional, defaults))[bound:]:
        kind = (
            kinds.POSITIONAL_ONLY
            if argument in declared.posonlyargs
            else kinds.POSITIONAL_OR_KEYWORD
        )
        found.append(kinds(argument.arg, kind, default=kinds.empty if default is None else ...))
    if declared.vararg:
        found.append(kinds(declared.vararg.arg, kinds.VAR_POSITIONAL))
    for argument, default in zip(declared.kwonlyargs, declared.kw_defaults):
        found.append(
            kinds(argument.arg, kinds.KEYWORD_ONLY, default=kinds.empty if default is None else ...)
        )
    if declared.kwarg:
        found.append(kinds(declared.kwarg.arg, kinds.VAR_KEYWORD))
    return inspect.Signature(found)


def written(arguments: ast.arguments) -> str:
    """The parameters of a definition, without annotations and with "..." for every default."""
    bare = ast.parse(f"def f({ast.unparse(arguments)}): ...").body[0].args
    for argument in [*bare.posonlyargs, *bare.args, *bare.kwonlyargs, bare.vararg, bare.kwarg]:
        if argument is not None:
            argument.annotation = None
    bare.defaults = [ast.Constant(...)] * len(bare.defaults)
    bare.kw_defaults = [default and ast.Constant(...) for default in bare.kw_defaults]
    return f"({ast.unparse(bare)})"


# --------------------------------------------------------------------------------------------------


def our_files() -> list[Path]:
    """The files of the pack that know the host."""
    engine = PACK / "show1_engine"
    return [
        PACK / "__init__.py",
        *sorted((PACK / "nodes").glob("*.py")),
        *sorted(engine.glob("host.py")),
        *sorted(engine.glob("host/*.py")),
    ]


def our_calls() -> Iterator[Call]:
    """Every call of the pack that goes to the host, and every callable it only names (an open
    call).
    """
    for file in our_files():
        tree = ast.parse(file.read_text())
        names, objects = imported(tree), OBJECTS[file.relative_to(PACK).parts[0]]
        called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            where = f"{file.relative_to(PACK)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call):
                yield from (_call(node, name, where) for name in _called(node, names, objects))
            elif isinstance(node, ast.Attribute) and id(node) not in called:
                if (name := _dotted(node, names)) and name.split(".")[-1].islower():
                    yield Call(name, where, 0, (), True)


def _call(node: ast.Call, name: str, where: str) -> Call:
    keywords = [keyword.arg for keyword in node.keywords]
    stars = any(isinstance(argument, ast.Starred) for argument in node.args)
    positional = sum(not isinstance(argument, ast.Starred) for argument in node.args)
    return Call(
        name, where, positional, tuple(key for key in keywords if key), stars or None in keywords
    )


def imported(tree: ast.AST) -> dict[str, str]:
    """What the names that a file imports from the host stand for, dotted."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for item in node.names:
                root = item.name.split(".")[0]
                if root in HOST:
                    names[item.asname or root] = item.name if item.asname else root
        elif (
            isinstance(node, ast.ImportFrom)
            and not node.level
            and node.module.split(".")[0] in HOST
        ):
            names.update(
                {item.asname or item.name: f"{node.module}.{item.name}" for item in node.names}
            )
    return names


def _called(node: ast.Call, names: dict[str, str], objects: dict[str, str]) -> tuple[str, ...]:
    text = ast.unparse(node)
    for start, known in CLASSES.items():
        if text.startswith(start):
            return known
    owner, _, method = ast.unparse(node.func).rpartition(".")
    if owner in objects:
        bound = not objects[owner].startswith(
            "comfy_api.latest.io"
        )  # a class there, elsewhere an instance
        return (f"{objects[owner]}.{method}{_METHOD if bound else ''}",)
    name = _dotted(node.func, names)
    return (name,) if name else ()


def _dotted(node: ast.AST, names: dict[str, str]) -> str | None:
    root, _, rest = ast.unparse(node).partition(".")
    if root in names and re.fullmatch(r"[\w.]*", rest):
        return f"{names[root]}.{rest}".rstrip(".")
    return None


def our_methods() -> Iterator[tuple[str, str, str]]:
    """(name, parameters, file:line) of every method of the engine and the nodes."""
    for file in [*(PACK / "show1_engine").rglob("*.py"), *our_files()]:
        for owner in ast.walk(ast.parse(file.read_text())):
            for node in owner.body if isinstance(owner, ast.ClassDef) else ():
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield node.name, written(node.args), f"{file.relative_to(PACK)}:{node.lineno}"


# --------------------------------------------------------------------------------------------------


class Tree:
    """A ComfyUI source tree, read as text."""

    def __init__(self, root: Path):
        self.root = Path(root)

    @property
    def version(self) -> str:
        return re.search(
            r'__version__ = "([^"]+)"', (self.root / "comfyui_version.py").read_text()
        )[1]

    def signature(self, name: str) -> str | None:
        """The parameters of a callable by its dotted name; None where this release has none of that
        name.
        """
        found = self.find(name.removesuffix(_METHOD))
        return None if found is None else self._parameters(*found)

    def methods(self, name: str) -> dict[str, str]:
        """A class's methods, its host bases' included."""
        found = self.find(name)
        if found is None:
            return {}
        module, node = found
        inherited = {
            method: signature
            for base in node.bases
            if (there := self._in(module, ast.unparse(base)))
            for method, signature in self._methods_of(*there).items()
        }
        return inherited | self._methods_of(module, node)

    def _methods_of(self, module: str, node: ast.AST) -> dict[str, str]:
        return {
            item.name: written(item.args)
            for item in getattr(node, "body", ())
            if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
        }

    def find(self, name: str) -> tuple[str, ast.AST] | None:
        """The module and the definition of a dotted name."""
        parts = name.split(".")
        for split in range(len(parts), 0, -1):
            module = ".".join(parts[:split])
            if self._source(module) is not None:
                return self._in(module, ".".join(parts[split:]))
        return None

    def _in(self, module: str, name: str) -> tuple[str, ast.AST] | None:
        """A name, dotted or not, as a module's source defines or imports it."""
        tree = self._source(module)
        first, _, rest = name.partition(".")
        if not first or tree is None:
            return None
        for node in _definitions(tree, first):
            return self._member(module, node, rest) if rest else (module, node)
        for node in ast.walk(tree):
            for item in node.names if isinstance(node, ast.ImportFrom) else ():
                if item.name == "*" and (package := self._import(module, node, "")):
                    if found := self._in(package.rstrip("."), name):
                        return found
                if (item.asname or item.name) == first and (
                    there := self._import(module, node, item.name)
                ):
                    return self.find(f"{there}.{rest}".rstrip("."))
        return None

    def _import(self, module: str, node: ast.ImportFrom, name: str) -> str | None:
        package = module.split(".")
        if not self._path(module, "__init__.py").is_file():
            package = package[:-1]
        package = package[: len(package) - node.level + 1] if node.level else []
        source = ".".join(filter(None, [*package, node.module]))
        return f"{source}.{name}" if source.split(".")[0] in HOST else None

    def _member(self, module: str, node: ast.AST, name: str) -> tuple[str, ast.AST] | None:
        """A member of a class, or of the first host base that has it."""
        first, _, rest = name.partition(".")
        for item in _definitions(node, first):
            return self._member(module, item, rest) if rest else (module, item)
        for item in getattr(node, "body", ()):  # another name for something of the module
            if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == first:
                return self._in(module, f"{ast.unparse(item.value)}.{rest}".rstrip("."))
        for base in getattr(node, "bases", ()):
            there = self._in(module, ast.unparse(base))
            if there and (found := self._member(*there, name)):
                return found
        return None

    def _parameters(self, module: str, node: ast.AST) -> str:
        """Parameters of a function; of a class those of its constructor, a dataclass's fields
        included.
        """
        if not isinstance(node, ast.ClassDef):
            return written(node.args)
        made = self._member(module, node, "__init__")
        if made is not None:
            return re.sub(r"^\(self(, )?", "(", written(made[1].args))
        if not any("dataclass" in ast.unparse(item) for item in node.decorator_list):
            return "(*args, **kwargs)"  # a class of another package decides
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
        names = [item.target.id + ("" if item.value is None else "=...") for item in fields]
        return f"({', '.join(names)})"

    def _path(self, module: str, *tail: str) -> Path:
        return self.root.joinpath(*module.split("."), *tail)

    @cache  # noqa: B019 (a few trees, each for the whole run)
    def _source(self, module: str) -> ast.Module | None:
        for file in (self._path(module, "__init__.py"), self._path(module).with_suffix(".py")):
            if file.is_file():
                return ast.parse(file.read_text(encoding="utf-8"))
        return None


def _definitions(node: ast.AST, name: str) -> Iterator[ast.AST]:
    """Classes and functions of that name directly in a module or class, also below an if or try."""
    for item in ast.iter_child_nodes(node):
        if isinstance(item, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if item.name == name:
                yield item
        elif isinstance(item, ast.If | ast.Try):
            yield from _definitions(item, name)


def record(trees: list[Tree]) -> dict:
    """What signatures.json holds: "calls", {name: {release: parameters or null}}, and the methods
    of the "layers".
    """
    names = sorted({call.name for call in our_calls()})
    found = {name: {tree.version: tree.signature(name) for tree in trees} for name in names}
    calls = {name: releases for name, releases in found.items() if any(releases.values())}
    layers: dict[str, dict[str, dict[str, str]]] = {}
    for tree in trees:
        for layer in LAYERS:
            for method, signature in tree.methods(layer).items():
                layers.setdefault(layer, {}).setdefault(method, {})[tree.version] = signature
    return {"calls": calls, "layers": layers}


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    RECORD.write_text(
        json.dumps(record([Tree(Path(path)) for path in sys.argv[1:]]), indent=1) + "\n"
    )
