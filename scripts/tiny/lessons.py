"""What the UNet is trained on, batch by batch: latents and captions of every kind, and where the named things are."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import recipe
import tokens
from bank import things
from concepts import CONCEPTS
from listening import MAPS, Box, half_of, masks_of
from several import SEVERAL, Composed, Pieces
from spans import span

WIDTHS = {"small": recipe.SIZES["small"][1], "large": recipe.SIZES["large"][1]}  # of the picture; else recipe.PART


@dataclass(frozen=True)
class Batch:
    """Latents (n, 4, h, w), token ids (n, 77), masks and spans of at most two named things (listening.Looks).

    Of pictures of two things also the words that tell the teacher one of them (n, 77), where that is (n, MAPS, MAPS),
    the style, as an index into recipe.STYLES, and whether they are above each other (n, 2). where is 0 and the style -1
    for others.
    """

    latents: Tensor
    words: Tensor
    masks: Tensor
    spans: Tensor
    half_words: Tensor
    where: Tensor
    look: Tensor


@dataclass(frozen=True)
class Kind:
    """One kind of the bank: latents, captions (n, k) as indices into ids (texts, 77) and spans (texts, 2), and how wide
    its things are."""

    latents: Tensor
    captions: Tensor
    ids: Tensor
    spans: Tensor
    width: float


class Bank:
    """The kinds of the bank, all pictures of a kind used equally often, and those composed on the way."""

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.dice = np.random.default_rng(seed)
        self.kinds = {kind: held for kind in recipe.UNET_MIX if (held := _load(kind))}
        self.pieces = Pieces() if (recipe.WORK / "bank" / "small.pt").exists() else None
        self.orders = {kind: torch.empty(0, dtype=torch.long) for kind in self.kinds}
        self.empty = torch.tensor(tokens.encode([""]), dtype=torch.int32)[0]

    def batch(self, count: int, mix: dict[str, float] = recipe.UNET_MIX) -> Batch:
        known = [kind for kind in mix if kind in self.kinds or (kind in SEVERAL and self.pieces)]
        shares = torch.tensor([mix[kind] for kind in known])  # a kind that has not been made yet is left out
        chosen = torch.multinomial(shares, count, replacement=True, generator=self.random)
        parts, halves = [], []
        for kind, many in zip(known, torch.bincount(chosen, minlength=len(shares)).tolist(), strict=True):
            if many:
                made = [SEVERAL[kind](self.dice, self.pieces) for _ in range(many)] if kind in SEVERAL else None
                parts.append(self._composed(made) if made else self._held(kind, many))
                halves += [self._half(each) for each in made] if made else [self._half(None)] * many
        latents, words, spans, boxes = (list(part) for part in zip(*parts, strict=True))
        z, ids, spans = torch.cat(latents).float(), torch.cat(words), torch.cat(spans)
        empty = torch.rand(count, generator=self.random) < recipe.UNET_EMPTY
        ids[empty], spans[empty] = self.empty, False
        masks = masks_of(z, [box for some in boxes for box in some])
        half_words, where, look = (torch.stack(part) for part in zip(*halves, strict=True))
        where[empty], look[empty] = 0, -1
        return Batch(z, ids, masks, spans, half_words, where, look)

    def _half(self, made: Composed | None) -> tuple[Tensor, Tensor, Tensor]:
        """Of two things: the words for one of them, where it is, and the look of the picture (Batch)."""
        if not made or not made.twice:
            return self.empty, torch.zeros(MAPS, MAPS), torch.tensor([-1, -1])
        second = int(self.dice.integers(2))
        words = torch.tensor(tokens.encode([made.twice[second]])[0], dtype=torch.int32)
        style = list(recipe.STYLES).index(made.placed[0][0].style)
        return words, half_of(made.above, bool(second)), torch.tensor([style, int(made.above)])

    def _held(self, kind: str, many: int) -> tuple[Tensor, Tensor, Tensor, list[list[Box]]]:
        held = self.kinds[kind]
        while len(self.orders[kind]) < many:
            again = torch.randperm(len(held.latents), generator=self.random)
            self.orders[kind] = torch.cat([self.orders[kind], again])
        rows, self.orders[kind] = self.orders[kind].split([many, len(self.orders[kind]) - many])
        which = torch.randint(held.captions.shape[1], (many,), generator=self.random)
        texts = held.captions[rows, which]
        spans = torch.stack([_marked([tuple(held.spans[text].tolist())]) for text in texts])
        box: Box = (0, (0.5, 0.5, held.width))
        return held.latents[rows], held.ids[texts], spans, [[box] for _ in range(many)]

    def _composed(self, made: list[Composed]) -> tuple[Tensor, Tensor, Tensor, list[list[Box]]]:
        ids = tokens.encode([each.caption for each in made])
        spans, boxes = [], []
        for each, row in zip(made, ids, strict=True):
            concepts = list(dict.fromkeys(piece.concept for piece, _ in each.placed))
            spans.append(_marked([span(row, concept) for concept in concepts]))
            width = WIDTHS["small"]
            boxes.append([(concepts.index(piece.concept), (*place, width)) for piece, place in each.placed])
        latents = torch.stack([self.pieces.picture(each.placed) for each in made])
        return latents, torch.tensor(ids, dtype=torch.int32), torch.stack(spans), boxes


def _marked(spans: list[tuple[int, int]]) -> Tensor:  # (2, 77)
    """True at the tokens of at most two things."""
    out = torch.zeros(2, tokens.LENGTH, dtype=torch.bool)
    for number, (start, end) in enumerate(spans):
        out[number, start:end] = True
    return out


def _load(kind: str) -> Kind | None:
    path = recipe.WORK / "bank" / f"{kind}.pt"
    if not path.exists():
        return None
    held = torch.load(path, mmap=True)
    ids = tokens.encode(held["texts"])
    names = {emoji: name for name, (emojis, _) in CONCEPTS.items() for emoji in emojis}
    spans = torch.zeros(len(ids), 2, dtype=torch.long)
    for (_, place), texts in zip(held["rows"].tolist(), held["captions"].tolist(), strict=True):
        for text in set(texts):
            spans[text] = torch.tensor(span(ids[text], names[things()[place][2]]))
    table = torch.tensor(ids, dtype=torch.int32)
    return Kind(held["latents"], held["captions"], table, spans, WIDTHS.get(kind, recipe.PART))
