"""Words: those that the embedded model was taught, and what it makes of others. They are in words.json.

`scripts/tiny/words.py` writes that file, from the captions of the training and from the table of token embeddings.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

EXAMPLES = "a cat, a red apple, a castle in the snow"


def listing() -> dict[str, Any]:
    """What can be asked for: things with their other names, and words for styles, colours, sizes, numbers, places."""
    words = _words()
    return {key: words[key] for key in ("things", "styles", "colours", "sizes", "numbers", "places")}


def untaught(prompt: str) -> list[str]:
    """The words of a prompt that were in no caption, each once; with the word they are read as, if there is one."""
    nearest: dict[str, str] = _words()["nearest"]
    text = re.sub(r"<[^>]*>|'s\b", " ", prompt.lower())  # networks, and the owner's s
    found = dict.fromkeys(word for word in re.findall(r"[^\W\d_]+", text) if word not in _taught())
    return [f"{word} (read as {nearest[word]})" if word in nearest else word for word in found]


@functools.cache
def _words() -> dict[str, Any]:
    words: dict[str, Any] = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
    return words


@functools.cache
def _taught() -> frozenset[str]:
    """Every single word of the captions."""
    words = _words()
    texts = [name for thing, others in words["things"].items() for name in (thing, *others)]
    for key in ("styles", "colours", "sizes", "numbers", "places", "other"):
        texts += words[key]
    return frozenset(word for text in texts for word in re.findall(r"[^\W\d_]+", text))
