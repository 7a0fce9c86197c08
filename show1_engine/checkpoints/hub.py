"""A repository on the Hugging Face hub: what is in it, and the bytes of its files from any position
on.

huggingface_hub brings addresses, login, proxies and its HTTP session. Its own download functions
are not used: not every version of them can be cancelled, and none compares what it wrote with the
published checksum.
"""

import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from json import JSONDecodeError
from typing import Any

from .registry import DownloadError, Published

_CHUNK = 1 << 14  # bytes, for requests: what is short of a chunk is lost when a connection breaks


class Interrupted(Exception):
    """The network or the hub failed in a way that may pass. `wait`: seconds that the hub
    asks for.
    """

    def __init__(self, message: str, wait: float = 0):
        super().__init__(message)
        self.wait = wait


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository; `digest` is the SHA-256 of a large file, git's SHA-1 of a
    small one.
    """

    path: str
    size: int
    digest: str

    def hasher(self) -> Any:
        """A hashlib object that comes to `digest` when it is fed the right bytes."""
        if len(self.digest) == 64:
            return hashlib.sha256()
        return hashlib.sha1(f"blob {self.size}\0".encode(), usedforsecurity=False)


class Repository:
    """The newest commit of a model's repository, kept to once its files are listed."""

    def __init__(self, item: Published, endpoint: str | None = None):
        self._item, self._endpoint, self._commit = item, endpoint, "main"

    def files(self) -> dict[str, RemoteFile]:
        """All files by path. Raises Interrupted (try again) or DownloadError."""
        from huggingface_hub import HfApi, constants

        with self._translated("its list of files"):
            info = HfApi(endpoint=self._endpoint).model_info(
                self._item.repo, files_metadata=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
            )
        try:
            files = [
                RemoteFile(
                    file.rfilename, int(file.size), file.lfs.sha256 if file.lfs else file.blob_id
                )
                for file in info.siblings
            ]
        except (TypeError, AttributeError) as error:
            raise DownloadError(
                f"the hub lists {self._item.repo} without sizes and checksums; if HF_ENDPOINT "
                "names a mirror, take another one"
            ) from error
        self._commit = info.sha
        return {file.path: file for file in files}

    def read(self, path: str, start: int) -> Iterator[tuple[int, bytes]]:
        """The file's bytes from `start` on in chunks, each with its position; from 0 on if the hub
        cannot resume.

        Raises Interrupted (try again) or DownloadError. Close it to close the connection.
        """
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(self._item.repo, path, revision=self._commit, endpoint=self._endpoint)
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with self._translated(path), _response(url, headers) as (response, chunks):
            position = self._first_byte(response, start, path)
            for chunk in chunks:
                yield position, chunk
                position += len(chunk)

    def _first_byte(self, response: Any, start: int, path: str) -> int:
        if response.status_code == 206 and response.headers.get("Content-Range", "").startswith(
            f"bytes {start}-"
        ):
            return start
        if response.status_code == 200:
            return 0
        raise self._refusal(response.status_code, response.headers, path)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Turns what the HTTP library raises into Interrupted or DownloadError."""
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        try:
            yield
        except OfflineModeIsEnabled as error:
            raise DownloadError(
                "huggingface_hub is told to stay offline (HF_HUB_OFFLINE=1); start again without "
                "it, or copy the files by hand"
            ) from error
        except HfHubHTTPError as error:
            raise self._refusal(error.response.status_code, error.response.headers, what) from error
        except JSONDecodeError as error:
            raise DownloadError(
                f"the answer for {what} is not the hub's: does this network want a login in the "
                "browser first, or does HF_ENDPOINT name something else?"
            ) from error
        except _network_errors() as error:
            raise Interrupted(
                f"no connection to the hub for {what} ({_first_line(error)})"
            ) from error

    def _refusal(self, status: int, headers: Mapping[str, str], what: str) -> Exception:
        repo, page = self._item.repo, self._item.page
        if status in (401, 403):
            return DownloadError(f"the hub refuses {what} of {repo} ({status}). {self._remedy()}")
        if status == 404:
            return DownloadError(
                f"the hub has no {what} of {repo} (404); it was moved or withdrawn: look at {page}"
            )
        if status == 429:
            return Interrupted(
                f"the hub has had too many requests from this address (429) for {what}",
                _wait(headers),
            )
        if status >= 500 or status == 408:
            return Interrupted(f"the hub is out of order ({status}) for {what}", _wait(headers))
        return DownloadError(f"the hub answers {status} for {what} of {repo}; look at {page}")

    def _remedy(self) -> str:
        if self._item.gated:
            return f"{self._item.access} {self._item.without}"
        return (
            "It is a public model, so the token is wrong or out of date: log in again ('hf auth "
            f"login'), or out ('hf auth logout', no HF_TOKEN). If {self._item.page} does not open "
            "either, it was withdrawn."
        )


@contextmanager
def _response(url: str, headers: dict[str, str]) -> Iterator[tuple[Any, Iterator[bytes]]]:
    from huggingface_hub import constants, get_session

    session, timeout = get_session(), constants.HF_HUB_DOWNLOAD_TIMEOUT
    if callable(getattr(session, "stream", None)):  # httpx, since huggingface_hub 1.0
        with session.stream(
            "GET", url, headers=headers, timeout=timeout, follow_redirects=True
        ) as response:
            yield response, response.iter_bytes()  # as they come
    else:
        with session.get(url, headers=headers, timeout=timeout, stream=True) as response:
            yield response, response.iter_content(_CHUNK)


def _network_errors() -> tuple[type[Exception], ...]:
    """What the HTTP library beneath huggingface_hub raises: requests', since 1.0 httpx's."""
    from huggingface_hub.errors import HfHubHTTPError

    foreign = (
        cls
        for cls in HfHubHTTPError.__mro__
        if cls.__module__.partition(".")[0] not in ("builtins", "huggingface_hub")
    )
    return *foreign, ConnectionError, TimeoutError


def _wait(headers: Mapping[str, str]) -> float:
    """Seconds that the answer asks to wait: Retry-After (seconds or a date), or the hub's
    RateLimit.
    """
    after = headers.get("Retry-After", "")
    if after.isdigit():
        return float(after)
    if limit := re.search(r"\bt=(\d+)", headers.get("RateLimit", "")):
        return float(limit[1])
    try:
        return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
    except (ValueError, TypeError):  # no date either
        return 0.0


def _first_line(error: Exception) -> str:
    """What the library says, short and without addresses: a content network's are signed."""
    text = (str(error).strip().splitlines() or [""])[0]
    return re.sub(r"(with url: )?(https?:/)?/\S+", "", text)[:200].strip() or type(error).__name__
