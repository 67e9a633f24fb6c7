"""Security: what is checked of every request before a route sees it, whatever its method.

A loopback server can be reached by every web page that its user opens: by DNS rebinding (so the Host is one of a list)
and by requests of foreign pages (so Origin and Sec-Fetch-Site tell our own, and bodies are of types that a page cannot
send without asking). ComfyUI#4850, CVE-2024-10481.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from sdcli.serve.service import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
CONTENT_TYPES = ("application/json", "multipart/form-data")
OPEN_PATHS = ("/", "/healthz")
"""What needs no token, as it tells nothing of this server: the page, which asks for the token, and a sign of life."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""On every answer."""


@dataclass(frozen=True)
class Rules:
    """Who may ask: Host names, foreign origins (`https://example.org`), the token, and the limits of a body."""

    host: str = "127.0.0.1"  # that is listened on
    hosts: tuple[str, ...] = ()  # allowed beside it
    origins: tuple[str, ...] = ()
    token: str = ""  # empty: none is asked for
    max_body: int = 64 * 1024 * 1024  # bytes
    max_bodies: int = 512 * 1024 * 1024  # bytes of all bodies that are held at the same time
    body_seconds: float = 30.0  # until a body must have arrived

    def allows_host(self, host: str) -> bool:
        """True for the Host of a request that is meant for this server. The port is free, for tunnels."""
        name = _host_name(host)
        if name in (*LOOPBACK, self.host.lower(), *(each.lower() for each in self.hosts)):
            return True
        return self.host in ("0.0.0.0", "::") and _is_address(name)  # no name, so none that was rebound

    def allows_origin(self, origin: str, host: str, scheme: str) -> bool:
        """True for a request of our own page, or of an origin that was allowed."""
        return origin in self.origins or origin in (f"http://{host}", f"https://{host}")

    def has_token(self, authorization: str) -> bool:
        """True if the header holds the token: `Bearer TOKEN`, or Basic with it as the password."""
        scheme, _, value = authorization.partition(" ")
        given = value.strip()
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode("utf-8", "replace").partition(":")[2]
            except (binascii.Error, ValueError):
                given = ""
        return scheme.lower() in ("bearer", "basic") and hmac.compare_digest(
            given.encode(), self.token.encode()
        )


def is_loopback(host: str) -> bool:
    """True for an address, or name, that only this machine reaches."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Security:
    """The ASGI application around that of the routes."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self.app, self.rules = app, rules
        self.held = 0  # bytes of the bodies of requests that are not answered yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        answer = _Answer(send, self._cors(headers))
        body = _Body(receive, self)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            problem = self._foreign(scope, headers)
            await answer.empty(204) if problem is None else await answer.problem(problem)
            return
        if (problem := self._problem(scope, headers)) is not None:
            await answer.problem(problem)
            return
        try:
            await self.app(scope, body, answer)
        except BodyRefused as refused:
            if not answer.has_begun:
                await answer.problem(refused.problem)
        finally:
            self.held -= body.size

    def _problem(self, scope: Scope, headers: Mapping[str, str]) -> Problem | None:
        if (problem := self._foreign(scope, headers)) is not None:
            return problem
        asks = {"WWW-Authenticate": 'Basic realm="sd serve", charset="UTF-8"'}
        is_asked = bool(self.rules.token) and scope["path"] not in OPEN_PATHS
        if is_asked and not self.rules.has_token(headers.get("authorization", "")):
            return Problem(
                401,
                "the token is missing or wrong: send Authorization: Bearer TOKEN",
                "token",
                None,
                asks,
            )
        return self._bad_body(headers)

    def _foreign(self, scope: Scope, headers: Mapping[str, str]) -> Problem | None:
        """Why a request does not come from our own pages or from a program."""
        host = headers.get("host", "")
        if sum(name == b"host" for name, _ in scope["headers"]) != 1 or not self.rules.allows_host(host):
            return Problem(
                403, f"Host {host!r:.80} is not served; start with --allow-host to allow it", "host"
            )
        origin = headers.get("origin")
        if origin is not None and not self.rules.allows_origin(origin, host, scope["scheme"]):
            return Problem(
                403, f"Origin {origin!r:.80} is foreign; start with --allow-origin to allow it", "origin"
            )
        site = headers.get("sec-fetch-site", "none")
        if _opens_page(scope, headers):
            return None
        if site not in ("none", "same-origin") and origin not in self.rules.origins:
            return Problem(403, f"a request from another site ({site!r:.20}) is not answered", "origin")
        return None

    def _bad_body(self, headers: Mapping[str, str]) -> Problem | None:
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            return Problem(400, "Content-Length is no number", "body")
        if int(length[:20]) > self.rules.max_body:
            return _too_large(self.rules.max_body)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        has_body = int(length[:20]) > 0 or "transfer-encoding" in headers
        if (has_body or kind) and kind not in CONTENT_TYPES:
            return Problem(415, "a body is application/json or multipart/form-data", "content_type")
        if "content-encoding" in headers and headers["content-encoding"].lower() != "identity":
            return Problem(415, "a compressed body is not read", "content_type")
        return None

    def _cors(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers by which a browser lets an allowed origin read the answer; none without --allow-origin."""
        origin = headers.get("origin", "")
        if origin not in self.rules.origins:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Headers": "Authorization, Content-Type",
            "Access-Control-Allow-Methods": "GET, POST, DELETE",
            "Vary": "Origin",
        }


def _opens_page(scope: Scope, headers: Mapping[str, str]) -> bool:
    """True for a click on a link to the page: it is shown to the user alone, and the page that links learns nothing."""
    fetch = tuple(headers.get(f"sec-fetch-{name}") for name in ("mode", "dest"))
    return scope["method"] == "GET" and scope["path"] == "/" and fetch == ("navigate", "document")


class BodyRefused(HTTPException):
    """A body that is too large or too slow."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.status, problem.message, dict(problem.headers))


class _Body:
    """Receives a body, with a limit of bytes and of time; afterwards, it waits for the client to leave."""

    def __init__(self, receive: Receive, security: Security) -> None:
        self.receive, self.security, self.rules = receive, security, security.rules
        self.size = 0
        self.is_complete = False
        self.deadline = asyncio.get_running_loop().time() + self.rules.body_seconds

    async def __call__(self) -> Message:
        if self.is_complete:
            return await self.receive()
        try:
            async with asyncio.timeout_at(self.deadline):
                message = await self.receive()
        except TimeoutError:
            reason = f"the body did not arrive within {self.rules.body_seconds:g} s"
            raise BodyRefused(Problem(408, reason, "body", None, {"Connection": "close"})) from None
        if message["type"] == "http.disconnect":
            self.is_complete = True
            return message
        self.size += len(message.get("body", b""))
        self.security.held += len(message.get("body", b""))
        if self.security.held > self.rules.max_bodies:
            reason = "too many large bodies at the same time; try again in 5 s"
            raise BodyRefused(Problem(429, reason, "queue_full", None, {"Retry-After": "5"}))
        if self.size > self.rules.max_body:
            raise BodyRefused(_too_large(self.rules.max_body))
        self.is_complete = not message.get("more_body", False)
        return message


class _Answer:
    """Sends an answer with the headers that every one has."""

    def __init__(self, send: Send, cors: Mapping[str, str]) -> None:
        self.send, self.more = send, {**HEADERS, **cors}
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            own = {name.lower() for name, _ in message.get("headers", [])}
            added = [
                _header(name, value) for name, value in self.more.items() if name.lower().encode() not in own
            ]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await self.send(message)

    async def problem(self, problem: Problem) -> None:
        """Answer with a problem, in the form of OpenAI's API, which most clients read."""
        body = json.dumps({"error": error_body(problem)}).encode()
        await self._whole(problem.status, body, {"Content-Type": "application/json", **problem.headers})

    async def empty(self, status: int) -> None:
        """Answer with a status alone."""
        await self._whole(status, b"", {})

    async def _whole(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        sent = [_header(name, value) for name, value in {**headers, "Content-Length": str(len(body))}.items()]
        await self({"type": "http.response.start", "status": status, "headers": sent})
        await self.send({"type": "http.response.body", "body": body})


def error_body(problem: Problem) -> dict[str, Any]:
    """A problem in the words of OpenAI's API."""
    kind = "server_error" if problem.status >= 500 else "invalid_request_error"
    if problem.status == 429:
        kind = "rate_limit_error"
    return {"message": problem.message, "type": kind, "param": problem.param, "code": problem.kind}


def _too_large(most: int) -> Problem:
    reason = f"the body is larger than {most // 1024 // 1024} MiB"
    return Problem(413, reason, "body", None, {"Connection": "close"})


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    return name.lower().encode(), value.encode("latin-1", "replace")


def _host_name(host: str) -> str:
    """The name in a Host header, in lower case, without port and brackets."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
