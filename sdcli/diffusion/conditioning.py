"""Conditioning: what the U-Net is told of a prompt, and prompts composed of weighted, timed and placed parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from sdcli.diffusion.types import Predict, PredictComposed


@dataclass(frozen=True, eq=False)
class Cond:
    """One encoded prompt, as the U-Net takes it: one row of a U-Net call. Conds are compared by identity."""

    context: Tensor  # (1, 77 * chunks, text width), for the cross-attention
    pooled: Tensor | None = None  # (1, width), for families that add it to the time embedding
    time_ids: tuple[float, ...] = ()  # sizes in pixels, or a score, that such a family is told as well
    perturb_attention: bool = False  # the U-Net's middle self-attention is replaced by the identity
    attention_of: Cond | None = (
        None  # the answer is the middle self-attention in the row of this cond, no estimate
    )
    zero_concat: bool = False  # the channels concatenated to x are zeros
    is_negative: bool = (
        False  # it is the negative prompt's, or the empty prompt that others are compared with
    )
    make_empty: Callable[[], Cond] | None = None  # makes `empty`; None if this cond is the empty prompt
    chunks: Mapping[str, Sequence[Any]] = field(
        default_factory=dict
    )  # by text encoder: the tokens it was made from

    @cached_property
    def perturbed(self) -> Cond:
        """The same prompt, for a U-Net whose middle self-attention is the identity."""
        return replace(self, perturb_attention=True)

    @cached_property
    def attention(self) -> Cond:
        """What asks for the U-Net's middle self-attention in this cond's row; it is no row of a call itself.

        The answer is the attention that each place gets in the sum over all places, averaged over the heads.
        """
        return replace(self, attention_of=self)

    @cached_property
    def without_concat(self) -> Cond:
        """The same prompt, for a U-Net that gets zeros in place of the channels concatenated to x."""
        return replace(self, zero_concat=True)

    @cached_property
    def empty(self) -> Cond:
        """The empty prompt, for guidance that compares with it.

        The empty prompt's own `empty` is a copy, so that it stays a row of its own: the number of rows in a call
        changes the last bits of the network's answers, and with them the picture.
        """
        return replace(self) if self.make_empty is None else self.make_empty()


@dataclass(frozen=True, eq=False)
class Part:
    """One piece of a composed prompt: a cond with its weight, its noise levels and its place in the picture.

    It counts at the noise levels end < sigma <= start. The comparison is exact, so a part that ends at the level where
    another starts hands over to it: at that level only the other counts. `area`, (1, 1, h/8, w/8) in 0 … 1 on the
    device of x, says how much the part counts at each latent; None is 1 everywhere.
    """

    cond: Cond
    weight: float = 1.0
    start: float = math.inf
    end: float = -math.inf
    area: Tensor | None = None

    @property
    def is_whole(self) -> bool:
        """True if the part alone, while it is active, is just its cond: weight 1, everywhere."""
        return self.weight == 1 and self.area is None


@dataclass(frozen=True, eq=False)
class Composed:
    """A composed prompt: its parts, added up by `composed`. A plain prompt is one whole part.

    `base` is the unconditional prompt that the parts are compared with; a prompt that is never more than one whole part
    needs none.
    """

    parts: tuple[Part, ...]
    base: Composed | None = None

    @classmethod
    def plain(cls, cond: Cond) -> Composed:
        """A prompt of one part: all noise levels, weight 1, everywhere."""
        return cls((Part(cond),))

    def active(self, sigma: float) -> tuple[Part, ...]:
        """The parts that count at this noise level."""
        return tuple(part for part in self.parts if part.end < sigma <= part.start)

    @cached_property
    def perturbed(self) -> Composed:
        """The same prompt, each part's cond `perturbed`."""
        return self._map(lambda cond: cond.perturbed)

    @cached_property
    def attention(self) -> Composed:
        """What asks for the attention of each part's cond."""
        return self._map(lambda cond: cond.attention)

    @cached_property
    def without_concat(self) -> Composed:
        """The same prompt, each part's cond `without_concat`."""
        return self._map(lambda cond: cond.without_concat)

    @cached_property
    def empty(self) -> Composed:
        """The empty prompt."""
        return Composed.plain(self.parts[0].cond.empty)

    def _map(self, change: Callable[[Cond], Cond]) -> Composed:
        parts = tuple(replace(part, cond=change(part.cond)) for part in self.parts)
        return Composed(parts, self.base and self.base._map(change))


def composed(predict: Predict) -> PredictComposed:
    """The network for composed prompts: base + sum of weight * area * (cond - base) over the active parts.

    The conjunction of Liu et al. 2022, "Compositional Visual Generation with Composable Diffusion Models", written in
    denoised estimates. A prompt with a single active part that is whole is that part's estimate itself: one row of the
    network and no arithmetic. A prompt without an active part is its base's estimate. Each distinct Cond is one row of
    the call, however many prompts and parts ask for it.
    """

    def predict_composed(x: Tensor, sigma: float, prompts: Sequence[Composed]) -> list[Tensor]:
        rows = list(dict.fromkeys(cond for prompt in prompts for cond in _rows(prompt, sigma)))
        estimates = dict(zip(rows, predict(x, sigma, rows), strict=True))
        return [_estimate(prompt, sigma, estimates) for prompt in prompts]

    return predict_composed


def _rows(prompt: Composed, sigma: float) -> Iterable[Cond]:
    """The conds whose estimates the prompt's own needs."""
    parts = prompt.active(sigma)
    if not _is_single(parts):
        yield from _rows(_base(prompt), sigma)
    yield from (part.cond for part in parts)


def _estimate(prompt: Composed, sigma: float, estimates: Mapping[Cond, Tensor]) -> Tensor:
    parts = prompt.active(sigma)
    if _is_single(parts):
        return estimates[parts[0].cond]
    base = _estimate(_base(prompt), sigma, estimates)
    total = base
    for part in parts:
        difference = (estimates[part.cond] - base) * part.weight
        total = total + (difference if part.area is None else difference * part.area)
    return total


def _base(prompt: Composed) -> Composed:
    if prompt.base is None:
        raise ValueError("a prompt of several parts, or of none, needs a base")
    return prompt.base


def rows_of_call(conds: Sequence[Cond]) -> list[Cond]:
    """The conds that are rows of a call which answers these."""
    return list(dict.fromkeys(cond.attention_of or cond for cond in conds))


def _is_single(parts: Sequence[Part]) -> bool:
    return len(parts) == 1 and parts[0].is_whole


def by_length(predict: Predict) -> Predict:
    """The same network, which is called once for each length of prompt; conds of one length go through it together."""

    def predict_each(x: Tensor, sigma: float, conds: Sequence[Cond]) -> list[Tensor]:
        lengths = dict.fromkeys(cond.context.shape[1] for cond in conds)
        if len(lengths) == 1:
            return predict(x, sigma, conds)
        estimates: dict[Cond, Tensor] = {}
        for length in lengths:
            same = [cond for cond in conds if cond.context.shape[1] == length]
            estimates.update(zip(same, predict(x, sigma, same), strict=True))
        return [estimates[cond] for cond in conds]

    return predict_each
