"""Middle attention: how much of a U-Net's middle self-attention each place of the latents gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcli.diffusion.conditioning import Cond
from sdcli.diffusion.windows import Window
from sdcli.errors import ModelError
from sdcli.models.architectures.attention import Attention, Processor, split_heads
from sdcli.models.architectures.unet import UNet


class MiddleAttention:
    """The middle self-attention in the rows of some conds, in one call of the network or one for each window."""

    def __init__(self, x: Tensor, conds: Sequence[Cond]) -> None:
        self._planes = {cond: x.new_zeros(1, 1, *x.shape[-2:]) for cond in conds}
        self._shape = x.shape

    def of(self, cond: Cond) -> Tensor:
        """The attention that each latent gets, of the shape of x; where windows overlap, the most that one gives."""
        return self._planes[cond].expand(self._shape).clone()

    @contextmanager
    def recorded(self, unet: UNet, conds: Sequence[Cond], window: Window) -> Iterator[None]:
        """Record a call with these rows while inside; its result is the same.

        It is that of the first transformer block. Raises ModelError for a network without one in its middle.
        """
        if not self._planes:
            yield
            return
        transformers: list[Any] = list(getattr(unet.mid_block, "attentions", None) or ())
        if not transformers:
            raise ModelError(
                "this network has no self-attention in its middle; choose another --guidance than sag"
            )
        attention: Any = transformers[0].transformer_blocks[0].attn1
        plane: list[int] = []

        def see_plane(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            plane[:] = inputs[0].shape[-2:]

        def record(attention: Attention, x: Tensor, context: Tensor | None = None) -> Tensor:
            for row, cond in enumerate(conds):
                if cond in self._planes:
                    received = received_attention(attention, x[row : row + 1])
                    self._add(cond, received.reshape(1, 1, *plane), window)
            return processor(attention, x, context)

        processor: Processor = attention.processor
        hook = transformers[0].register_forward_pre_hook(see_plane)
        attention.processor = record
        try:
            yield
        finally:
            attention.processor = processor
            hook.remove()

    def _add(self, cond: Cond, received: Tensor, window: Window) -> None:
        rows, columns = window
        place = self._planes[cond][..., rows, columns]
        place.copy_(torch.maximum(place, F.interpolate(received.to(place), place.shape[-2:])))


def received_attention(attention: Attention, x: Tensor) -> Tensor:
    """The attention that each token of x (1, tokens, width) gets from all, averaged over the heads: (tokens,)."""
    q = split_heads(attention.to_q(x), attention.heads).float()
    k = split_heads(attention.to_k(x), attention.heads).float()
    return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1)[0].mean(0).sum(0)
