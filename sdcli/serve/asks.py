"""Asks: the jobs of a body as pictures to draw, checked as far as headers and input pictures tell."""

from __future__ import annotations

import dataclasses
import functools

from sdcli import settings
from sdcli.checkpoints import checkpoint
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.preflight import preflight
from sdcli.checkpoints.recorded import recorded
from sdcli.errors import UsageError
from sdcli.request.inline_image import InlineImage
from sdcli.request.inputs import open_inputs
from sdcli.request.job import Job
from sdcli.request.picture import encoding_of
from sdcli.request.prepare import prepared
from sdcli.request.request import Loading, Request
from sdcli.serve.attached import names_of
from sdcli.serve.bodies import REFUSED, Body, Rules
from sdcli.serve.names import check_prompt_names
from sdcli.serve.queue import Ask


def asks_of(
    body: Body,
    rules: Rules,
    suffix: str = ".png",
    quality: int | None = None,
    metadata: bool = True,
) -> list[Ask]:
    """What is to be drawn for these jobs, checked as far as headers and input pictures tell, and by the budget.

    Raises SdError, as drawing would.
    """
    asks: list[Ask] = []
    checked: list[Job] = []
    for job in body.jobs:
        request = prepared(_admitted(job.request, rules).with_seed())
        check_prompt_names(request)  # which may be drawn from variants
        request = recorded(request, settings.network_folders("embeddings"))
        encoding = encoding_of(suffix, quality, request)
        shown = _shown(request, body)
        inputs = open_inputs(request, attached=shown)
        found, notes = preflight(_headers(request.loading), request, inputs, encoding)
        encoding.check_size(found.width, found.height)
        checked.append(found)
        asks.append(
            Ask(
                request,
                suffix,
                quality,
                metadata,
                job.name,
                tuple(dict.fromkeys(notes)),
                rules.served.name_of(request.model),
                tuple(shown.items()),
            )
        )
    rules.budget.check(checked)
    return asks


def _shown(request: Request, body: Body) -> dict[str, InlineImage]:
    """The pictures that options of a request name, in which variants are drawn; raises UsageError for others."""
    found = {name: body.attached.get(name) for name in names_of(request)}
    for name, picture in found.items():
        if picture is None:
            raise UsageError(f"{name!r:.80}: no picture of this name was sent along; send it with its option")
    return {name: picture for name, picture in found.items() if picture is not None}


def _admitted(request: Request, rules: Rules) -> Request:
    """The request if this server may draw it; raises UsageError."""
    for name, reason in REFUSED.items():
        if getattr(request, name) != Request.__dataclass_fields__[name].default:
            raise UsageError(f"{name}: {reason}; leave it out")
    if request.device != "auto" and request.device not in rules.devices:
        raise UsageError(f"device: {request.device} is not used here; leave it out")
    return request


@functools.lru_cache(32)
def _headers(loading: Loading) -> Checkpoint:
    """What the headers of a model say."""
    return checkpoint.read_for(dataclasses.replace(loading, device="auto", threads=None))
