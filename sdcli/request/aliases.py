"""Aliases: the names that other tools use for samplers and schedules: "DPM++ 2M Karras" is dpmpp_2m and karras."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping

from sdcli import registry
from sdcli.errors import UsageError
from sdcli.request.labels import AUTOMATIC, TOOLS

A1111 = {
    ours: label
    for labels in (TOOLS["a1111"].samplers, TOOLS["a1111"].schedules)
    for label, ours in reversed(list(labels.items()))
}
"""Our name -> the label that A1111 writes into pictures; names that are not listed are written as they are."""

KARRAS_SUFFIXES = ("k", "ka")
"""What InvokeAI and A1111's API write behind a sampler on Karras' schedule."""


@functools.lru_cache(256)
def parse_sampler(label: str, tool: str | None = None) -> tuple[str, str | None]:
    """The sampler and the schedule that a sampler's label names: "Euler a Karras" -> ("euler_a", "karras").

    The schedule is None if the label names none. The labels of `tool`, a key of TOOLS, come before all others. A label
    that is nobody's comes back in lower case with underscores. Raises UsageError for one that names what we lack.
    """
    name, _, options = label.strip().partition(":")
    found = _find_sampler(name, tool)
    if found is None:
        return _with_options(_underscored(name), options), None
    sampler, schedule = found
    return _with_options(sampler, options), schedule


@functools.lru_cache(256)
def parse_schedule(label: str, tool: str | None = None) -> str:
    """A schedule's label in our spelling: "DDIM" -> "ddim_uniform". "Automatic" stays: `automatic` resolves it.

    A label that is nobody's comes back in lower case with underscores. Raises UsageError for one that names what we
    lack.
    """
    name, _, options = label.strip().partition(":")
    return _with_options(_find_schedule(name, tool) or _underscored(name), options)


def automatic(sampler: str) -> str:
    """The schedule that A1111's "Automatic" stands for with a sampler of ours."""
    return AUTOMATIC.get(sampler.partition(":")[0], "uniform")


def names_sampler(label: str) -> bool:
    """True if the label names a sampler of ours."""
    try:
        return parse_sampler(label)[0].partition(":")[0] in registry.names("samplers")
    except UsageError:
        return False


# --- search


def _find_sampler(name: str, tool: str | None) -> tuple[str, str | None] | None:
    """(sampler, schedule or None) of a label without options; None if nobody's sampler is called so."""
    bare = re.sub(r"^(sample|k)[\s_\-]", "", name.strip(), flags=re.IGNORECASE)
    for each in dict.fromkeys((name, bare)):
        if found := _lookup("samplers", each, tool):
            sampler, _, schedule = found.partition(" ")
            return sampler, schedule or None
        if parts := _with_schedule(each, tool):
            return parts
    _refuse_lacking("samplers", name, tool)
    _refuse_lacking("samplers", bare, tool)
    return None


def _with_schedule(name: str, tool: str | None) -> tuple[str, str] | None:
    """A sampler's label with that of a schedule behind it: "DPM++ 2M SDE Heun Exponential", "dpmpp_2m_k"."""
    words = re.findall(r"[^\s_\-()]+", name)
    for cut in range(1, len(words)):  # the longest schedule first
        sampler = _lookup("samplers", "_".join(words[:cut]), tool)
        behind = "_".join(words[cut:])
        if sampler and (schedule := _find_schedule(behind, tool)):
            return sampler.partition(" ")[0], schedule
    return None


def _find_schedule(name: str, tool: str | None) -> str | None:
    if _compact(name) == "automatic":
        return "automatic"
    if _compact(name) in KARRAS_SUFFIXES:
        return "karras"
    found = _lookup("schedules", name, tool)
    if found is None:
        _refuse_lacking("schedules", name, tool)
    return found


def _lookup(kind: str, label: str, tool: str | None) -> str | None:
    """What a label stands for: in the given tool, then among our own names, then in any tool; None if nowhere."""
    key = _compact(label)
    if tool is not None and (found := _labels(kind, tool).get(key)):
        return found
    for name in registry.names(kind):
        if _compact(name) == key:
            return name
    return next((found for each in TOOLS if (found := _labels(kind, each).get(key))), None)


def _refuse_lacking(kind: str, label: str, tool: str | None) -> None:
    """Raise UsageError if the label names what a tool has and we lack."""
    key = _compact(label)
    tools = [TOOLS[tool], *TOOLS.values()] if tool is not None else list(TOOLS.values())
    for each in tools:
        lacking = each.lacking_samplers if kind == "samplers" else each.lacking_schedules
        for name, nearest in lacking.items():
            if key in _spellings(name):
                what = kind.removesuffix("s")
                raise UsageError(
                    f"--{what}: {each.name} has a {what} {name!r}, which is not available here; "
                    f"the nearest is {nearest}"
                )


@functools.cache
def _labels(kind: str, tool: str) -> Mapping[str, str]:
    """Compact label -> ours, of one tool."""
    labels = TOOLS[tool].samplers if kind == "samplers" else TOOLS[tool].schedules
    return {spelling: ours for label, ours in labels.items() for spelling in _spellings(label)}


# --- spelling


def _spellings(label: str) -> Iterator[str]:
    """The compact ways to write a label: a class of diffusers may lose `Scheduler` and `Discrete`."""
    yield _compact(label)
    if label.endswith("Scheduler"):
        short = label.removesuffix("Scheduler")
        yield _compact(short)
        yield _compact(short.removesuffix("Discrete"))


@functools.lru_cache(4096)
def _compact(name: str) -> str:
    """A label without what tools write differently: case, blanks, `_`, `-` and round brackets; `++` is `pp`."""
    return re.sub(r"[\s_\-()]", "", name.lower().replace("++", "pp"))


def _underscored(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip().lower().replace("++", "pp"))


def _with_options(name: str, typed: str) -> str:
    """The name with the options that were typed; they come after those that the name brings, and override them."""
    name, _, implied = name.partition(":")
    options = ",".join(each for each in (implied, typed) if each)
    return f"{name}:{options}" if options else name
