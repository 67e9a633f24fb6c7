"""App: the Starlette application of all APIs, within its security."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from sdcli.serve import a1111
from sdcli.serve.a1111.answers import as_a1111
from sdcli.serve.security import Rules, Security, error_body
from sdcli.serve.service import Problem, Service, problem_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp

APIS = ("openai", "a1111", "own", "health", "page")
"""The files of this folder that have `routes(service)`; the first that knows a path answers."""


def make_app(service: Service, security: Rules) -> ASGIApp:
    """The application that uvicorn serves."""
    routes: list[BaseRoute] = []
    for name in APIS:
        routes += importlib.import_module(f"sdcli.serve.{name}").routes(service)

    async def not_found(http: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        problem = problem_of(error)
        if error.status_code == 404:
            problem = Problem(404, f"{http.method} {http.url.path[:100]}: there is no such path", "not_found")
        return (as_a1111 if http.url.path.startswith(a1111.PREFIX) else as_openai)(problem)

    return Security(Starlette(routes=routes, exception_handlers={HTTPException: not_found}), security)


def as_openai(problem: Problem) -> Response:
    """A problem in the form of OpenAI's API, which the own API uses too."""
    return JSONResponse({"error": error_body(problem)}, problem.status, headers=dict(problem.headers))
