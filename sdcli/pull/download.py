"""Download: a file fetched over HTTP whole or not at all; what a broken connection leaves is gone on from.

Until its sha256 is the one that was promised, the file is a hidden one in its folder, named by that hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from sdcli import store
from sdcli.errors import ModelError

PIECE = 1 << 20  # bytes read at a time
TIMEOUT = 20.0  # seconds without a byte
TRIES = 4  # with one broken connection after the other
ADVICE = "the same command then goes on where it stopped"
LOOPBACK = ("127.0.0.1", "::1", "localhost")

Watch = Callable[[int, int], None]
"""(bytes that are there, bytes in all; 0 if unknown)."""


@dataclass(frozen=True)
class Access:
    """How a site is asked: the token is sent to this origin (scheme, host and port) alone. It is never shown."""

    origin: str
    token: str = ""

    def __repr__(self) -> str:
        return f"Access({self.origin!r})"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https, or to this machine; the token stays behind where they lead to another origin."""

    def redirect_request(
        self, request: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        check_is_safe(newurl)
        found = super().redirect_request(request, fp, code, msg, headers, newurl)
        if found is not None and origin_of(newurl) != origin_of(request.full_url):
            found.remove_header("Authorization")
        return found


def origin_of(url: str) -> str:
    """`https://civitai.com:443` of a URL."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def check_is_safe(url: str) -> None:
    """Raise ModelError for a URL that is not https, unless it is of this machine."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ModelError(f"{parts.scheme}://{parts.hostname}: is not fetched from; only https is safe")


@contextlib.contextmanager
def opened(url: str, access: Access, headers: Mapping[str, str] = {}) -> Iterator[Any]:
    """The answer to a GET of `url`. Raises ModelError for an unsafe URL; urllib's errors are for the caller."""
    check_is_safe(url)
    request = urllib.request.Request(url, headers={"User-Agent": "sdcli", **headers})
    if access.token and origin_of(url) == access.origin:
        request.add_header("Authorization", f"Bearer {access.token}")
    with urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT) as answer:
        yield answer


def why_not(error: Exception) -> str:
    """The reason and the next step for an error of a site; no URL and no token is in it."""
    if isinstance(error, urllib.error.HTTPError):
        if error.code in (401, 403):
            return "is gated, or needs an account; accept its terms on the site and set CIVITAI_TOKEN to your API key"
        if error.code == 404:
            return "there is no such model on the site; check the number, which is that of a version"
        if error.code == 429:
            return "the site wants fewer requests (429); try again later"
        return f"the site answered with an error ({error.code}); try again later"
    reason = getattr(error, "reason", error)
    text = getattr(reason, "strerror", None) or str(reason) or type(error).__name__
    return f"the site is out of reach ({str(text).lower()[:80]}); try again with a network"


def download(
    url: str, path: Path, sha256: str, access: Access, watch: Watch = lambda done, size: None
) -> Path:
    """Fetch `url` as `path`, or path-2, … if another file has that name; returns the path of the file.

    A file of this name and hash that is there already is not fetched. Raises ModelError if the site refuses, is out of
    reach, or sends other bytes than the hash promises; WriteError if they cannot be written, as on a full disk.
    """
    if path.is_file() and _sha256(path) == sha256:
        return path
    part = path.with_name(f".{sha256[:32]}.sd-part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "ab") as file, _locked(file, path):
            _fill(file, url, path, access, watch)
            os.fsync(file.fileno())
    except OSError as error:
        raise store.write_error(path, error, f"make room, {ADVICE}") from error
    found = _sha256(part)
    if found != sha256:
        part.unlink(missing_ok=True)
        raise ModelError(
            f"{path.name}: the sha256 is {found[:10]}…, not {sha256[:10]}… as promised; it is removed, try again"
        )
    return store.publish(part, path)


def _fill(file: Any, url: str, path: Path, access: Access, watch: Watch) -> None:
    """Append what is missing of the file; a connection that breaks is opened again while it brings something."""
    for tries_left in reversed(range(TRIES)):
        before = file.tell()
        try:
            if _append(file, url, access, watch):
                return
            error: Exception = HTTPException(f"the connection broke at {file.tell():,} bytes")
        except urllib.error.HTTPError as refused:
            raise ModelError(f"{path.name}: {why_not(refused)}") from None
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as broken:
            error = broken
        if not tries_left or file.tell() == before:
            raise ModelError(f"{path.name}: {why_not(error)}; {file.tell():,} bytes are kept, and {ADVICE}")


def _append(file: Any, url: str, access: Access, watch: Watch) -> bool:
    """Ask for the bytes from the end of the file on, and append them; True if they are all there then."""
    start = file.tell()
    try:
        with opened(url, access, {"Range": f"bytes={start}-"} if start else {}) as answer:
            if start and answer.status != 206:  # the site sends the whole file again
                start = 0
                file.truncate(0)
                file.seek(0)
            length = int(answer.headers.get("Content-Length") or 0)
            size = start + length if length else 0
            while piece := answer.read(PIECE):
                _write(file, piece)
                watch(file.tell(), size)
            return not size or file.tell() >= size
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing lies behind what is there; the hash tells if it is the file
            return True
        raise


def _write(file: Any, piece: bytes) -> None:
    file.write(piece)
    file.flush()


@contextlib.contextmanager
def _locked(file: Any, path: Path) -> Iterator[None]:
    """Inside, no other process fetches into this file; raises ModelError if one does."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ModelError(f"{path.name}: another sd is fetching it now; wait for that") from None
    yield


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
