"""Page: `/`, on which people draw in a browser. It is one file, `page.html`, and asks the own API for everything.

It needs no token, as it tells nothing of this server; its script asks for the token when the API does.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from sdcli import registry
from sdcli.serve.service import Service

TEMPLATE = Path(__file__).with_name("page.html")
_PLUGINS = {"{{samplers}}": "samplers", "{{schedules}}": "schedules"}
"""Hole in the template -> the plugins whose names fill it."""


def routes(service: Service) -> list[BaseRoute]:
    """The route of this file."""

    async def page(http: Request) -> Response:
        return HTMLResponse(text(), headers={"Content-Security-Policy": policy()})

    return [Route("/", page)]


@functools.cache
def text() -> str:
    """The page, with the names of all samplers and schedules."""
    page = TEMPLATE.read_text(encoding="utf-8")
    for hole, kind in _PLUGINS.items():
        page = page.replace(hole, "".join(f"<option>{name}</option>" for name in registry.names(kind)))
    return page


@functools.cache
def policy() -> str:
    """The page's content security policy: its own style and script by their hashes, its own server, and pictures."""
    style, script = (_hash(tag) for tag in ("style", "script"))
    return (
        f"default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self'; img-src blob: data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(tag: str) -> str:
    (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text(), re.DOTALL)
    return "sha256-" + base64.b64encode(hashlib.sha256(body.encode("utf-8")).digest()).decode("ascii")
