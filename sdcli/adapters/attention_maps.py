"""Attention maps: how much each place of a picture looks at words of its prompt, recorded while it is drawn.

The cross-attention of the U-Net averaged over heads, layers and calls (Tang et al. 2022, "What the DAAM: Interpreting
Stable Diffusion Using Cross Attention").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcli.diffusion.conditioning import Cond
from sdcli.diffusion.unet_call import UNetCall
from sdcli.diffusion.windows import Window
from sdcli.models.architectures.attention import Attention, Processor, split_heads

Rows = Mapping[str, Sequence[int]]
"""Word -> the rows of a context that are its tokens."""


class AttentionMaps:
    """Records, beside the ordinary computation, the attention that words get in the calls of a U-Net.

    `adapted` is the Adapter. `begin` says before each run which conds are watched, and `see` before each call of the
    U-Net which conds its rows are. Only the shares of the words are kept, in float32, added up at the size of the
    latents. Without words it does nothing.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._rows: Mapping[Cond, Rows] = {}
        self._sums: list[_Sums] = []  # one for each run
        self._seen: list[tuple[int, Cond]] = []  # the watched rows of the call
        self._window: Window = (slice(None), slice(None))

    @contextmanager
    def adapted(self, part: str, module: nn.Module) -> Iterator[None]:
        """Record the cross-attentions of the U-Net while inside."""
        transformers = [each for each in module.modules() if hasattr(each, "transformer_blocks")]
        undo: list[tuple[Any, Processor]] = []
        hooks = []
        try:
            for transformer in transformers if part == "unet" and self.words else []:
                place = _Place()
                hooks.append(transformer.register_forward_pre_hook(place.remember))
                blocks: Any = transformer.transformer_blocks
                for attention in [block.attn2 for block in blocks if block.attn2 is not None]:
                    undo.append((attention, attention.processor))
                    attention.processor = self._recording(attention.processor, place)
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for attention, processor in undo:
                attention.processor = processor

    def begin(self, rows: Mapping[Cond, Rows], size: tuple[int, int]) -> None:
        """A run begins over latents of `size` (h, w), in which these conds are watched."""
        self._rows, self._seen = rows, []
        self._sums.append(_Sums(len(self.words), size))

    def see(self, call: UNetCall) -> None:
        """This is the next call of the U-Net."""
        self._seen = [(i, cond) for i, cond in enumerate(call.conds) if cond in self._rows]
        self._window = call.window

    def maps(self, size: tuple[int, int]) -> dict[str, Tensor]:
        """Word -> its share of the attention (h, w) at `size`, in 0 … 1, float32 on the CPU.

        It is the average over the heads, the layers, and every call of all runs in which the prompt has the word.
        A word that no call had is missing.
        """
        if not self.words or not self._sums:
            return {}
        totals = sum((_resized(each.total, size) for each in self._sums), torch.zeros(()))
        counts = sum((_resized(each.count, size) for each in self._sums), torch.zeros(()))
        return {
            word: (totals[i] / counts[i]).clamp(0, 1)
            for i, word in enumerate(self.words)
            if counts[i].min() > 0
        }

    def _recording(self, processor: Processor, place: _Place) -> Processor:
        """The same processor, whose attention is recorded first."""

        def process(attention: Attention, x: Tensor, context: Tensor | None = None) -> Tensor:
            if context is not None:
                for i, cond in self._seen:
                    shares = word_shares(attention, x[i : i + 1], context[i : i + 1], self._at(cond))
                    self._add(cond, shares.reshape(-1, *place.size))
            return processor(attention, x, context)

        return process

    def _at(self, cond: Cond) -> list[Sequence[int]]:
        return [self._rows[cond].get(word, ()) for word in self.words]

    def _add(self, cond: Cond, shares: Tensor) -> None:
        sums, (rows, columns) = self._sums[-1], self._window
        size = (len(range(*rows.indices(sums.size[0]))), len(range(*columns.indices(sums.size[1]))))
        has_word = torch.tensor([bool(each) for each in self._at(cond)])[:, None, None]
        sums.total[:, rows, columns] += _resized(shares.cpu(), size)
        sums.count[:, rows, columns] += has_word


class _Place:
    """The size of the plane that the tokens of a transformer are."""

    size: tuple[int, int]

    def remember(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """A hook that is called before the transformer's forward."""
        height, width = inputs[0].shape[-2:]
        self.size = (height, width)


class _Sums:
    """What is added up in a run: the shares of the words and the number of summands, (words, h, w) each."""

    def __init__(self, words: int, size: tuple[int, int]) -> None:
        self.size = size
        self.total = torch.zeros(words, *size)
        self.count = torch.zeros(words, *size)


def word_shares(
    attention: Attention, x: Tensor, context: Tensor, positions: Sequence[Sequence[int]]
) -> Tensor:
    """The share of the attention of each token of x (1, tokens, width) that goes to the rows of each word.

    `positions` are the rows of the context (1, text tokens, text width) that each word is; the shares of a word's rows
    are added up, and averaged over the heads. Returns (words, tokens) in float32.
    """
    q = split_heads(attention.to_q(x), attention.heads).float()
    k = split_heads(attention.to_k(context), attention.heads).float()
    probabilities = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1)[0]
    return torch.stack([probabilities[..., list(rows)].sum(-1).mean(0) for rows in positions])


def _resized(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Planes (n, h, w) at another size, between their values; the average of all planes of one place is kept."""
    if planes.shape[-2:] == size:
        return planes
    return F.interpolate(planes[None], size, mode="bilinear", align_corners=False)[0]


def attention_maps(words: Sequence[str]) -> AttentionMaps:
    """The recorder for these words."""
    return AttentionMaps(words)
