"""A ComfyUI server as a child process, and prompts run on it.

What scripts/quickstart and the host tests share. Needs only what ComfyUI's own interpreter has
(aiohttp).

    with Server(comfyui, base=base, python=python) as server:
        prompt = ui_to_api(workflow, server.object_info())
        run = run_prompt(server, prompt)
        print(run.status, run.message, server.files(run))
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PACK = Path(__file__).resolve().parent.parent
PACK_NAME = "show-1"
BASE_FOLDERS = ("custom_nodes", "models", "input", "output", "temp", "user")
# Binary websocket messages: a picture, text on a node, a picture with its node.
PREVIEW, TEXT, PREVIEW_WITH_METADATA = 1, 3, 4
MUTED, BYPASSED = 2, 4  # a node's mode in the editor
_PLAIN = ("INT", "FLOAT", "STRING", "BOOLEAN")  # types that are typed in


class ServerError(RuntimeError):
    """The server did not come up."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def link_pack(custom_nodes: Path, name: str = PACK_NAME) -> Path:
    """Make this checkout a custom node pack of the given folder; an entry that already leads here
    is kept, a link that leads nowhere replaced. ServerError if another copy is there.
    """
    custom_nodes.mkdir(parents=True, exist_ok=True)
    for entry in custom_nodes.iterdir():
        if entry.resolve() == PACK:
            return entry
    link = custom_nodes / name
    if link.exists():
        raise ServerError(f"'{link}' is another copy of this pack; remove it, or start from there")
    link.unlink(missing_ok=True)
    link.symlink_to(PACK, target_is_directory=True)
    return link


class Server:
    """One ComfyUI process. Everything it writes goes below `base`; without a base, into the
    install's own folders.
    """

    def __init__(
        self,
        comfyui: Path,
        *,
        base: Path | None = None,
        python: str = sys.executable,
        args: tuple = (),
        env: dict[str, str] | None = None,
        port: int | None = None,
        log: Path | None = None,
    ):
        self.comfyui, self.python = Path(comfyui).resolve(), python
        self.base = Path(base).resolve() if base else self.comfyui
        self.args, self.env = list(args), env or {}
        self.port = port or free_port()
        self.log = log or self.base / "server.log"
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        command = [
            self.python,
            "-u",
            "main.py",
            "--port",
            str(self.port),
            "--disable-auto-launch",
            *self.args,
        ]
        if self.base != self.comfyui:
            for name in BASE_FOLDERS:
                (self.base / name).mkdir(parents=True, exist_ok=True)
            command += [
                "--base-directory",
                str(self.base),
                "--database-url",
                f"sqlite:///{self.base / 'user' / 'comfyui.db'}",
            ]
        return command

    def start(self, timeout: float = 300) -> Server:
        """Boot and wait until the server answers. Raises ServerError with the end of its log."""
        env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | self.env
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command(),
                cwd=self.comfyui,
                env=env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        while not self._answers():
            if self.process.poll() is not None:
                raise ServerError(f"ComfyUI ended while starting.\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.stop()
                raise ServerError(
                    f"ComfyUI did not answer within {timeout:.0f} s.\n{self.log_tail()}"
                )
            time.sleep(0.3)
        return self

    def _answers(self) -> bool:
        with suppress(OSError):
            return self.request("GET", "/system_stats", timeout=5)[0] == 200
        return False

    def stop(self) -> None:
        """End the process and everything it started."""
        if self.process is None:
            return
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, sign)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
                break
        self.process = None

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])

    def request(
        self, method: str, path: str, body: dict | None = None, timeout: float = 60
    ) -> tuple[int, bytes]:
        """Status and body of one HTTP request; a status of 400 and above is an answer, not an
        exception.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def get(self, path: str):
        """The JSON answer of a GET."""
        return json.loads(self.request("GET", path)[1])

    def object_info(self) -> dict[str, dict]:
        return self.get("/object_info")

    def files(self, run: Run) -> list[Path]:
        """The files that a run's output nodes name, in the order of the nodes' ids; pictures in
        temp are previews.
        """
        entries = [
            item
            for _, output in sorted(run.outputs.items())
            for value in output.values()
            if isinstance(value, list)
            for item in value
            if isinstance(item, dict) and "filename" in item
        ]
        return [
            self.base / (e.get("type") or "output") / (e.get("subfolder") or "") / e["filename"]
            for e in entries
            if e.get("type") != "temp"
        ]


@dataclass
class Preview:
    """A picture shown on a node while it runs."""

    node: str | None
    mime: str
    image: bytes


@dataclass
class Run:
    """What a client saw of one prompt. status: success, error, interrupted, rejected, timeout or
    died.
    """

    status: str | None = None
    error: dict = field(default_factory=dict)
    outputs: dict[str, dict] = field(default_factory=dict)
    progress: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    previews: list[Preview] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)  # (node, text shown on it)
    executed: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def message(self) -> str:
        """The error as the user reads it, "" without one."""
        if self.status == "rejected":
            found = [self.error["error"]] + [
                e for node in (self.error.get("node_errors") or {}).values() for e in node["errors"]
            ]
            return "; ".join(
                f"{e['message']}: {e['details']}" if e.get("details") else e["message"]
                for e in found
            )
        return self.error.get("exception_message", "").strip()


def run_prompt(
    server: Server,
    prompt: dict,
    timeout: float = 3600,
    on_event: Callable[[str, dict], None] | None = None,
) -> Run:
    """Queue one API-format prompt and follow it to its end. `on_event` sees every message of the
    server by its type. In a thread of its own: a browser's event loop may occupy the caller's.
    """
    follower = _Follower(server, on_event)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, follower.run(prompt, timeout)).result()


class _Follower:
    """The websocket side of one prompt."""

    def __init__(self, server: Server, on_event: Callable[[str, dict], None] | None):
        self.server, self.result = server, Run()
        self.on_event = on_event or (lambda kind, data: None)
        self.prompt_id = None

    async def run(self, prompt: dict, timeout: float) -> Run:
        import aiohttp  # ComfyUI's interpreter has it; a reader of this file's other parts need not

        client, begin = uuid.uuid4().hex, time.monotonic()
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(
                f"{self.server.url}/ws?clientId={client}", max_msg_size=0
            ) as socket:
                await socket.send_json(
                    {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
                )
                await self._queue(prompt, client)
                while self.result.status is None:
                    await self._receive(socket)
                    if time.monotonic() - begin > timeout:
                        self.result.status = "timeout"
        self.result.seconds = time.monotonic() - begin
        return self.result

    async def _queue(self, prompt: dict, client: str) -> None:
        body = {"prompt": prompt, "client_id": client}
        status, answer = await asyncio.to_thread(self.server.request, "POST", "/prompt", body)
        answer = json.loads(answer)
        if status != 200:
            self.result.status, self.result.error = "rejected", answer
        self.prompt_id = answer.get("prompt_id")

    async def _receive(self, socket) -> None:
        try:
            message = await socket.receive(timeout=1)
        except asyncio.TimeoutError:
            if not self.server.alive:
                self.result.status = "died"
            return
        if isinstance(message.data, bytes):
            self._binary(message.data)
        elif isinstance(message.data, str):
            event = json.loads(message.data)
            data = event.get("data") or {}
            if data.get("prompt_id") in (None, self.prompt_id):
                self._event(event["type"], data)
        else:
            self.result.status = "died"

    def _binary(self, data: bytes) -> None:
        kind, second = struct.unpack(">II", data[:8])
        if kind == TEXT:
            self.result.texts.append(
                (data[8 : 8 + second].decode(), data[8 + second :].decode("utf-8", "replace"))
            )
            return
        if kind == PREVIEW_WITH_METADATA:
            about = json.loads(data[8 : 8 + second])
            preview = Preview(about.get("node_id"), about.get("image_type"), data[8 + second :])
        elif kind == PREVIEW:
            preview = Preview(None, "image/png" if second == 2 else "image/jpeg", data[8:])
        else:
            return
        self.result.previews.append(preview)
        self.on_event("preview", {"node": preview.node})

    def _event(self, kind: str, data: dict) -> None:
        result = self.result
        if kind == "progress":
            result.progress.setdefault(data["node"], []).append((data["value"], data["max"]))
        elif kind == "executing" and data.get("node"):
            result.executed.append(data["node"])
        elif kind == "execution_cached":
            result.cached = data.get("nodes", [])
        elif kind == "executed":
            result.outputs[data["node"]] = data.get("output") or {}
        elif kind in ("execution_error", "execution_interrupted", "execution_success"):
            result.status = kind.removeprefix("execution_")
            result.error = data if kind == "execution_error" else {}
        self.on_event(kind, data)


def ui_to_api(workflow: dict, object_info: dict[str, dict]) -> dict[str, dict]:
    """The API-format prompt of a workflow saved by the editor, made as the editor makes it.

    For graphs without subgraphs; notes and muted nodes are left out, and bypassed nodes hand on
    their first input of an output's type. Raises KeyError for an unknown node.
    """
    sources = {link[0]: (link[1], link[2]) for link in workflow["links"]}
    nodes = {node["id"]: node for node in workflow["nodes"]}

    def source(link: int) -> list:
        node, output = nodes[sources[link][0]], sources[link][1]
        if node.get("mode") != BYPASSED:
            return [str(node["id"]), output]
        kind = node["outputs"][output]["type"]
        return source(next(i["link"] for i in node["inputs"] if i["type"] == kind))

    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in ("Note", "MarkdownNote") or node.get("mode") in (MUTED, BYPASSED):
            continue
        inputs = _widget_values(node, object_info[node["type"]])
        inputs |= {
            i["name"]: source(i["link"])
            for i in node.get("inputs", [])
            if i.get("link") is not None
        }
        prompt[str(node["id"])] = {
            "class_type": node["type"],
            "inputs": inputs,
            "_meta": {"title": node.get("title") or object_info[node["type"]]["display_name"]},
        }
    return prompt


def _widget_values(node: dict, info: dict) -> dict:
    """A saved node keeps its values in the order of its widgets; newer editors name them too."""
    named = node.get("widgets_values_named") or {}
    values = node.get("widgets_values") or []
    if isinstance(values, dict):
        named, values = values, []
    in_order, result = iter(values), {}
    for name, kind, options in _widgets(info["input"], _saved_inputs(node), result):
        # An input that the node got after the graph was saved has its default.
        value = next(in_order, _default(kind, options))
        result[name] = named.get(name, _default(kind, options) if named else value)
        if options.get("control_after_generate"):
            next(in_order, None)
    return result


def _saved_inputs(node: dict) -> dict[str, dict]:
    return {entry["name"]: entry for entry in node.get("inputs", [])}


def _widgets(
    inputs: dict, saved: dict[str, dict], values: dict, prefix: str = ""
) -> Iterator[tuple[str, str | list, dict]]:
    """Name, type and options of a node's widgets in their order.

    What a widget's value or a link brings along follows it, as "format.codec" follows "format":
    `values` has to hold a widget's value when the next one is asked for.
    """
    for name, spec in (inputs.get("required", {}) | inputs.get("optional", {})).items():
        name, kind, options = prefix + name, spec[0], spec[1] if len(spec) > 1 else {}
        if _is_widget(kind, options, saved.get(name)):
            yield name, kind, options
        yield from _widgets(
            _brought_along(options, name, saved, values=values), saved, values, prefix=f"{name}."
        )


def _is_widget(kind: str | list, options: dict, saved: dict | None) -> bool:
    """As the saved node says of its inputs; of one that it lacks, as its options have it."""
    if options.get("forceInput"):
        return False
    if saved is not None:
        return "widget" in saved
    return isinstance(kind, list) or "default" in options or "options" in options or kind in _PLAIN


def _brought_along(options: dict, name: str, saved: dict[str, dict], values: dict) -> dict:
    """The inputs that are there because of an input's value or because it is linked."""
    for option in options.get("options", []):
        if isinstance(option, dict) and option.get("key") == values.get(name):
            return option["inputs"]
    linked = saved.get(name, {}).get("link") is not None
    return options["inputs"] if linked and "inputs" in options else {}


def _default(kind: str | list, options: dict):
    """What the editor puts into a new widget: its default, else the first of what can be chosen."""
    if "default" in options:
        return options["default"]
    first = next(iter(kind if isinstance(kind, list) else options.get("options", [])), None)
    return first["key"] if isinstance(first, dict) else first
