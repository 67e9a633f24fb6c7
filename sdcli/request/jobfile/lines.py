"""Lines: a prompt on each, or A1111's lines of options, `--prompt a cat --steps 20`, or the name of a picture.

Empty lines, and those that begin with #, say nothing.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence

from sdcli.errors import UsageError
from sdcli.home import expand_home
from sdcli.request.jobfile.batch_job import BatchJob, Source
from sdcli.request.jobfile.document import Document
from sdcli.request.jobfile.entry import Entry
from sdcli.request.jobfile.keys import SHARED, our_key
from sdcli.request.jobfile.nodes import Faults, Node
from sdcli.request.jobfile.places import PICTURES

HARMLESS = ("prompt_for_display", "outpath_grids", "do_not_save_grid")
"""Options of A1111 that change no picture."""
TEXTS = ("prompt", "negative_prompt")
"""Options of A1111 whose value runs to the next option."""
_OPTION = re.compile(r"(?:^|\s)--[A-Za-z]")

ReadPicture = Callable[[str, Source, int], list[BatchJob]]
"""(path, where it is named, number) -> the job that makes the picture again, or none."""


def read_lines(
    text: str, shared: Document, read_picture: ReadPicture, faults: Faults
) -> list[Entry | BatchJob]:
    """The entries of a list of prompts, and the jobs of the pictures in it."""
    found: list[Entry | BatchJob] = []
    place = shared.place
    for line, words in enumerate(text.split("\n"), 1):
        words = words.strip()
        number = len(found) + 1
        if not words or words.startswith("#"):
            continue
        try:
            if words.lower().endswith(PICTURES) and _is_picture(place.path(words), words):
                found += read_picture(place.path(words), Source(place.file, line), number)
                continue
            if re.match(r'\{\s*"', words):
                raise UsageError("is JSON among prompts; put jobs as JSON lines into a file of their own")
            values = a1111_options(words) if _OPTION.search(words) else {"prompt": words}
        except UsageError as error:
            faults.add(Source(place.file, line), str(error.args[0]))  # with the options as they are typed
            continue
        entry = shared.entry(
            Node({key: Node(value, line) for key, value in values.items()}, line), number, faults
        )
        found += [entry] if entry else []
    return found


def _is_picture(path: str, words: str) -> bool:
    """True if a line names a picture; raises UsageError if it looks so and there is none."""
    if os.path.isfile(expand_home(path)):
        return True
    if re.search(r"\s", words):
        return False
    raise UsageError(f"{path}: there is no such picture; check the path, or add a word if it is a prompt")


def a1111_options(line: str) -> dict[str, str]:
    """The keys of a line of A1111's options and their values as texts, in words that `our_key` knows.

    What stands before the first option is the prompt. Raises UsageError for a line that cannot be split, an unknown
    option, and one that asks for what is not done here.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(
            f"the options cannot be read: {error}; put texts with a ' in double quotes"
        ) from None
    given = _split(words)
    values: dict[str, str] = {}
    counts: list[str] = []
    for name, value in given.items():
        if name in HARMLESS:
            continue
        if name in ("restore_faces", "do_not_save_samples", "tiling"):
            if _is_true(name, value):
                values |= _told(name)
        elif name in ("batch_size", "n_iter"):
            counts.append(value)
        elif name == "outpath_samples":
            values["out"] = value
        elif name not in ("seed_resize_from_w", "seed_resize_from_h"):
            key = our_key(name)
            if key in SHARED and key not in ("count", "out", "name"):
                raise UsageError(f"--{name} is no option of such a line; take it out")
            values[name] = value
    if counts:
        values["count"] = _product(counts)
    values |= _seed_size(given)
    return _without_variation(values)


def _split(words: Sequence[str]) -> dict[str, str]:
    """Option -> value. A prompt runs to the next word that begins with --; every other option has one word."""
    given: dict[str, list[str]] = {}
    name = "prompt"
    for word in words:
        if re.match("--[A-Za-z]", word):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            if name in given:
                raise UsageError(f"--{name} is here twice; keep one")
            given[name] = [value] if equals else []
        elif name in TEXTS or not given[name]:
            given.setdefault(name, []).append(word)
        else:
            raise UsageError(f"{word!r} stands behind the value of --{name}; put texts in quotes")
    for name, values in given.items():
        if not values and name not in TEXTS:
            raise UsageError(f"--{name} has no value; write one behind it")
    return {name: " ".join(values) for name, values in given.items()}


def _is_true(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise UsageError(f"--{name}: {value!r} is not true or false")
    return value.lower() == "true"


def _told(name: str) -> dict[str, str]:
    """What an option of A1111 that is true asks for; raises UsageError for what is not done here."""
    if name == "restore_faces":
        raise UsageError("--restore_faces true: there is nothing of the kind here; leave it out")
    if name == "do_not_save_samples":
        raise UsageError(
            "--do_not_save_samples true: pictures that are not saved are not drawn; leave it out"
        )
    return {"tile": "both"}


def _product(counts: Sequence[str]) -> str:
    """The product of batch_size and n_iter; raises UsageError if one is no number."""
    product = 1
    for count in counts:
        if not re.fullmatch("[0-9]{1,6}", count, re.ASCII) or not int(count):
            raise UsageError(f"--batch_size or --n_iter: {count!r} is not a whole number from 1")
        product *= int(count)
    return str(product)


def _seed_size(given: dict[str, str]) -> dict[str, str]:
    """The size that the noise is drawn for; 0 and below ask for none."""
    sides = [given.get(f"seed_resize_from_{side}", "0") for side in "wh"]
    return {} if any(re.fullmatch("0|-[0-9]+", each) for each in sides) else {"seed_size": "x".join(sides)}


def _without_variation(values: dict[str, str]) -> dict[str, str]:
    """The values; without a subseed of strength 0, or that is open, which vary nothing."""
    strength = values.get("subseed_strength", "0")
    if re.fullmatch(r"0(\.0*)?", strength):
        return {name: value for name, value in values.items() if not name.startswith("subseed")}
    return values
