"""ComfyUI's frontend in headless Chromium, for the host tests."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

from comfyui_server import Server

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]

# What the bare frontend logs on a machine without internet or accounts. Anything else is a finding.
NOISE = re.compile(
    r"net::ERR_|status of 404|Failed to fetch releases|Content Security Policy|Sign in error|"
    r"setting 'value'|cleanup event listeners|Error fetching file size"
)

READY = """() => window.app?.graph && window.app.canvas && window.app.vueAppReady !== false &&
    Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 20"""

NODES = """() => window.app.graph.nodes.map(n => ({
    id: n.id, type: n.type, known: n.type in window.LiteGraph.registered_node_types,
    errors: !!n.has_errors}))"""

SET_WIDGETS = """([name, value]) =>
    [window.app.graph, ...(window.app.graph.subgraphs?.values() ?? [])]
    .flatMap(graph => graph.nodes).flatMap(node => node.widgets ?? [])
    .filter(widget => widget.name === name)
    .forEach(widget => { widget.value = value; widget.callback?.(value) })"""

DIALOGS = """() => [...document.querySelectorAll(
    '.p-dialog, [role=dialog], .p-toast-message, [role=alert]')]
    .filter(e => e.getClientRects().length).map(e => e.innerText.trim())
    .filter(text => text.length > 20)"""


def missing_browser() -> str:
    """Why there can be no browser test here, "" if there can."""
    if not shutil.which("chromium"):
        return "chromium is not installed (Debian: apt-get install chromium)"
    if not importlib.util.find_spec("playwright"):
        return "the package playwright is not installed"
    return ""


@contextmanager
def launched_chromium():
    """A running Chromium. Playwright allows one of its kind in a process."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield chromium
        chromium.close()


class Browser:
    """Pages of a server in Chromium; each is a fresh profile, and nothing outside the server can be
    reached from it.
    """

    def __init__(self, server: Server, chromium):
        self.server, self._chromium = server, chromium

    @contextmanager
    def page(self, size: tuple[int, int] = (1800, 1000)):
        context = self._chromium.new_context(viewport={"width": size[0], "height": size[1]})
        try:
            yield Page(self.server, context)
        finally:
            context.close()


class Page:
    """The editor with an empty graph. `complaints` collects the console's and the page's errors
    from then on: what the frontend logs while it starts is its own (the pack has no JavaScript).
    """

    def __init__(self, server: Server, context):
        self.server, self.complaints, self.queued = server, [], []
        context.route("**/*", self._local_only)
        context.add_init_script("localStorage.setItem('vueNodesBannerDismissed', 'true')")
        self.page = context.new_page()
        self.page.on("console", lambda m: self._complain(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self._complain(str(error)))
        self.page.on("response", self._note_queued)
        self.page.goto(server.url, wait_until="domcontentloaded", timeout=120_000)
        self.page.wait_for_function(READY, timeout=120_000)
        self.page.wait_for_timeout(1500)
        self.blank()  # the default graph's missing checkpoint is no finding

    def blank(self) -> None:
        """An empty graph; what was complained about before is forgotten."""
        self.page.keyboard.press("Escape")
        self.command("Comfy.NewBlankWorkflow")
        self.page.wait_for_timeout(800)
        self.complaints.clear()
        self.queued.clear()

    def _local_only(self, route) -> None:
        local = route.request.url.startswith((self.server.url, "data:", "blob:"))
        route.continue_() if local else route.abort()

    def _complain(self, text: str) -> None:
        if not NOISE.search(text):
            self.complaints.append(text)

    def _note_queued(self, response) -> None:
        if response.request.method == "POST" and response.url.endswith("/api/prompt"):
            self.queued.append(response.json())

    def command(self, name: str) -> None:
        self.page.evaluate("(name) => window.app.extensionManager.command.execute(name)", name)

    def setting(self, name: str, value) -> None:
        self.page.evaluate(
            "([name, value]) => window.app.extensionManager.setting.set(name, value)", [name, value]
        )

    def load(self, workflow: dict) -> None:
        self.page.evaluate("(w) => { window.app.loadGraphData(w, true, true) }", workflow)
        self.page.wait_for_timeout(2000)

    def nodes(self) -> list[dict]:
        return self.page.evaluate(NODES)

    def set_widgets(self, name: str, value) -> None:
        """Give every widget of that name the value, inside subgraphs too."""
        self.page.evaluate(SET_WIDGETS, [name, value])

    def add_by_search(self, text: str) -> None:
        """Put the first hit of the node search into the graph, as a user does."""
        self.command("Workspace.SearchBox.Toggle")
        self.page.wait_for_timeout(800)
        self.page.keyboard.type(text)
        self.page.wait_for_timeout(1500)
        self.page.keyboard.press("Enter")
        self.page.wait_for_timeout(1200)

    def dialogs(self) -> list[str]:
        return self.page.evaluate(DIALOGS)

    def api_prompt(self) -> dict:
        """The graph as the editor itself would send it."""
        return self.page.evaluate("async () => (await window.app.graphToPrompt()).output")

    def press_run(self) -> str:
        """Queue the graph by the Run button; the prompt's id."""
        self.page.locator('[data-testid="queue-button"]').first.click(timeout=10_000)
        deadline = time.monotonic() + 30
        while not self.queued and time.monotonic() < deadline:
            self.page.wait_for_timeout(100)
        assert self.queued and "prompt_id" in self.queued[-1], (
            f"not queued: {json.dumps(self.queued)}"
        )
        return self.queued[-1]["prompt_id"]

    def wait_for(self, prompt_id: str, timeout: float = 600) -> dict:
        """The history entry of a prompt once it has ended."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            history = self.server.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]
            self.page.wait_for_timeout(300)
        raise TimeoutError(f"prompt {prompt_id} did not end within {timeout} s")

    def picture(self, path: Path) -> None:
        """A screenshot of the whole graph."""
        self.command("Comfy.Canvas.FitView")
        self.page.wait_for_timeout(900)
        self.page.screenshot(path=path)
