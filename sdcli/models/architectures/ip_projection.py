"""IP projection: what an image encoder computes, as a few tokens that cross-attention reads (Ye et al. 2023).

Three forms, with the tensor names that published files have behind `image_proj.`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcli.models.architectures.attention import join_heads, split_heads


class ImageProjection(nn.Module):
    """The plain form: one vector for the whole picture, projected to several tokens."""

    def __init__(self, reads: int, tokens: int, context: int) -> None:
        super().__init__()
        self.proj = nn.Linear(reads, tokens * context)
        self.norm = nn.LayerNorm(context)

    def forward(self, embedding: Tensor) -> Tensor:
        """(n, reads) -> (n, tokens, context)."""
        out: Tensor = self.norm(
            self.proj(embedding).reshape(len(embedding), -1, self.norm.normalized_shape[0])
        )
        return out


class FullFaceProjection(nn.Module):
    """The full-face form: two layers over each state of the encoder."""

    def __init__(self, reads: int, context: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Linear(reads, reads), nn.GELU(), nn.Linear(reads, context), nn.LayerNorm(context)
        )

    def forward(self, states: Tensor) -> Tensor:
        """(n, states, reads) -> (n, states, context)."""
        out: Tensor = self.proj(states)
        return out


class Perceiver(nn.Module):
    """The plus form: learned queries that attend to the encoder's states (Alayrac et al. 2022, "Flamingo").

    `inner` are the widths of each layer's attention and of its feed-forward layer.
    """

    def __init__(
        self,
        reads: int,
        width: int,
        tokens: int,
        context: int,
        inner: Sequence[tuple[int, int]],
        head_width: int,
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.zeros(1, tokens, width))
        self.proj_in = nn.Linear(reads, width)
        self.proj_out = nn.Linear(width, context)
        self.norm_out = nn.LayerNorm(context)
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(width, attention, head_width), _feed_forward(width, hidden)])
            for attention, hidden in inner
        )

    def forward(self, states: Tensor) -> Tensor:
        """(n, states, reads) -> (n, tokens, context)."""
        states = self.proj_in(states)
        latents = self.latents.expand(len(states), -1, -1)
        for layer in self.layers:
            attention, feed_forward = layer.children()
            latents = attention(states, latents) + latents
            latents = feed_forward(latents) + latents
        out: Tensor = self.norm_out(self.proj_out(latents))
        return out


class PerceiverAttention(nn.Module):
    """Queries attend to states and to each other."""

    def __init__(self, width: int, inner: int, head_width: int) -> None:
        super().__init__()
        self.heads = inner // head_width
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, states: Tensor, latents: Tensor) -> Tensor:
        """states (n, s, width), latents (n, t, width) -> the shape of the latents."""
        latents = self.norm2(latents)
        keys, values = self.to_kv(torch.cat([self.norm1(states), latents], 1)).chunk(2, -1)
        q, k, v = (split_heads(each, self.heads) for each in (self.to_q(latents), keys, values))
        out: Tensor = self.to_out(join_heads(F.scaled_dot_product_attention(q, k, v)))
        return out


def _feed_forward(width: int, inner: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, inner, bias=False),
        nn.GELU(),
        nn.Linear(inner, width, bias=False),
    )
