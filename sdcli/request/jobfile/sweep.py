"""Sweep: a request with axes that were typed, `cfg=4..10 by 2` and `seed=1..8`, as the jobs of a batch."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sdcli.errors import SdError, UsageError
from sdcli.request.jobfile.batch_job import BatchJob, JobFileError, Source
from sdcli.request.jobfile.combinations import product, zipped
from sdcli.request.jobfile.keys import DECLARED, OPTIONS, SIZE, in_our_keys, our_key
from sdcli.request.jobfile.nodes import Faults, Node
from sdcli.request.jobfile.places import Place
from sdcli.request.jobfile.requests import RequestBuilder, seed_of
from sdcli.request.jobfile.values import Asked, Axis, Stated, values_of
from sdcli.request.request import Request

SOURCE = Source("--sweep")
_AMONG_NUMBERS = re.compile(r",(?![^\[(]*[\])])")


def sweep(request: Request, texts: Sequence[str]) -> tuple[BatchJob, ...]:
    """A job for each combination of the axes `field=values`, the last of which runs fastest.

    The values are separated by commas; one with a comma in it stands in double quotes. Of numbers they may be ranges,
    in our spelling or A1111's. A request without a seed gets one that all its pictures share, made of what it asks for.
    Raises JobFileError with all faults.
    """
    faults = Faults()
    axes: list[Axis] = []
    for text in texts:
        try:
            axis = _axis(text, faults)
            for name in axis.names if axis else ():
                if any(name in each.names for each in axes):
                    raise UsageError(f"{name} is swept twice; put all its values into one --sweep")
            axes += [axis] if axis else []
        except SdError as error:
            faults.add(SOURCE, error)
    jobs = _jobs(request, axes, faults) if not faults.found else ()
    if faults.found:
        raise JobFileError(list(faults.found))
    return jobs


def _axis(text: str, faults: Faults) -> Axis | None:
    """The axis that one text asks for; None after a fault. Raises UsageError for what is no field."""
    word, equals, values = text.partition("=")
    if not equals or not word.strip():
        raise UsageError(f"{text!r} is not FIELD=VALUES; try cfg=4..10 by 2 or seed=1..8")
    name = our_key(word.strip().lstrip("-"))
    if name not in (*DECLARED, SIZE):
        raise UsageError(f"{word.strip()} is no field of a picture, and cannot be swept")
    if not values.strip():
        raise UsageError(f"{name}: there are no values; try {name}=VALUE,VALUE")
    if name == SIZE:
        texts = Node([Node(each, 0) for each in _texts(name, values)], 0)
        sizes = in_our_keys({name: texts}, ("zip",), str(SOURCE), faults)
        return next(iter(zipped(Stated(sizes[name], Place(str(SOURCE))), faults)), None) if sizes else None
    option = OPTIONS[name]
    numeric = option.type in (int, float)
    items = [each.strip() for each in _AMONG_NUMBERS.split(values)] if numeric else _texts(name, values)
    nodes = [Node([Node(each, 0)] if each else [], 0) if option.many else Node(each, 0) for each in items]
    found = values_of(name, Stated(Node([*nodes], 0), Place("--sweep", texts=True)), faults, a1111=True)
    return found if isinstance(found, Axis) else None


def _texts(name: str, values: str) -> list[str]:
    """Texts that are separated by commas, some of them in double quotes."""
    try:
        return next(csv.reader([values], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise UsageError(f"{name}: the values cannot be read: {error}; correct the quotes") from None


def _jobs(request: Request, axes: Sequence[Axis], faults: Faults) -> tuple[BatchJob, ...]:
    fixed: dict[str, Any] = {name: getattr(request, name) for name in DECLARED}
    if request.seed is None and not any(axis.names == ("seed",) for axis in axes):
        fixed["seed"] = seed_of(request.as_dict())
    build = RequestBuilder()
    jobs = []
    try:
        combinations = product(axes)
    except UsageError as error:
        faults.add(SOURCE, error)
        return ()
    for each in combinations:
        try:
            made = build.request({**fixed, **{name: asked.value for name, asked in each.items()}})
            jobs.append(BatchJob(made, axes=_typed(each), source=SOURCE))
        except SdError as error:
            faults.add(SOURCE, error)
    return tuple(jobs)


def _typed(values: Mapping[str, Asked]) -> dict[str, Any]:
    return {name: asked.typed for name, asked in values.items()}
