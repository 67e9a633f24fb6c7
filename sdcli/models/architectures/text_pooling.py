"""Text pooling: all text states as one vector, which is added to the time embedding (DeepFloyd IF, the tiny model)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TextTimeEmbedding(nn.Module):
    """Text states (n, tokens, text width) -> (n, time width), by attention pooling."""

    def __init__(self, text_width: int, time_width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(text_width)
        self.pool = AttentionPooling(text_width, heads)
        self.proj = nn.Linear(text_width, time_width)
        self.norm2 = nn.LayerNorm(time_width)

    def forward(self, context: Tensor) -> Tensor:
        """(n, tokens, text width) -> (n, time width)."""
        out: Tensor = self.norm2(self.proj(self.pool(self.norm1(context))))
        return out


class AttentionPooling(nn.Module):
    """One query, the mean of the tokens plus a learned vector, attends to itself and to all tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.empty(1, width))
        nn.init.normal_(self.positional_embedding, std=width**-0.5)
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) -> (n, width)."""
        query = x.mean(dim=1, keepdim=True) + self.positional_embedding
        x = torch.cat([query, x], dim=1)
        q, k, v = self._split(self.q_proj(query)), self._split(self.k_proj(x)), self._split(self.v_proj(x))
        scale = (x.shape[-1] // self.heads) ** -0.25  # of both sides: float16 does not overflow so
        weights = torch.einsum("nwq,nwk->nqk", q * scale, k * scale)
        weights = weights.float().softmax(-1).to(x.dtype)
        return torch.einsum("nqk,nwk->nwq", weights, v).reshape(x.shape[0], -1)

    def _split(self, x: Tensor) -> Tensor:
        """(n, tokens, heads * width) -> (n * heads, width, tokens)."""
        n, tokens, width = x.shape
        heads = x.view(n, tokens, self.heads, width // self.heads).transpose(1, 2)
        return heads.reshape(n * self.heads, tokens, -1).transpose(1, 2)
