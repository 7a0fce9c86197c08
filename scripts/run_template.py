"""Run the pack's text-to-video template on a ComfyUI with one prompt. Called by scripts/quickstart.

It runs on ComfyUI's own interpreter. Packages are imported late, so that main() can first say which
are missing.
"""

import argparse
import importlib.metadata
import json
import os
import re
import signal
import sys
import time
import warnings
from pathlib import Path

from comfyui_server import (
    PACK,
    Run,
    Server,
    ServerError,
    free_port,
    link_pack,
    run_prompt,
    ui_to_api,
)

TEMPLATE = PACK / "workflows" / "Show-1 Text to Video.json"
DEFAULT_PROMPT = "a red circle jumping at dusk"
UI_PORT = 8188  # ComfyUI's own
SHEET_COLUMNS, SHEET_FRAMES = 4, 16


def main() -> None:
    options = parse_arguments()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job would ignore it
    warnings.simplefilter("ignore")  # what other packages have to say about each other
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # spinning threads made a busy machine three times slower
    if missing := missing_packages(PACK / "requirements.txt"):
        sys.exit(
            f"error: {sys.executable} lacks packages that the pack needs: {', '.join(missing)}\n"
            f"install them with: {sys.executable} -m pip install -r '{PACK / 'requirements.txt'}'"
        )
    base = options.base or options.comfyui
    try:
        link_pack(base / "custom_nodes")
    except ServerError as error:
        sys.exit(f"error: {error}")
    server = Server(
        options.comfyui,
        base=options.base,
        args=device_arguments(),
        log=base / "quickstart.log",
        port=UI_PORT if options.ui and port_is_free(UI_PORT) else free_port(),
    )
    print(f"== Starting ComfyUI (log: {server.log})", flush=True)
    try:
        with server:
            make_video(server, options.prompt)
            if options.ui:
                print(
                    f"\nComfyUI is running: open {server.url}\nThe graph is under Templates > "
                    f"{PACK.name}. "
                    "Ctrl+C ends it.",
                    flush=True,
                )
                server.process.wait()
    except ServerError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\nStopped.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="quickstart")
    parser.add_argument("prompt", nargs="?", default=DEFAULT_PROMPT)
    parser.add_argument("--ui", action="store_true")
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--base", type=Path)
    return parser.parse_args()


def missing_packages(requirements: Path) -> list[str]:
    """The lines "name>=version" of a requirements file that this interpreter does not satisfy."""
    missing = []
    for line in requirements.read_text().splitlines():
        name, _, floor = line.partition(">=")
        if name and not name.startswith("#") and installed_version(name) < numbers(floor):
            missing.append(line)
    return missing


def installed_version(name: str) -> tuple[int, ...]:
    try:
        return numbers(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return ()


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def device_arguments() -> list[str]:
    """ComfyUI starts without an accelerator only when it is told so."""
    import torch

    return [] if torch.cuda.is_available() or torch.backends.mps.is_available() else ["--cpu"]


def make_video(server: Server, text: str) -> None:
    """Run the template with the prompt and print where the video and its contact sheet are."""
    prompt = with_prompt(ui_to_api(json.loads(TEMPLATE.read_text()), server.object_info()), text)
    print(f'== Running "{TEMPLATE.stem}": {text!r}', flush=True)
    run = run_prompt(server, prompt, on_event=Progress(prompt))
    if run.status != "success":
        sys.exit(f"error: {failure(server, run)}")
    video = next(path for path in server.files(run) if path.suffix == ".mp4")
    print(
        f"\nDone in {run.seconds:.0f} s\nvideo: {video}\nframes: {contact_sheet(video)}", flush=True
    )


def with_prompt(prompt: dict, text: str) -> dict:
    """The graph with another text in its prompt box (the node titled "Prompt")."""
    for node in prompt.values():
        if node["_meta"]["title"] == "Prompt":
            node["inputs"]["value"] = text
            return prompt
    raise ValueError(f"{TEMPLATE.name} has no node titled Prompt")


def failure(server: Server, run: Run) -> str:
    if run.status == "died":
        return f"ComfyUI ended while it was running the graph.\n{server.log_tail()}"
    where = f"{run.error['node_type']}: " if "node_type" in run.error else ""
    return f"{where}{run.message or run.status} (log: {server.log})"


class Progress:
    """One line per node of the graph that takes steps: its title, a bar and the time."""

    def __init__(self, prompt: dict):
        self.titles = {key: node["_meta"]["title"] for key, node in prompt.items()}
        self.node, self.begin = None, time.monotonic()

    def __call__(self, kind: str, data: dict) -> None:
        if kind != "progress":
            return
        if data["node"] != self.node:
            self.node, self.begin = data["node"], time.monotonic()
        done = data["value"] / max(data["max"], 1)
        if done >= 1 or sys.stdout.isatty():
            bar = ("#" * round(24 * done)).ljust(24)
            print(
                f"\r{self.titles[self.node]:34.34} [{bar}] {data['value']:4.0f}/{data['max']:.0f} "
                f"{time.monotonic() - self.begin:5.1f} s",
                end="\n" if done >= 1 else "",
                flush=True,
            )


def contact_sheet(video: Path) -> Path:
    """A PNG beside the video with frames of it, evenly spread."""
    import av
    import numpy as np
    import torch

    sys.path.insert(0, str(PACK))
    from show1_engine.video import write_sheet

    with av.open(str(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    chosen = np.linspace(0, len(frames) - 1, min(SHEET_FRAMES, len(frames))).round().astype(int)
    path = video.with_suffix(".png")
    write_sheet(path, torch.from_numpy(np.stack(frames)[chosen]) / 255, SHEET_COLUMNS)
    return path


def port_is_free(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


if __name__ == "__main__":
    main()
