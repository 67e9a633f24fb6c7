"""ToMe: tokens that are alike are merged before self-attention at the highest resolution, which takes less time so."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcli.diffusion.unet_call import UNetCall
from sdcli.models.architectures.attention import Attention, Processor

CELL = 2
"""Of each cell of so many by so many tokens, one is kept, and others may be merged into it."""


class TokenMerging:
    """Merges a share of the tokens (Bolya & Hoffman 2023, "Token Merging for Fast Stable Diffusion").

    Of each 2x2 tokens a random one is kept. Of the others, the `ratio` of all tokens that are most like a kept one are
    averaged into it before self-attention, and its result is copied back to them. Which are kept follows from the seed
    and the noise level. `adapted` is the Adapter, and `see` is told of each call of the U-Net.
    """

    def __init__(self, ratio: float, seed: int = 0) -> None:
        self.ratio, self.seed = ratio, seed
        self._random = torch.Generator()

    def see(self, call: UNetCall) -> None:
        """This is the next call of the U-Net."""
        digest = hashlib.sha256(f"tome {self.seed} {call.sigma!r}".encode()).digest()
        self._random.manual_seed(int.from_bytes(digest[:8], "little") >> 1)

    @contextmanager
    def adapted(self, part: str, module: nn.Module) -> Iterator[None]:
        """Merge tokens in the U-Net while inside."""
        hooks, undo = [], []
        try:
            for transformer in _highest_resolution(module) if part == "unet" and self.ratio else ():
                place = _Place()
                hooks.append(transformer.register_forward_pre_hook(place.see_plane))
                for block in transformer.transformer_blocks:
                    hooks.append(block.register_forward_pre_hook(place.see_tokens))
                    undo.append((block.attn1, block.attn1.processor))
                    block.attn1.processor = self._merging(place, block.attn1.processor)
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for attention, processor in undo:
                attention.processor = processor

    def _merging(self, place: _Place, processor: Processor) -> Processor:
        """The processor, which is given fewer tokens."""

        def process(attention: Attention, x: Tensor, context: Tensor | None = None) -> Tensor:
            if context is not None:
                return processor(attention, x, context)
            merging = merging_of(place.tokens, place.plane, self.ratio, self._random)
            return merging.undone(processor(attention, merging.merged(x), None))

        return process


@dataclass(frozen=True)
class Merging:
    """Which tokens are merged into which; all are indices (n, count, 1).

    `kept` and `others` are tokens; `merged_others` and `left_others` are indices into the others, and `into` says into
    which of the kept each of the merged goes.
    """

    kept: Tensor
    others: Tensor
    merged_others: Tensor
    left_others: Tensor
    into: Tensor

    def merged(self, x: Tensor) -> Tensor:
        """(n, tokens, width) -> the fewer tokens: those that are left, then the kept."""
        kept, others = _gather(x, self.kept), _gather(x, self.others)
        away = _gather(others, self.merged_others)
        kept = kept.scatter_reduce(1, self.into.expand_as(away), away, "mean")
        return torch.cat([_gather(others, self.left_others), kept], 1)

    def undone(self, x: Tensor) -> Tensor:
        """The fewer tokens -> all of them, (n, tokens, width); a merged one is that which it was merged into."""
        count = self.left_others.shape[1]
        left, kept = x[:, :count], x[:, count:]
        others = x.new_empty(x.shape[0], self.others.shape[1], x.shape[2])
        others = _scatter(others, self.left_others, left)
        others = _scatter(others, self.merged_others, _gather(kept, self.into))
        out = x.new_empty(x.shape[0], self.others.shape[1] + self.kept.shape[1], x.shape[2])
        return _scatter(_scatter(out, self.others, others), self.kept, kept)


def merging_of(x: Tensor, plane: tuple[int, int], ratio: float, random: torch.Generator) -> Merging:
    """The merging of this share of the tokens x (n, height * columns, width) of a plane, by their cosine."""
    height, columns = plane
    rows, cells = height // CELL, columns // CELL
    chosen = torch.randint(CELL * CELL, (rows, cells), generator=random)
    y = torch.arange(rows)[:, None] * CELL + chosen // CELL
    kept = (y * columns + torch.arange(cells)[None] * CELL + chosen % CELL).flatten()
    is_other = torch.ones(height * columns, dtype=torch.bool)
    is_other[kept] = False
    indices = [
        each.to(x.device)[None, :, None].expand(len(x), -1, -1) for each in (kept, is_other.nonzero()[:, 0])
    ]
    unit = F.normalize(x.float(), dim=-1)
    likeness, into = (_gather(unit, indices[1]) @ _gather(unit, indices[0]).transpose(1, 2)).max(-1)
    order = likeness.argsort(dim=-1, descending=True, stable=True)[..., None]
    count = min(order.shape[1], int(height * columns * ratio))
    merged, left = order[:, :count], order[:, count:]
    return Merging(indices[0], indices[1], merged, left, into[..., None].gather(1, merged))


class _Place:
    """The plane that the tokens of a transformer are, and the tokens that a block of it is given."""

    plane: tuple[int, int]
    tokens: Tensor

    def see_plane(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        height, columns = inputs[0].shape[-2:]
        self.plane = (height, columns)

    def see_tokens(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.tokens = inputs[0]


def _highest_resolution(unet: Any) -> list[Any]:
    """The transformers at the highest resolution that has any."""
    for level, block in enumerate(unet.down_blocks):
        if len(getattr(block, "attentions", ())):
            return [*block.attentions, *unet.up_blocks[-1 - level].attentions]
    return []


def _gather(x: Tensor, indices: Tensor) -> Tensor:
    return x.gather(1, indices.expand(-1, -1, x.shape[2]))


def _scatter(x: Tensor, indices: Tensor, values: Tensor) -> Tensor:
    return x.scatter(1, indices.expand_as(values), values)


def tome(ratio: str) -> TokenMerging:
    """The adapter that merges this share of the tokens."""
    return TokenMerging(float(ratio))
