"""Comments: what stands behind a # in a prompt."""

from __future__ import annotations

import re

_WHOLE_LINE = re.compile(r"(?:^|\n)#[^\n]*(?:\n|$)")
_TO_THE_END = re.compile(r"#[^\n]*(?:\n|$)")


def cut_comments(text: str) -> str:
    """The text without comments, as A1111 cuts them: from a # to the end of its line, wherever it stands.

    A line that is a comment goes with its line break. A # cannot be escaped.
    """
    return _TO_THE_END.sub("\n", _WHOLE_LINE.sub("\n", text))


def whole_line_comments(text: str) -> str:
    """The text without the lines that begin with # and a blank, as our own language cuts them.

    `#ff8800` is text, also at the beginning of a line.
    """
    return "\n".join(line for line in text.split("\n") if not line.startswith("# ") and line != "#")
