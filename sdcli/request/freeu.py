"""FreeU: how the decoder of a U-Net weighs its own features and its skip connections, typed as `1.5,1.6,0.9,0.2`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sdcli.errors import UsageError
from sdcli.registry import nearest

AUTO = "auto"
NUMBERS = ("b1", "b2", "s1", "s2")
WORDS = {"by": ("width", "block"), "version": ("1", "2")}
_EXAMPLE = "write b1,b2,s1,s2 as 1.5,1.6,0.9,0.2, or auto for the model's own"


@dataclass(frozen=True)
class FreeU:
    """The factors of features (b) and of the lowest frequencies of skip connections (s), in two stages.

    None is the default of the model's family. `by` says where the stages are: by the width of the features (as the
    authors do) or in the first two up blocks (as diffusers does); None is as `--like` does. Version 2 weighs features
    by their mean.
    """

    b1: float | None = None
    b2: float | None = None
    s1: float | None = None
    s2: float | None = None
    by: str | None = None
    version: int = 1


def parse(text: str) -> FreeU:
    """`auto`, `1.5,1.6,0.9,0.2` or `b1=1.5,…,version=2,by=block`; raises UsageError."""
    items = [item.strip() for item in text.split(",")]
    items = items[1:] if items[0] == AUTO else items
    plain = [item for item in items if "=" not in item]
    if plain and len(plain) != len(NUMBERS):
        raise UsageError(f"--freeu {text}: {len(plain)} numbers are not four; {_EXAMPLE}")
    settings = dict(zip(NUMBERS, plain, strict=True)) if plain else {}
    for item in items:
        name, sign, value = (part.strip() for part in item.partition("="))
        if not sign:
            continue
        if name not in (*NUMBERS, *WORDS):
            raise UsageError(
                f"--freeu {text}: no setting is called {name!r}; {nearest(name, (*NUMBERS, *WORDS))}"
            )
        if name in settings:
            raise UsageError(f"--freeu {text}: {name} is given twice; give it once")
        if name in WORDS and value not in WORDS[name]:
            raise UsageError(f"--freeu {text}: {name}={value!r} is unknown; {nearest(value, WORDS[name])}")
        settings[name] = value
    numbers = {name: _number(text, settings[name]) for name in NUMBERS if name in settings}
    return FreeU(**numbers, by=settings.get("by"), version=int(settings.get("version", "1")))


def _number(text: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 10:
        raise UsageError(f"--freeu {text}: {word!r} is not a number from 0 to 10; {_EXAMPLE}")
    return value
