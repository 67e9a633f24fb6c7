"""Remote: `sd --server URL txt2img …`: a running `sd serve` draws, and the picture is saved here as if drawn here."""

from __future__ import annotations

import base64
import binascii
import contextlib
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
from sdcli.commands._remote_pictures import fields_with_pictures
from sdcli.commands._streams import check_result_can_be_written, print_note, print_result, write_result
from sdcli.errors import SdError, UsageError
from sdcli.home import expand_home
from sdcli.request.encode import SUFFIXES
from sdcli.request.request import Request

if TYPE_CHECKING:
    from tqdm import tqdm

COMMANDS = ("txt2img", "img2img", "inpaint", "outpaint", "depth2img", "upscale")
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


@dataclass(frozen=True)
class ServedModel:
    """What a server tells of a model: its family, the size that it draws by itself, and its U-Net's input channels."""

    family: str
    size: int
    channels: int


def served_model(model: str, server: Server) -> ServedModel:
    """What a server tells of a model that it serves; raises the SdError of its refusal, or ServerError."""
    with _answer(server, "GET", f"/v1/models/{urllib.parse.quote(model)}", None, {}) as answer:
        try:
            told = json.loads(answer.read())
            return ServedModel(str(told["family"]), int(told["defaults"]["width"]), int(told["channels"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError(
                f"{server.url}: does not tell of {model}: {error}; is it this version?"
            ) from None


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
    pictures = fields_with_pictures(request)
    for i in range(output.count):
        label = f"{i + 1}/{output.count}" if output.count > 1 else "steps"
        _draw(request.nth(i), pictures, output, server, label)


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
    path = f"/v1/jobs?{urllib.parse.urlencode(wanted)}"
    with _answer(server, "POST", path, json.dumps(body).encode(), headers) as answer:
        while line := answer.readline():
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


@contextlib.contextmanager
def _answer(
    server: Server, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
) -> Iterator[http.client.HTTPResponse]:
    """The answer 200 of a server; raises the SdError of another one, and ServerError for what goes wrong on the way."""
    more = {"Authorization": f"Bearer {server.token}"} if server.token else {}
    connection = _connection(server)
    base = urllib.parse.urlsplit(server.url).path.rstrip("/")
    try:
        connection.request(method, base + path, body, {**headers, **more})
        answer = connection.getresponse()
        if answer.status != 200:
            raise _refusal(server, answer)
        yield answer
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
