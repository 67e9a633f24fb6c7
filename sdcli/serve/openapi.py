"""OpenAPI: what the server answers, described for programs that make clients; the fields come from the Request."""

from __future__ import annotations

import functools
from typing import Any

import sdcli
from sdcli.errors import in_python_words
from sdcli.request.fields import Option
from sdcli.request.jobfile.keys import OPTIONS
from sdcli.serve import attached
from sdcli.serve.bodies import REFUSED

_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}


@functools.cache
def openapi() -> dict[str, Any]:
    """The description, as OpenAPI 3.1."""
    request = {
        "type": "object",
        "properties": {
            name: _schema(name, option) for name, option in OPTIONS.items() if name not in REFUSED
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "sd serve", "version": sdcli.__version__},
        "paths": {
            "/v1/images/generations": {"post": _call("Pictures of a prompt, as OpenAI's API.", "Generation")},
            "/v1/images/edits": {
                "post": _call("A picture drawn over, as OpenAI's API.", "Edit", "multipart/form-data")
            },
            "/v1/models": {"get": _call("The models that are served.")},
            "/sdapi/v1/txt2img": {"post": _call("Pictures of a prompt, as A1111's API.", "A1111")},
            "/sdapi/v1/img2img": {"post": _call("A picture drawn over, as A1111's API.", "A1111")},
            "/v1/jobs": {
                "post": _call("Draw the jobs of a job file.", "JobFile", status="202"),
                "get": _call("The jobs of the last minutes."),
            },
            "/v1/jobs/{id}": {
                "parameters": [_ID],
                "get": _call("One job."),
                "delete": _call("Cancel a job."),
            },
            "/v1/jobs/{id}/events": {"parameters": [_ID], "get": _call("The events of a job, as SSE.")},
            "/v1/jobs/{id}/picture": {"parameters": [_ID], "get": _call("The file of a job that is done.")},
            "/": {"get": _call("The page for a browser.")},
            "/healthz": {"get": _call("Whether the server is there.")},
            "/metrics": {"get": _call("Numbers for Prometheus.")},
        },
        "components": {"schemas": {"Request": request, **_bodies()}},
    }


_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}


def _call(
    summary: str, body: str = "", kind: str = "application/json", status: str = "200"
) -> dict[str, Any]:
    found: dict[str, Any] = {"summary": summary, "responses": {status: {"description": "As asked for."}}}
    found["responses"]["4XX"] = {"description": "What is wrong with the request, by name."}
    if body:
        content = {kind: {"schema": {"$ref": f"#/components/schemas/{body}"}}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _bodies() -> dict[str, Any]:
    """The bodies that hold the fields of a Request beside others."""
    request = {"$ref": "#/components/schemas/Request"}
    own = {
        "n": {"type": "integer", "minimum": 1, "maximum": 10},
        "size": {"type": "string"},
        "model": {"type": "string"},
        "stream": {"type": "boolean"},
        "partial_images": {"type": "integer", "minimum": 0, "maximum": 3},
        "output_format": {"enum": ["png", "jpeg", "webp"]},
        "output_compression": {"type": "integer", "minimum": 0, "maximum": 100},
        "response_format": {"enum": ["b64_json", "url"]},
    }
    job = {"count": {"type": "integer", "minimum": 1}, "name": {"type": "string"}}
    generation = {"allOf": [request, {"type": "object", "properties": own, "required": ["prompt"]}]}
    one = {"allOf": [request, {"type": "object", "properties": job}]}
    several = {"type": "object", "properties": {"defaults": one, "jobs": {"type": "array", "items": one}}}
    a1111 = {"type": "object", "description": "The fields of A1111's API, or those of a request."}
    return {
        "A1111": a1111,
        "Generation": generation,
        "Edit": generation,
        "JobFile": {"anyOf": [one, several]},
    }


def _schema(name: str, option: Option) -> dict[str, Any]:
    """A field as JSON Schema."""
    found: dict[str, Any] = {"type": _TYPES[option.type]}
    if option.picture:
        found["contentEncoding"] = "base64"
    if option.low is not None:
        found["minimum"] = option.low
    if option.high is not None:
        found["maximum"] = option.high
    if option.choices:
        found["enum"] = list(option.choices)
    if name in attached.FIELDS:
        found = {
            "anyOf": [found, {"type": "object", "description": "Its parts, with the picture in base64."}]
        }
    if option.many:
        found = {"type": "array", "items": found}
    return {**found, "description": in_python_words(option.help)}
