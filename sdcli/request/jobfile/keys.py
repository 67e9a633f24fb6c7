"""Keys: what a job may say, by our names and by those of other tools."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping

from sdcli import registry
from sdcli.errors import UsageError
from sdcli.request.aliases import names_sampler
from sdcli.request.fields import declared_in, option_of
from sdcli.request.jobfile.batch_job import Source
from sdcli.request.jobfile.nodes import Faults, Node
from sdcli.request.names_elsewhere import FIELDS, HINTS, OUTPUT
from sdcli.request.request import Request

DECLARED = declared_in(Request)
"""The fields of a Request by their names."""
OPTIONS = {name: option_of(declared) for name, declared in DECLARED.items()}
SHARED = ("count", "name", "out", "tolerance", "expand")
"""Keys of a job, and of the defaults, beside the fields of a Request."""
COMBINING = ("zip", "except", "also")
"""Keys of a job that say which combinations of its axes there are."""
TOP = ("version", "include", "vars", "defaults", "jobs")
"""Keys of a job file."""
SIZE = "size"
MAX_KEYS = 200

Keys = Mapping[str, Node]


def our_key(word: str) -> str:
    """Our name of a key: of a field, of SHARED or COMBINING, or `size`, which is width and height.

    Raises UsageError for a word that is nobody's, with the nearest, and for one that is said in another way here.
    """
    key, reason = _look_up(word)
    if key is None:
        raise UsageError(reason)
    return key


def is_key(word: str) -> bool:
    """True if `our_key` knows the word."""
    return _look_up(word)[0] is not None


@functools.lru_cache(4096)  # a wrong word may stand in every job, and looking for the nearest takes long
def _look_up(word: str) -> tuple[str | None, str]:
    """(our key, "") or (None, why there is none)."""
    if word in DECLARED or word in SHARED or word in COMBINING:
        return word, ""
    plain = re.sub(r"[-_\s]+", "_", word.strip().lower()).removeprefix("_")
    known = _elsewhere()
    if plain in known:
        return known[plain], ""
    if plain in HINTS:
        return None, f"{word} is no field; {HINTS[plain]}"
    hint = registry.nearest(plain[:40], list(known))
    if hint.startswith("there are"):
        hint = "the long options of sd txt2img --help are the fields"
    return None, f"no field is called {word!r}; {hint}"


@functools.cache
def _elsewhere() -> dict[str, str]:
    """A word in lower case with underscores -> our key; our own words come first."""
    outputs = {word: key for key, words in OUTPUT.items() for word in words.split()}
    flags = {
        flag.removeprefix("--").replace("-", "_"): name
        for name, option in OPTIONS.items()
        for flag in option.flags
        if flag.startswith("--")
    }
    own = {word: word for word in (*DECLARED, *SHARED, *COMBINING, SIZE)}
    return {**outputs, **FIELDS, **flags, **own}


def in_our_keys(values: Keys, allowed: Iterable[str], file: str, faults: Faults) -> dict[str, Node]:
    """A mapping of a job file by our names of its keys, in its order.

    `size` is taken apart into width and height; a list of sizes, where `zip` may stand, is a mapping as `zip` has one.
    A key that is unknown, not among `allowed` (fields are), or there twice is a fault.
    """
    found: dict[str, Node] = {}
    allowed = {*allowed, *DECLARED, SIZE}
    if len(values) > MAX_KEYS:
        line = next(iter(values.values())).line
        faults.add(
            Source(file, line), f"has {len(values):,} keys, and a job has at most {MAX_KEYS}; take some out"
        )
        return {}
    for word, node in values.items():
        source = Source(file, node.line)
        try:
            key = our_key(word)
            if key not in allowed:
                raise UsageError(f"{word} has no meaning here; take it out")
            pairs = _sides(word, node, "zip" in allowed) if key == SIZE else {key: node}
        except UsageError as error:
            faults.add(source, error)
            continue
        if key == "schedule" != word and "sampler" not in found and _is_sampler(node, values):
            pairs = {"sampler": node}  # what diffusers and InvokeAI call a scheduler
        for name, each in pairs.items():
            if name in found:
                faults.add(source, f"{word}: {name} is given twice; keep one")
            found[name] = each
    return found


def _is_sampler(node: Node, values: Keys) -> bool:
    """True if a scheduler of another tool is a sampler of ours, and no sampler is given."""
    has_sampler = any(FIELDS.get(word, word) == "sampler" for word in values)
    return not has_sampler and isinstance(node.value, str) and names_sampler(node.value)


def _sides(word: str, node: Node, may_be_axis: bool) -> dict[str, Node]:
    """Width and height of `512x768`; of several sizes, `size` with a list of each."""
    if may_be_axis and isinstance(node.value, list) and node.value:
        sides = [_sides(word, each, False) for each in node.value]
        lists = {side: Node([each[side] for each in sides], node.line) for side in ("width", "height")}
        return {SIZE: Node(dict(lists), node.line)}
    found = re.fullmatch(r"\s*([0-9]{1,5})\s*[xX×,]\s*([0-9]{1,5})\s*", str(node.value), re.ASCII)
    if not isinstance(node.value, str) or found is None:
        raise UsageError(
            f"{word}: {node.plain()!r} is not width x height; write 512x768, or width and height"
        )
    return {"width": Node(int(found[1]), node.line), "height": Node(int(found[2]), node.line)}
