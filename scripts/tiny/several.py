"""Pictures of small things, composed in latents while training: one in a named place, two, or several of one.

What the autoencoder makes of a small thing depends little on its neighbours (squared error 0.003 of a variance of 0.55,
mostly at the edges), so nothing is encoded, and no two pictures of two things need to be the same.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import recipe
from bank import hue_of, things
from captions import BARE, THE, doubled, many, named, paired, placed, styled
from concepts import COLOURS, CONCEPTS

Random = np.random.Generator
Place = tuple[float, float]
PLACES: dict[int, tuple[Place, ...]] = {  # the centres of so many, whole steps of the UNet's coarsest level apart
    2: ((0.25, 0.5), (0.75, 0.5)),
    3: ((0.5, 0.25), (0.25, 0.75), (0.75, 0.75)),
    4: ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)),
}
SIDES: dict[str, Place] = {"left": (0.25, 0.5), "right": (0.75, 0.5), "top": (0.5, 0.25), "bottom": (0.5, 0.75)}


@dataclass(frozen=True)
class Piece:
    """A small thing of the bank: its concept, style, the colour that may be said of it, and its latents (4, h, w)."""

    concept: str
    style: str
    colour: str | None
    recoloured: bool
    latents: Tensor

    def words(self, random: Random, size: str | None = None) -> str:
        """`a red cat`. A colour that is not its own is always said."""
        said = self.colour if self.recoloured or random.random() < 0.5 else None
        looks = " ".join(filter(None, (size, said)))
        return named(random, (self.concept, *CONCEPTS[self.concept][1]), looks or None)


@dataclass(frozen=True)
class Composed:
    """What is where, and one caption of it. Of two things beside or above each other also captions that say two of one
    of them."""

    placed: tuple[tuple[Piece, Place], ...]
    caption: str
    twice: tuple[str, ...] = ()
    above: bool = False


class Pieces:
    """The small things of the bank, by style and concept."""

    def __init__(self) -> None:
        self.of: dict[str, dict[str, list[Piece]]] = defaultdict(lambda: defaultdict(list))
        self.recoloured: dict[str, dict[str, list[Piece]]] = defaultdict(lambda: defaultdict(list))
        folder = recipe.WORK / "bank"
        small = torch.load(folder / "small.pt", mmap=True)
        banks = [(small, self.of, False)]
        if (turned := folder / "small_recoloured.pt").exists():
            banks.append((torch.load(turned, mmap=True), self.recoloured, True))
        self.side = small["latents"].shape[-1]
        self.near = self.side // 4 - 1  # half the width of a piece
        self.white = small["latents"][0].clone()  # white but for its edge, which differs
        self.white[:, 8:-8, 8:-8] = self.white[:, 8, 8, None, None]
        names = {emoji: name for name, (emojis, _) in CONCEPTS.items() for emoji in emojis}
        for bank, into, other in banks:
            for latents, row in zip(bank["latents"], bank["rows"].tolist(), strict=True):
                _, style, emoji = things()[row[1]]
                own = None if style == recipe.LINES else COLOURS.get(emoji)
                colour = hue_of((row[0], row[1])) if other else own
                piece = Piece(names[emoji], style, colour, other, self._cut(latents))
                into[style][piece.concept].append(piece)

    def _cut(self, latents: Tensor) -> Tensor:
        middle = slice(self.side // 2 - self.near, self.side // 2 + self.near)
        return latents[:, middle, middle]

    def one(self, random: Random, style: str, concept: str, recoloured: float) -> Piece:
        """A piece of this concept; in another colour with this probability, if there is one."""
        other = self.recoloured[style][concept]
        some = other if other and random.random() < recoloured else self.of[style][concept]
        return some[random.integers(len(some))]

    def picture(self, placed: tuple[tuple[Piece, Place], ...]) -> Tensor:  # (4, side, side)
        out = self.white.clone()
        for piece, place in placed:
            x, y = (round(self.side * part) for part in place)
            out[:, y - self.near : y + self.near, x - self.near : x + self.near] = piece.latents
        return out


def _style(random: Random) -> str:
    """Mostly the style that captions do not name, so that each pair of words is seen often."""
    others = [style for style in recipe.STYLES if style not in (recipe.PIXELS, recipe.UNSAID)]
    return recipe.UNSAID if random.random() < 0.7 else str(random.choice(others))


def _concept(random: Random, pieces: Pieces, style: str) -> str:
    return str(random.choice(list(pieces.of[style])))


def two(random: Random, pieces: Pieces) -> Composed:
    """Two different things beside or above each other, each in its own or another colour."""
    style = _style(random)
    first = _concept(random, pieces, style)
    second = first
    while second == first:
        second = _concept(random, pieces, style)
    a, b = (pieces.one(random, style, concept, 0.35) for concept in (first, second))
    above = random.random() < 0.3
    places = [(y, x) for x, y in PLACES[2]] if above else PLACES[2]
    text = paired(random, a.words(random), b.words(random), above)
    twice = [doubled(piece.concept, above, piece.colour if piece.recoloured else None) for piece in (a, b)]
    said = f", {recipe.STYLES[style][0]}" if style != recipe.UNSAID else ""
    placed = tuple(zip((a, b), places, strict=True))
    return Composed(placed, styled(random, text, style), tuple(f"{each}{said}" for each in twice), above)


def in_place(random: Random, pieces: Pieces) -> Composed:
    """One small thing on one side of the picture."""
    style = _style(random)
    piece = pieces.one(random, style, _concept(random, pieces, style), 0.35)
    side = str(random.choice(list(SIDES)))
    size = str(random.choice(recipe.SIZES["small"][0])) if random.random() < 0.5 else None
    return Composed(((piece, SIDES[side]),), styled(random, placed(piece.words(random, size), side), style))


def several_of_one(random: Random, pieces: Pieces) -> Composed:
    """Two to four of one thing, in its own or another colour."""
    style, concept = _style(random), ""
    while not concept or concept in BARE | THE:
        concept = _concept(random, pieces, style)
    piece, number = pieces.one(random, style, concept, 0.35), int(random.integers(2, 5))
    noun = str(random.choice((concept, *CONCEPTS[concept][1])[:2]))
    told = piece.recoloured or (piece.colour and random.random() < 0.3)
    text = many(number, noun, piece.colour if told else None)
    return Composed(tuple((piece, place) for place in PLACES[number]), styled(random, text, style))


SEVERAL: dict[str, Callable[[Random, Pieces], Composed]] = {
    "two": two,
    "placed": in_place,
    "counted": several_of_one,
}
