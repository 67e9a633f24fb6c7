"""IP-Adapter: pictures as prompts: each cross-attention of the U-Net reads their tokens as well as the text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sdcli.checkpoints.ip_adapters import cross_attentions
from sdcli.diffusion.spans import Span
from sdcli.diffusion.step_range import steps_between
from sdcli.diffusion.unet_call import UNetCall
from sdcli.models.architectures.attention import (
    Attention,
    Processor,
    attend_heads,
    join_heads,
    softmax_attention,
    split_heads,
)


@dataclass(frozen=True, eq=False)
class ImagePrompt:
    """A picture as each cross-attention layer reads it, and how strongly.

    `keys` and `values` are of each layer, in the order of IP-Adapter files, (2, tokens, width): in row 0 those of no
    picture, for the negative prompt, in row 1 those of the picture. It acts in the steps between `start` and `end`,
    which are shares of them.
    """

    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0


class IpAdapters:
    """Adds pictures to what the cross-attentions of a U-Net read (Ye et al. 2023, "IP-Adapter", equation 5).

    out = Attention(q, K, V) + the sum of weight * Attention(q, K_picture, V_picture), then the output projection. The
    softmaxes are apart, and q is shared. `adapted` is the Adapter; `begin` is told of each run, `see` of each call.
    """

    def __init__(self, prompts: Sequence[ImagePrompt]) -> None:
        self.prompts = [prompt for prompt in prompts if prompt.weight]
        self._spans = [Span(math.inf, -math.inf) for _ in self.prompts]
        self._active: list[ImagePrompt] = []
        self._rows: list[int] = []

    def begin(self, levels: Sequence[float]) -> None:
        """A run begins that visits these noise levels."""
        self._spans = [steps_between(prompt.start, prompt.end, levels) for prompt in self.prompts]
        self._active = []

    def see(self, call: UNetCall) -> None:
        """This is the next call of the U-Net."""
        spans = zip(self.prompts, self._spans, strict=True)
        self._active = [prompt for prompt, span in spans if span.end < call.sigma <= span.start]
        self._rows = [int(not cond.is_negative) for cond in call.conds]

    @contextmanager
    def adapted(self, part: str, module: nn.Module) -> Iterator[None]:
        """Add the pictures to the cross-attentions of the U-Net while inside."""
        attentions: list[Any] = []
        if part == "unet" and self.prompts:
            names = cross_attentions([name for name, _ in module.named_parameters()])
            attentions = [module.get_submodule(name.removesuffix(".to_k.weight")) for name in names]
        before = [attention.processor for attention in attentions]
        try:
            for layer, attention in enumerate(attentions):
                attention.processor = self._reading(layer, attention.processor)
            yield
        finally:
            for attention, processor in zip(attentions, before, strict=True):
                attention.processor = processor

    def _reading(self, layer: int, processor: Processor) -> Processor:
        """The processor of a layer that reads the pictures that are active, and else does what it did."""

        def process(attention: Attention, x: Tensor, context: Tensor | None = None) -> Tensor:
            if context is None or not self._active:
                return processor(attention, x, context)
            q = split_heads(attention.to_q(x), attention.heads)
            out = attend_heads(attention, q, context)
            for prompt in self._active:
                k, v = (
                    split_heads(each[layer][self._rows], attention.heads)
                    for each in (prompt.keys, prompt.values)
                )
                out = out + prompt.weight * softmax_attention(q, k, v)
            projected: Tensor = attention.to_out[0](join_heads(out))
            return projected

        return process


def ip_adapter(prompts: Sequence[ImagePrompt]) -> IpAdapters:
    """The adapter of these pictures."""
    return IpAdapters(prompts)
