"""Attention, and the transformer blocks in which image tokens attend to each other and to the text."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcli.models.architectures.packed import Conv2d, Linear

BLOCK = 2**21
"""Scores that are held at once, so that they stay in the caches of a CPU."""

WIDE_BLOCK = 5 * 2**20
"""Values of a feed-forward layer that are held at once, likewise."""

Processor = Callable[["Attention", Tensor, Tensor | None], Tensor]
"""(attention, x (n, tokens, width), context (n, text tokens, text width) or None) -> (n, tokens, width)."""


class Attention(nn.Module):
    """Multi-head attention. `processor` computes it: the one place where adapters change what an attention does."""

    def __init__(self, width: int, heads: int, context_width: int | None = None, bias: bool = False) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.to_q = Linear(width, width, bias=bias)
        self.to_k = Linear(context_width or width, width, bias=bias)
        self.to_v = Linear(context_width or width, width, bias=bias)
        self.to_out = nn.ModuleList([Linear(width, width)])
        self.processor: Processor = attend

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x attends to the context, or to itself if there is none."""
        return self.processor(self, x, context)


def attend(attention: Attention, x: Tensor, context: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1), the default processor."""
    source = x if context is None else context
    q = split_heads(attention.to_q(x), attention.heads)
    out: Tensor = attention.to_out[0](join_heads(attend_heads(attention, q, source)))
    return out


def attend_heads(attention: Attention, q: Tensor, source: Tensor) -> Tensor:
    """Queries (n, heads, tokens, width) over the source's keys and values -> the same shape, not yet projected."""
    k = split_heads(attention.to_k(source), attention.heads)
    v = split_heads(attention.to_v(source), attention.heads)
    return softmax_attention(q, k, v)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(width)) v: q (n, heads, tokens, width), k and v (n, heads, text tokens, width) -> as q.

    In bfloat16 on a CPU it is calculated in blocks, which takes half of the time of torch's own.
    """
    if not works_in_blocks(q):
        return F.scaled_dot_product_attention(q, k, v)
    n, heads, tokens, width = q.shape
    out = q.new_empty(n, tokens, heads, width).transpose(1, 2)  # lies in memory as `join_heads` gives it
    q, k = (each.reshape(n * heads, -1, width) for each in (q, k))
    # a width that is no multiple of 16 (Stable Diffusion 1 has 40) makes the last product a quarter slower
    v = F.pad(v, (0, -width % 16)).reshape(n * heads, k.shape[1], -1)
    lines = BLOCK // k.shape[1]
    together, rows = max(1, min(heads, lines // tokens)), max(1, min(tokens, lines))
    scores = q.new_empty(together, rows, k.shape[1])
    for picture in range(n):
        for head in range(0, heads, together):
            some = slice(picture * heads + head, picture * heads + min(heads, head + together))
            for start in range(0, tokens, rows):
                part = q[some, start : start + rows]
                own = scores[: part.shape[0], : part.shape[1]]
                torch.baddbmm(own, part, k[some].transpose(1, 2), beta=0, alpha=width**-0.5, out=own)
                torch.softmax(own, -1, out=own)
                weighted = torch.bmm(own, v[some])[..., :width]
                out[picture, head : head + len(part), start : start + rows] = weighted
    return out


def works_in_blocks(x: Tensor) -> bool:
    """True for bfloat16 on a CPU, where blocks that fit into its caches are faster and give the same bytes."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and not torch.is_grad_enabled()


def check_heads(width: int, heads: int) -> None:
    """Raise ValueError if so many heads do not divide the width."""
    if heads < 1 or width % heads:
        raise ValueError(f"{heads} attention heads do not divide a width of {width}")


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(n, tokens, heads * width) -> (n, heads, tokens, width)."""
    return x.view(x.shape[0], -1, heads, x.shape[-1] // heads).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(n, heads, tokens, width) -> (n, tokens, heads * width)."""
    return x.transpose(1, 2).reshape(x.shape[0], -1, x.shape[1] * x.shape[3])


class GEGLU(nn.Module):
    """A linear layer gated by another one (Shazeer 2020, "GLU Variants Improve Transformer")."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = Linear(inputs, 2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(…, inputs) -> (…, outputs)."""
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    """Two linear layers of four times the width, the first one gated."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([GEGLU(width, 4 * width), nn.Identity(), Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) -> the same shape."""
        if not works_in_blocks(x):
            return self._whole(x)
        rows = max(1, WIDE_BLOCK // (8 * x.shape[-1]))
        parts = torch.split(x.flatten(0, 1), rows)
        return torch.cat([self._whole(part) for part in parts]).view(x.shape)

    def _whole(self, x: Tensor) -> Tensor:
        out: Tensor = self.net[2](self.net[0](x))
        return out


class TransformerBlock(nn.Module):
    """Self-attention (attn1), cross-attention to the text (attn2) and a feed-forward layer, each with a layer norm.

    `only_cross` makes attn1 attend to the text too, as in the x4 upscaler.
    """

    def __init__(self, width: int, heads: int, context_width: int, only_cross: bool) -> None:
        super().__init__()
        self.only_cross = only_cross
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, heads, context_width if only_cross else None)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = Attention(width, heads, context_width)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (n, tokens, width), context (n, text tokens, context_width) -> the shape of x."""
        x = self.attn1(self.norm1(x), context if self.only_cross else None) + x
        x = self.attn2(self.norm2(x), context) + x
        out: Tensor = self.ff(self.norm3(x)) + x
        return out


class Transformer(nn.Module):
    """Transformer blocks over the pixels of a feature map, between two projections, with a shortcut around them."""

    def __init__(
        self,
        width: int,
        heads: int,
        context_width: int,
        depth: int,
        groups: int,
        linear: bool,
        only_cross: bool,
    ) -> None:
        super().__init__()
        self.linear = linear  # projections as linear layers, not as 1x1 convolutions
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.proj_in: nn.Module = Linear(width, width) if linear else Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(width, heads, context_width, only_cross) for _ in range(depth)
        )
        self.proj_out: nn.Module = Linear(width, width) if linear else Conv2d(width, width, 1)

    def forward(self, x: Tensor, contexts: Iterator[Tensor]) -> Tensor:
        """x (n, width, h, w) -> the same shape; each block takes the next context."""
        n, width, height, columns = x.shape
        h: Tensor = self.norm(x)
        if not self.linear:
            h = self.proj_in(h)
        h = h.permute(0, 2, 3, 1).reshape(n, height * columns, width)
        if self.linear:
            h = self.proj_in(h)
        for block in self.transformer_blocks:
            h = block(h, next(contexts))
        if self.linear:
            h = self.proj_out(h)
        h = h.reshape(n, height, columns, width).permute(0, 3, 1, 2).contiguous()
        if not self.linear:
            h = self.proj_out(h)
        return h + x
