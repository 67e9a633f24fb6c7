"""Reference: a picture whose looks the result takes on, typed as `in.png:fidelity=0.5:mode=attention`."""

from __future__ import annotations

from dataclasses import dataclass

from sdcli.errors import UsageError
from sdcli.request.file_options import parse_file_options

KNOWN = ("fidelity", "mode", "weight")
"""The settings behind a picture."""
MODES = ("attention", "adain", "both")


@dataclass(frozen=True)
class Reference:
    """A picture to take looks from.

    `mode` says how: attention (self-attention looks at it too), adain (features get its means and deviations), or both.
    `fidelity`, 0 to 1, is how much less the negative prompt sees of it: more keeps closer to its style. `weight`, 0 to
    1, is the share of the layers that take part, the widest first.
    """

    image: str
    fidelity: float = 0.5
    mode: str = "attention"
    weight: float = 1.0


def parse(text: str) -> Reference:
    """`PICTURE[:fidelity=0.5][:mode=attention|adain|both][:weight=1]`; raises UsageError."""
    found = parse_file_options("--reference", text, KNOWN)
    if found.path == "-":
        raise UsageError("--reference -: it cannot be standard input; name a file")
    return Reference(
        found.path,
        found.number("fidelity", 0.5, 0, 1),
        found.choice("mode", "attention", MODES),
        found.number("weight", 1, 0, 1),
    )
