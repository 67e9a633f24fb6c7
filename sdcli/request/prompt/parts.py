"""Parts: a prompt cut at AND, each part with its weight, in A1111's language.

The conjunction of Liu et al. 2022, "Compositional Visual Generation with Composable Diffusion Models".
"""

from __future__ import annotations

import re

from sdcli.request.prompt.pieces import Piece

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r":\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))$")


def parse(prompt: str, weights_alone: bool = False) -> list[Piece]:
    """The parts of a prompt with their weights: `a cat :1.2 AND a dog` is `a cat` at 1.2 and ` a dog` at 1.

    The weight of a prompt that is one part stays text, as in `ratio 16:9`. A1111 itself (`weights_alone`) reads it as
    a weight there too, and multiplies the guidance by 9.
    """
    parts = _AND.split(prompt)
    if len(parts) == 1 and not weights_alone:
        return [Piece(prompt)]
    return [_part(part) for part in parts]


def _part(text: str) -> Piece:
    text = text.rstrip()
    weight = _WEIGHT.search(text)
    return Piece(text[: weight.start()].rstrip(), float(weight[1])) if weight else Piece(text)
