"""A Hugging Face hub on this machine: the part of its HTTP interface that a download uses, and its
bad days.

with FakeHub() as hub: hub.add("showlab/show-1-base", repository("show-1-base"))
    hub.faults["unet/config.json"] = iter([Fault("reset", after=1)])    # one for each request, then
    none download(..., endpoint=hub.url)
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import torch
from safetensors.torch import save

LARGE = (
    4096  # bytes from which a file is kept in large file storage, behind a redirect, with a SHA-256
)
TOKEN = "hf_" + "x" * 34
UNET = "unet/diffusion_pytorch_model.safetensors"
EXPERTS = ("show-1-sr2", "zeroscope_v2_XL", "zeroscope_v2_576w", "text-to-video-ms-1.7b")
CHANNELS = {
    "show-1-base": 3,
    "show-1-base-0.0": 3,
    "show-1-interpolation": 7,
    "show-1-sr1": 6,
    "IF-II-L-v1.0": 6,
    **dict.fromkeys(EXPERTS, 4),
}


@dataclass
class Fault:
    """What goes wrong with one answer.

    kind: "reset" (connection reset after `after` bytes), "truncate" (closed after `after` bytes),
    "short" (ends after `after` bytes as if that were all), "wrong" (other bytes of the same size),
    "html" (a login page instead), "no_range" (the whole file, whatever was asked for; closed after
    `after` bytes if given), "wrong_range" (bytes from another position), "stall" (nothing for
    `seconds` after `after` bytes), "slow" (64 KiB every `seconds`), "status" (an answer without a
    body).
    """

    kind: str
    after: int = 0
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0


@dataclass
class Request:
    path: str
    range: str | None
    token: str | None


@dataclass
class Repo:
    files: dict[str, bytes]
    gated: bool = False
    sizes: dict[str, int] = field(default_factory=dict)  # sizes that the listing claims

    @property
    def sha(self) -> str:
        return hashlib.sha1(
            b"".join(digest(self.files[name]).encode() for name in sorted(self.files))
        ).hexdigest()


def digest(data: bytes) -> str:
    """Git's name of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class FakeHub:
    def __init__(self):
        self.repos: dict[str, Repo] = {}
        self.faults: dict[str, Iterator[Fault]] = {}  # by file, or "api"
        self.requests: list[Request] = []
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, repo: str, files: dict[str, bytes], **about) -> Repo:
        self.repos[repo] = Repo(dict(files), **about)
        return self.repos[repo]

    def fetched(self, name: str) -> list[str | None]:
        """The Range of every request for the bytes of a file."""
        return [request.range for request in self.requests if request.path == name]

    def __enter__(self) -> FakeHub:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/revision/([^/]+))?", path):
            self._api(match[1])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(match[1], match[2], match[3])
        elif match := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
            self._bytes(match[2], self.hub.repos[match[1]].files[match[2]])
        else:
            self._answer(404, b"Not Found")

    def _token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def _api(self, repo: str) -> None:
        fault = next(self.hub.faults.get("api", iter(())), None)
        if fault and self._instead(fault):
            return
        if repo not in self.hub.repos:  # the hub does not say whether a private one exists
            return self._refuse(401, "RepoNotFound")
        about = self.hub.repos[repo]
        siblings = []
        for name, data in about.files.items():
            size = about.sizes.get(name, len(data))
            entry = {"rfilename": name, "size": size, "blobId": digest(data)}
            if len(data) >= LARGE:
                entry["lfs"] = {
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "size": size,
                    "pointerSize": 135,
                }
            siblings.append(entry)
        self._answer(
            200,
            json.dumps(
                {
                    "_id": "0",
                    "id": repo,
                    "modelId": repo,
                    "author": repo.split("/")[0],
                    "sha": about.sha,
                    "private": False,
                    "gated": "auto" if about.gated else False,
                    "disabled": False,
                    "downloads": 0,
                    "likes": 0,
                    "tags": [],
                    "lastModified": "2023-10-12T00:00:00.000Z",
                    "createdAt": "2023-10-10T00:00:00.000Z",
                    "siblings": siblings,
                }
            ).encode(),
            {"Content-Type": "application/json"},
        )

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        about = self.hub.repos.get(repo)
        if about is None or revision not in (about.sha, "main"):
            return self._refuse(404, "RevisionNotFound")
        if about.gated and self._token() != TOKEN:
            return self._refuse(401 if self._token() is None else 403, "GatedRepo")
        if name not in about.files:
            return self._refuse(404, "EntryNotFound")
        data = about.files[name]
        if len(data) < LARGE:
            return self._bytes(name, data)
        self._answer(
            302,
            b"",
            {
                "Location": f"/cdn/{repo}/{name}",
                "X-Repo-Commit": about.sha,
                "X-Linked-Size": str(len(data)),
                "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
            },
        )

    def _bytes(self, name: str, data: bytes) -> None:
        wanted = self.headers.get("Range")
        self.hub.requests.append(Request(name, wanted, self._token()))
        fault = next(self.hub.faults.get(name, iter(())), Fault("none"))
        if self._instead(fault):
            return
        start = (
            int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if wanted and fault.kind != "no_range"
            else 0
        )
        if start >= len(data) > 0:
            return self._answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        if fault.kind == "wrong":
            data = bytes(byte ^ 255 for byte in data)
        shift = 1 if fault.kind == "wrong_range" else 0
        body = data[start - shift :]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start - shift}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(fault.after if fault.kind == "short" else len(body)))
        self.send_header("ETag", f'"{digest(data)}"')
        self.end_headers()
        self._send(body, fault)

    def _send(self, body: bytes, fault: Fault) -> None:
        try:
            kind = "truncate" if fault.kind == "no_range" and fault.after else fault.kind
            if kind in ("reset", "truncate", "short", "stall"):
                self.wfile.write(body[: fault.after])
                self.wfile.flush()
            if kind == "reset":
                time.sleep(0.05)  # a reset overtakes bytes that have not been read
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                self.connection.close()
            elif kind == "truncate":
                self.close_connection = True
            elif kind == "stall":
                time.sleep(fault.seconds)
                self.close_connection = True
            elif kind == "slow":
                for i in range(0, len(body), 1 << 16):
                    self.wfile.write(body[i : i + (1 << 16)])
                    time.sleep(fault.seconds)
            elif kind != "short":
                self.wfile.write(body)
        except OSError:  # the other side has gone
            self.close_connection = True

    def _instead(self, fault: Fault) -> bool:
        """Answers of a fault that has nothing to do with the file."""
        if fault.kind == "status":
            self._answer(fault.status, b"", fault.headers)
        elif fault.kind == "html":
            self._answer(
                200,
                b"<!DOCTYPE html><title>Welcome to the airport</title>",
                {"Content-Type": "text/html"},
            )
        elif fault.kind == "reset" and not fault.after:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        return fault.kind in ("status", "html") or (fault.kind == "reset" and not fault.after)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(
            status,
            json.dumps({"error": code}).encode(),
            {"X-Error-Code": code, "X-Error-Message": code},
        )

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):  # we have closed the socket ourselves
            pass

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            pass


def config(**entries) -> bytes:
    return json.dumps(entries).encode()


def unet_config(channels: int, block: str, **entries) -> bytes:
    """A UNet of one level."""
    return config(
        in_channels=channels,
        block_out_channels=[32],
        down_block_types=[block],
        up_block_types=[block.replace("Down", "Up")],
        **entries,
    )


def weights(size: int = 50_000) -> bytes:
    return save({"w": torch.randn(size, generator=torch.Generator().manual_seed(size))})


def repository(name: str) -> dict[str, bytes]:
    """Files such as the repository of that name has, with some that nobody needs."""
    clip = name in EXPERTS
    blocks = "CrossAttnDownBlock3D" if clip else "SimpleCrossAttnDownBlock3D"
    if name == "IF-II-L-v1.0":
        blocks = "SimpleCrossAttnDownBlock2D"
    files = {
        ".gitattributes": b"*.bin filter=lfs",
        "README.md": b"---\nlicense: cc-by-nc-4.0\n---\n",
        "model_index.json": b"{}",
        UNET: weights(),
        "unet/diffusion_pytorch_model.bin": b"PK" * 5000,
        "unet/config.json": unet_config(CHANNELS[name], blocks),
    }
    files |= {
        f"{folder}/{file}": b"{}"
        for folder, file in (
            ("scheduler", "scheduler_config.json"),
            ("image_noising_scheduler", "scheduler_config.json"),
            ("feature_extractor", "preprocessor_config.json"),
        )
    }
    files |= {
        "text_encoder/config.json": config(model_type="clip_text_model" if clip else "t5"),
        "text_encoder/pytorch_model-00001-of-00002.bin": weights(5_000),
        "text_encoder/pytorch_model-00002-of-00002.bin": weights(6_000),
        "text_encoder/pytorch_model.bin.index.json": b"{}",
        "tokenizer/vocab.json" if clip else "tokenizer/spiece.model": b"words" * 2000,
        "tokenizer/tokenizer_config.json": b"{}",
    }
    if clip:
        files |= {
            "vae/config.json": b"{}",
            "vae/diffusion_pytorch_model.safetensors": weights(4_000),
        }
    return files


def clip_repository() -> dict[str, bytes]:
    """Files such as openai/clip-vit-base-patch32 has: all of them at the top."""
    small = ("config", "preprocessor_config", "tokenizer", "tokenizer_config", "vocab")
    return {
        "README.md": b"---\ntags: [vision]\n---\n",
        "merges.txt": b"#version: 0.2\n",
        "pytorch_model.bin": weights(6_000),
        "tf_model.h5": b"HDF" * 5000,
        **{f"{name}.json": b"{}" for name in small},
    }
