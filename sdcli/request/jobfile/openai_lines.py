"""OpenAI lines: requests for pictures as OpenAI's Batch API takes them, and the lines that answer them.

https://platform.openai.com/docs/guides/batch: a line is `{"custom_id", "method", "url", "body"}`; an answer has the
same custom_id, a response with the status and body of the HTTP answer, and an error.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sdcli.errors import UsageError
from sdcli.request.jobfile.document import Document
from sdcli.request.jobfile.entry import Entry
from sdcli.request.jobfile.keys import DECLARED, SIZE, our_key
from sdcli.request.jobfile.nodes import Faults, Node, kind_of, text_in

GENERATIONS = "/v1/images/generations"
HARMLESS: Mapping[str, tuple[object, ...] | None] = {
    "user": None,
    "safety_identifier": None,
    "moderation": None,
    "metadata": None,
    "response_format": None,
    "partial_images": (0,),
    "stream": (False,),
    "quality": ("auto", "standard"),
    "background": ("auto", "opaque"),
    "output_format": ("png",),
    "output_compression": (100,),
    "size": ("auto",),
    "style": (),
}
"""Key of a body -> the values that change no picture here; None: all of them. null never does."""
OPENAI_MODEL = re.compile("(gpt-image|dall-e|chatgpt-image)-.*", re.ASCII)
"""The names of OpenAI's own models."""
_HTTP_STATUS = {"usage": 400, "image": 400, "model": 404, "memory": 503}


@dataclass(frozen=True)
class Answer:
    """One picture that a line asked for: its PNG, or the kind and the message of its failure."""

    custom_id: str
    seed: int | None = None
    png: bytes | None = None
    kind: str = ""
    message: str = ""


def is_openai_line(node: Node) -> bool:
    """True if a line of JSON is a request of OpenAI's Batch API."""
    keys = node.value.keys() if isinstance(node.value, dict) else set()
    return "custom_id" in keys or {"body", "url"} <= keys


def openai_entry(node: Node, number: int, shared: Document, known: set[str], faults: Faults) -> Entry | None:
    """The entry of a line, called by its custom_id; `known` are those of the lines before it. None after a fault."""
    source = shared.place.source(node)
    try:
        custom_id, body = _envelope(node, known)
    except UsageError as error:
        faults.add(source, error)
        return None
    known.add(custom_id)
    values: dict[str, Node] = {"name": Node(custom_id.replace("{", "{{").replace("}", "}}"), node.line)}
    before = faults.number
    for key, value in body.items():
        try:
            values |= body_field(key, value)
        except UsageError as error:
            faults.add(source, error)
    return shared.entry(Node(values, node.line), number, faults) if faults.number == before else None


def _envelope(node: Node, known: set[str]) -> tuple[str, Mapping[str, Node]]:
    """The custom_id and the body of a line; raises UsageError."""
    values = node.value if isinstance(node.value, dict) else {}
    for key in values:
        if key not in ("custom_id", "method", "url", "body"):
            raise UsageError(
                f"{key}: a line of OpenAI's Batch API has custom_id, method, url and body; take it out"
            )
    custom_id = text_in(values.get("custom_id", node_null(node)), "custom_id")
    if custom_id in known:
        raise UsageError(f"custom_id: {custom_id!r} is here twice; give each line its own")
    method, url = (values.get(key, node_null(node)).plain() for key in ("method", "url"))
    if method != "POST":
        raise UsageError(f"method: {method!r} is not POST")
    if url != GENERATIONS:
        other = "; give a job with image and mask" if url == "/v1/images/edits" else ""
        raise UsageError(f"url: {url!r} is not {GENERATIONS}, the one that is answered here{other}")
    body = values.get("body", node_null(node)).value
    if not isinstance(body, dict):
        raise UsageError(f"body: {kind_of(body)} is not a mapping; it holds the prompt")
    return custom_id, body


def node_null(node: Node) -> Node:
    """null on the line of a node."""
    return Node(None, node.line)


def body_field(key: str, node: Node) -> dict[str, Node]:
    """What a key of a body says in our words; nothing if it changes no picture. Raises UsageError."""
    value = node.value
    if value is None:
        return {}
    if key in HARMLESS and (HARMLESS[key] is None or _plain(value) in map(_plain, HARMLESS[key] or ())):
        return {}
    if key == "n":
        return {"count": node}
    if key == "model" and isinstance(value, str) and OPENAI_MODEL.fullmatch(value):
        return {}  # clients name one of OpenAI's whatever is served
    if key in HARMLESS and key != "size":
        raise UsageError(
            f"{key}: {node.plain()!r} would change the picture and is not done here; leave it out"
        )
    try:
        is_field = our_key(key) in (*DECLARED, SIZE) and key != "image"
    except UsageError as error:
        raise UsageError(f"{key}: is not done here, and may change the picture; {error}") from None
    if not is_field:
        raise UsageError(f"{key}: is not done here, and may change the picture; leave it out")
    return {key: node}


def _plain(value: object) -> tuple[type, object]:
    """A value that compares unequal to one of another type: 0 is not false."""
    return type(value), value if isinstance(value, str | int | float) else repr(value)


def answer_lines(answers: Iterable[Answer], created: int) -> Iterator[str]:
    """The line that answers each custom_id, without a line's end. `created` is the time in seconds since 1970.

    The answers of one custom_id follow each other; its line holds all its pictures, or the first failure among them.
    """
    for custom_id, group in itertools.groupby(answers, lambda answer: answer.custom_id):
        yield json.dumps(_line(custom_id, list(group), created), ensure_ascii=False)


def _line(custom_id: str, answers: list[Answer], created: int) -> dict[str, Any]:
    digest = hashlib.sha256(custom_id.encode("utf-8", "surrogatepass")).hexdigest()
    failed = next((each for each in answers if each.png is None), None)
    error, status = None, 200
    body: dict[str, Any] = {"created": created, "data": [_data(each) for each in answers]}
    if failed is not None:
        status = _HTTP_STATUS.get(failed.kind, 500)
        kind = "invalid_request_error" if status < 500 else "server_error"
        error = {"code": failed.kind or "failed", "message": failed.message}
        body = {"error": {**error, "type": kind, "param": None}}
    response = {"status_code": status, "request_id": f"req_{digest[:24]}", "body": body}
    return {"id": f"batch_req_{digest[24:48]}", "custom_id": custom_id, "response": response, "error": error}


def _data(answer: Answer) -> dict[str, Any]:
    return {"b64_json": base64.b64encode(answer.png or b"").decode("ascii"), "seed": answer.seed}
