"""Remote: `sd --server URL txt2img …`: a running `sd serve` draws, and the picture is saved here as if drawn here."""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import os
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdcli import errors, store
from sdcli.commands._output import Output, suffixes_of
from sdcli.commands._streams import (
    check_result_can_be_written,
    print_note,
    print_result,
    standard_input,
    write_result,
)
from sdcli.errors import ImageError, SdError, UsageError
from sdcli.home import expand_home
from sdcli.request import regions
from sdcli.request.encode import SUFFIXES
from sdcli.request.file_options import SETTING
from sdcli.request.request import Request

if TYPE_CHECKING:
    from tqdm import tqdm

COMMANDS = ("txt2img", "img2img", "inpaint", "outpaint")
"""The commands that a server can draw for."""
IN_NAMES = ("prompt", "steps", "cfg", "sampler", "schedule", "width", "height")
"""Fields in the names of files that the model fills in, or the styles."""
TIMEOUT = 60.0  # seconds without a byte: a server says every 15 s that it is alive
ONLY_HERE = {
    "steps_dir": "--steps-dir",
    "filmstrip": "--filmstrip",
    "latents_out": "--latents-out",
    "attention": "--attention",
    "sweep": "--sweep",
    "sheet": "--sheet",
    "gallery": "--gallery",
    "plan": "--plan",
    "show": "--show",
}
"""What only a picture that is drawn here has -> how it is typed."""


class ServerError(SdError):
    """A server that cannot be reached, or that answers with an error of its own."""

    kind = "server"


@dataclass(frozen=True)
class Server:
    """A running `sd serve`: its URL and the token that it asks for; empty: none."""

    url: str
    token: str = ""


def draw_remotely(request: Request, output: Output, server: Server) -> None:
    """Let a server draw each picture, save it, and print its line. Raises the SdError that drawing here would."""
    for name, typed in ONLY_HERE.items():
        if getattr(output, name):
            raise UsageError(f"{typed} is for pictures that are drawn here; leave --server out, or {typed}")
    if output.out == "-" and (output.count > 1 or output.as_json):
        raise UsageError(
            "-o - writes one picture to standard output; it goes with neither --count nor --json"
        )
    if output.out == "-":
        check_result_can_be_written()
    request = request.with_seed()
    request.nth(output.count - 1)  # raises if the last picture's seed is out of range
    pictures = _pictures(request)
    for i in range(output.count):
        label = f"{i + 1}/{output.count}" if output.count > 1 else "steps"
        _draw(request.nth(i), pictures, output, server, label)


def _pictures(request: Request) -> dict[str, Any]:
    """The fields of a request that hold or name pictures, with what is in the files, and the names that were typed."""
    paths = {name: getattr(request, name) for name in ("image", "mask", "depth")}
    found: dict[str, Any] = {name: _picture(path) for name, path in paths.items() if isinstance(path, str)}
    found |= {name: [_shown(text) for text in getattr(request, name)] for name in ("control", "ip_adapter")}
    found["region"] = [_masked(text) for text in request.region]
    if request.reference is not None:
        path, *settings = SETTING.split(request.reference)
        found["reference"] = {"image": _picture(path), **_settings(settings)}
    return {name: value for name, value in found.items() if value}


def _picture(path: str) -> dict[str, str]:
    return {"data": base64.b64encode(_read(path)).decode("ascii"), "name": path}


def _shown(text: str) -> str | dict[str, Any]:
    """`FILE:image=PICTURE:…` as an object that holds the picture; without one, the text."""
    path, *settings = SETTING.split(text)
    found = _settings(settings)
    return {"file": path, **found, "image": _picture(found["image"])} if "image" in found else text


def _settings(texts: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def _masked(text: str) -> str | dict[str, Any]:
    """`PROMPT@MASK,STRENGTH` as an object that holds the mask; a region in a box is the text."""
    mask = regions.parse(text).mask
    if not mask:
        return text
    prompt, _, place = text.rpartition("@")
    strength = {} if expand_home(place) == mask else {"strength": place.rpartition(",")[2]}
    typed = place.removesuffix("".join(f",{each}" for each in strength.values()))
    return {"prompt": prompt, "mask": _picture(typed), **strength}


def _read(path: str) -> bytes:
    try:
        if path == "-":
            return standard_input("a picture").read()
        with open(expand_home(path), "rb") as file:
            return file.read()
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise ImageError(f"{path}: cannot be read: {reason}; check the path") from None


def _draw(request: Request, pictures: Mapping[str, Any], output: Output, server: Server, label: str) -> None:
    """Let the server draw one picture, save it, and print its line."""
    body = {**request.as_dict(), "model": request.model, **pictures}
    with _Progress(label, output.quiet) as progress:
        done = _done(_events(body, output, _format(request, output), server), progress)
    try:
        data = base64.b64decode(done["picture"], validate=True)
        drawn = request.replace(
            **{name: done["request"][name] for name in IN_NAMES if name in done["request"]}
        )
    except (KeyError, TypeError, binascii.Error, ValueError, UsageError) as error:
        raise ServerError(
            f"{server.url}: sent no picture: {error}; is it sd serve of this version?"
        ) from None
    if output.out == "-":
        write_result(data)
        return
    path = str(store.save(data, output.picture_path(drawn)))
    if output.as_json:
        facts = {**done.get("facts", {}), "networks": done.get("networks"), "seconds": done.get("seconds")}
        report = {"path": path, "seed": drawn.seed, "request": done["request"], **facts}
        print_result(json.dumps(report), saved=path)
    else:
        print_result(path, saved=path)


def _format(request: Request, output: Output) -> str:
    """The format of the file: png, jpg or webp."""
    suffix = output.picture_path(request).suffix if output.out != "-" else suffixes_of(output.format)[0]
    return SUFFIXES[suffix.lower()]


def _done(events: Iterator[dict[str, Any]], progress: _Progress) -> dict[str, Any]:
    """The event of the finished picture; raises the SdError of one that failed."""
    for event in events:
        kind = event.get("type")
        if kind == "warning":
            print_note(str(event.get("message")))
        elif kind == "step":
            progress.show(event["step"], event["steps"])
        elif kind == "job_failed":
            raise _error(event.get("error"))
        elif kind == "job_done":
            return event
    raise ServerError("the server ended before the picture was finished; ask again when it is back")


def _events(body: Mapping[str, Any], output: Output, format: str, server: Server) -> Iterator[dict[str, Any]]:
    """The events of one job; leaving them cancels it."""
    wanted: dict[str, Any] = {"metadata": str(output.metadata).lower()}
    wanted |= {"format": format} | ({} if output.quality is None else {"quality": output.quality})
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    if server.token:
        headers["Authorization"] = f"Bearer {server.token}"
    connection = _connection(server)
    path = urllib.parse.urlsplit(server.url).path.rstrip("/")
    try:
        connection.request(
            "POST", f"{path}/v1/jobs?{urllib.parse.urlencode(wanted)}", json.dumps(body).encode(), headers
        )
        answer = connection.getresponse()
        if answer.status != 200:
            raise _refusal(server, answer)
        while line := answer.readline():
            if line.startswith(b"data: "):
                yield json.loads(line[6:])
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
        raise ServerError(f"{server.url}: cannot be asked: {reason}; is sd serve running there?") from None
    finally:
        connection.close()


def _connection(server: Server) -> http.client.HTTPConnection:
    try:
        parts = urllib.parse.urlsplit(server.url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
        parts = urllib.parse.urlsplit("")
    if host is None or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise UsageError(f"--server {server.url}: is no address; write http://127.0.0.1:7860")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(host, port, timeout=TIMEOUT)


def _refusal(server: Server, answer: http.client.HTTPResponse) -> SdError:
    """The error of an answer that is no picture."""
    try:
        return _error(json.loads(answer.read(100_000))["error"])
    except (ValueError, KeyError, TypeError):
        return ServerError(f"{server.url}: answers {answer.status} {answer.reason}; is it sd serve?")


def _error(told: Any) -> SdError:
    """The error that a server tells of, of the kind that drawing here would raise."""
    kind, message = str(told["code"]), " ".join(str(told["message"]).split())
    kinds = {
        each.kind: each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, SdError)
    }
    if kind == "model_not_found":
        return errors.ModelError(message)
    return kinds.get(kind, ServerError)(message)


class _Progress:
    """A bar of the steps on a terminal; elsewhere nothing."""

    def __init__(self, label: str, quiet: bool) -> None:
        self.label, self.is_shown = label, not quiet and sys.stderr.isatty()
        self.bar: tqdm[Any] | None = None

    def __enter__(self) -> _Progress:
        return self

    def show(self, step: int, steps: int) -> None:
        """So many steps are taken."""
        if not self.is_shown:
            return
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(desc=self.label, file=sys.stderr, leave=False, dynamic_ncols=True, unit="step")
        self.bar.total = steps
        self.bar.update(step - self.bar.n)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()


def read_token(path: str | None) -> str:
    """The token that a server asks for: that in the file, else SD_TOKEN; empty without both. Raises UsageError."""
    from pathlib import Path

    if path is None:
        return os.environ.get("SD_TOKEN", "")
    try:
        token = Path(expand_home(path)).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8"
        raise UsageError(f"--token-file {path}: cannot be read: {reason.lower()}; check the path") from None
    if not token or not token.isascii() or not token.isprintable():
        raise UsageError(f"--token-file {path}: holds no token: one line of printable ASCII characters")
    return token
