"""Variants: `{red|blue}` and wildcards `__name__` in a prompt, one of which is drawn for each picture by its seed.

The grammar is that of the library dynamicprompts: https://github.com/adieyal/dynamicprompts. It is imported for a
prompt that holds variants only.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sdcli.errors import UsageError
from sdcli.request.prompt.comments import whole_line_comments
from sdcli.request.prompt.literal import hide, show, wildcards_in
from sdcli.request.prompt.wildcards import Wildcards

if TYPE_CHECKING:
    from dynamicprompts.commands import Command

_SHOWN = 40  # characters of a prompt in a message
_NEXT_STEP = "correct it, or give --no-variants to take it as words"
_IN_ORDER = re.compile(r"(?<![$%])\{\s*[!@]|(?<!\S)__[!@](?=[^\s_])")


def holds_variants(text: str) -> bool:
    """True if the text holds variants or wildcards, so that it is not drawn as it stands."""
    return "{" in text or bool(wildcards_in(text))


def choose(template: str, seed: int, folder: Path | None = None) -> str:
    """The text that a seed draws from a template; the same seed draws the same choices from the same template.

    `folder` holds the wildcards. Lines that begin with # are cut. A text without variants is returned as it is.
    `{!…}` and `{@…}`, which take their choices in an order, are for `combinations`; in a wildcard's lines they draw by
    the seed too. Raises UsageError for an unknown wildcard, also in a choice that is not drawn, and for a template that
    cannot be read.
    """
    if not holds_variants(template):
        return template
    template = whole_line_comments(template)
    wildcards = Wildcards(folder)
    if found := _IN_ORDER.search(template):
        near, sign = _shown(template[found.start() :]), found[0][-1]
        raise UsageError(f"{near}: a picture draws by its seed and not in an order; leave the {sign} out")
    for name in wildcards_in(template):
        if "{" not in name:
            wildcards.get_values(name.lstrip("~").partition("(")[0])
    with _errors(template):
        results = _results(template, wildcards, "RANDOM", seed)
        return next(results, "")


def combinations(template: str, folder: Path | None, limit: int) -> Iterator[str]:
    """The texts that can be drawn from a template, at most `limit`; the leftmost choice changes last.

    `{~…}` is drawn at random, `{@…}` takes its choices in turn. Raises UsageError as `choose` does.
    """
    template = whole_line_comments(template)
    with _errors(template):
        results = _results(template, Wildcards(folder), "COMBINATORIAL")
    for _ in range(limit):
        with _errors(template):
            text = next(results, None)
        if text is None:
            return
        yield text


def _results(template: str, wildcards: Wildcards, method: str, seed: int = 0) -> Iterator[str]:
    from random import Random

    from dynamicprompts.enums import SamplingMethod
    from dynamicprompts.sampling_context import SamplingContext

    _silence_library()
    context = SamplingContext(SamplingMethod[method], cast(Any, wildcards), rand=Random(seed))
    if method == "RANDOM":
        context.samplers[SamplingMethod.CYCLICAL] = context.default_sampler
    return (show(str(result)) for result in context.sample_prompts(_parsed(hide(template))))


@cache
def _silence_library() -> None:
    """Let the library log nothing, or it prints to standard error."""
    import logging

    logging.getLogger("dynamicprompts").addHandler(logging.NullHandler())


@lru_cache(16)  # reading a template takes longer than drawing from it
def _parsed(template: str) -> Command:
    from dynamicprompts.parser.parse import parse

    return parse(template)


@contextlib.contextmanager
def _errors(template: str) -> Iterator[None]:
    """Inside, what the library raises becomes a UsageError that says what of the template cannot be read."""
    from pyparsing import ParseException

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyparsing's, of old names that the library uses
            yield
    except ParseException as error:
        text = show(error.pstr)
        unclosed = _unclosed(text)
        reason = "the variants cannot be read" if unclosed is None else "a { is never closed"
        raise UsageError(f"{_shown(text[unclosed:])}: {reason}; {_NEXT_STEP}") from None
    except RecursionError:
        raise UsageError(
            f"{_shown(template)}: its brackets, wildcards or variables hold each other without end; simplify it"
        ) from None
    except KeyError:
        raise UsageError(
            f"{_shown(template)}: a ${{name}} in it has no value; write ${{name=value}} first"
        ) from None
    except NotImplementedError:
        raise UsageError(f"{_shown(template)}: sets a variable, and there are no words; add them") from None
    except (ValueError, RuntimeError) as error:  # such as weights that are all 0
        raise UsageError(f"{_shown(template)}: {' '.join(str(error).split())}; {_NEXT_STEP}") from None


def _unclosed(text: str) -> int | None:
    """The position of the first { that is never closed; None if there is none."""
    opened: list[int] = []
    for position, sign in enumerate(text):
        if sign == "{":
            opened.append(position)
        elif sign == "}" and opened:
            opened.pop()
    return opened[0] if opened else None


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
