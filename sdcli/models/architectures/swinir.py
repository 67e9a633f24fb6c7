"""SwinIR: a transformer that enlarges a picture in one pass, by attention inside windows of its pixels.

Liang et al. 2021, https://arxiv.org/abs/2108.10257. Planes are RGB, 0 … 1, as (n, 3, h, w); results may go a little
beyond that range. Between the convolutions, pixels are (n, h, w, width).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COLOURS = 3
MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of the pictures that all the published networks were trained on, DIV2K's."""
SLOPE = 0.2  # of the leaky ReLUs, but for the one before the picture is enlarged
MASKED = (
    -100.0
)  # added to the attention between parts of a shifted window that are no neighbours in the picture
JPEG_WINDOW, JPEG_RANGE = 7, 255.0
"""The networks against JPEG's artefacts alone have this window, and see values up to this."""


class WindowAttention(nn.Module):
    """Self-attention of the pixels of a window, with a learnt bias for each distance; section III.B, equation 4."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(windows, window², width) -> the same shape; `mask` is (windows, 1, window², window²)."""
        windows, pixels, width = x.shape
        q, k, v = self.qkv(x).reshape(windows, pixels, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        index = relative_positions(self.window).to(x.device)
        bias = self.relative_position_bias_table[index].permute(2, 0, 1)[None]
        bias = bias if mask is None else bias + mask
        attended = F.scaled_dot_product_attention(q, k, v, bias)
        result: Tensor = self.proj(attended.transpose(1, 2).reshape(windows, pixels, width))
        return result


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) -> the same shape."""
        result: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return result


class SwinBlock(nn.Module):
    """A layer of Swin: attention in windows, which every second layer shifts by half a window, and an MLP."""

    def __init__(self, width: int, heads: int, window: int, hidden: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(n, h, w, width), whose sides are multiples of the window -> the same shape."""
        height, width = x.shape[1:3]
        y = self.norm1(x)
        if self.shift:
            y = y.roll((-self.shift, -self.shift), (1, 2))
        y = self.attn(split(y, self.window), mask.repeat(len(x), 1, 1, 1) if self.shift else None)
        y = join(y, self.window, height, width)
        if self.shift:
            y = y.roll((self.shift, self.shift), (1, 2))
        x = x + y
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class ResidualGroup(nn.Module):
    """The layers of Swin in one residual block."""

    def __init__(self, depth: int, width: int, heads: int, window: int, hidden: int) -> None:
        super().__init__()
        shifts = [i % 2 * (window // 2) for i in range(depth)]
        self.blocks = nn.ModuleList(SwinBlock(width, heads, window, hidden, shift) for shift in shifts)


class RSTB(nn.Module):
    """Residual Swin transformer block: layers of Swin, a convolution, and a residual connection round them."""

    def __init__(
        self, depth: int, width: int, heads: int, window: int, hidden: int, three_convs: bool
    ) -> None:
        super().__init__()
        self.residual_group = ResidualGroup(depth, width, heads, window, hidden)
        self.conv = _after(width, three_convs)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(n, h, w, width) -> the same shape."""
        y = x
        for block in self.residual_group.blocks:
            y = block(y, mask)
        added: Tensor = self.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + added


class PatchEmbed(nn.Module):
    """The norm of the pixels before the first block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)


class SwinIR(nn.Module):
    """SwinIR of any of its four published ends.

    `upsampler` is pixelshuffle (classical), pixelshuffledirect (lightweight), nearest+conv (real-world), or empty for a
    network that does not enlarge. `depths` and `heads` are those of each residual block, `hidden` is the width inside
    the MLPs, `features` the width while the picture is enlarged.
    """

    def __init__(
        self,
        depths: Sequence[int],
        heads: Sequence[int],
        width: int,
        window: int,
        hidden: int,
        upsampler: str,
        scale: int,
        features: int,
        three_convs: bool,
    ) -> None:
        super().__init__()
        self.unshuffle, self.factor, self.grid = 1, scale, window
        self.upsampler = upsampler
        self.range = JPEG_RANGE if window == JPEG_WINDOW else 1.0
        self.conv_first = _convolution(COLOURS, width)
        self.patch_embed = PatchEmbed(width)
        self.layers = nn.ModuleList(
            RSTB(depth, width, number, window, hidden, three_convs)
            for depth, number in zip(depths, heads, strict=True)
        )
        self.norm = nn.LayerNorm(width)
        self.conv_after_body = _after(width, three_convs)
        if upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(_convolution(width, COLOURS * scale**2), nn.PixelShuffle(scale))
            return
        if upsampler:
            self.conv_before_upsample = nn.Sequential(_convolution(width, features), nn.LeakyReLU())
        if upsampler == "pixelshuffle":
            self.upsample = nn.Sequential(*_shuffles(features, scale))
        elif upsampler:
            for i in range(scale.bit_length() - 1):
                self.add_module(f"conv_up{i + 1}", _convolution(features, features))
            self.conv_hr = _convolution(features, features)
        self.conv_last = _convolution(features if upsampler else width, COLOURS)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, 3, h * factor, w * factor); mirrored at the right and bottom to whole windows."""
        height, width = x.shape[-2:]
        mean = torch.tensor(MEAN, dtype=x.dtype, device=x.device)[:, None, None]
        x = (padded(x, self.grid) - mean) * self.range
        first = self.conv_first(x)
        y = self._enlarged(self.conv_after_body(self._body(first)) + first)
        y = (y if self.upsampler else x + y) / self.range + mean
        return y[..., : height * self.factor, : width * self.factor]

    def _body(self, x: Tensor) -> Tensor:
        """The residual blocks: (n, width, h, w) -> the same shape."""
        mask = shifted_mask(x.shape[-2], x.shape[-1], self.grid).to(x)
        y = self.patch_embed.norm(x.permute(0, 2, 3, 1))
        for layer in self.layers:
            y = layer(y, mask)
        result: Tensor = self.norm(y).permute(0, 3, 1, 2)
        return result

    def _enlarged(self, y: Tensor) -> Tensor:
        """Features (n, width, h, w) -> colours (n, 3, h * factor, w * factor)."""
        if self.upsampler == "pixelshuffledirect":
            result: Tensor = self.upsample(y)
            return result
        if self.upsampler:
            y = self.conv_before_upsample(y)
        if self.upsampler == "pixelshuffle":
            y = self.upsample(y)
        elif self.upsampler:
            for i in range(self.factor.bit_length() - 1):
                y = F.interpolate(y, scale_factor=2, mode="nearest")
                y = F.leaky_relu(self.get_submodule(f"conv_up{i + 1}")(y), SLOPE)
            y = F.leaky_relu(self.conv_hr(y), SLOPE)
        last: Tensor = self.conv_last(y)
        return last


# --- windows


def padded(x: Tensor, window: int) -> Tensor:
    """x, mirrored at the right and bottom until its sides are multiples of the window; repeated if it is too small."""
    right, below = -x.shape[-1] % window, -x.shape[-2] % window
    mode = "reflect" if right < x.shape[-1] and below < x.shape[-2] else "replicate"
    return F.pad(x, (0, right, 0, below), mode=mode)


def split(x: Tensor, window: int) -> Tensor:
    """(n, h, w, width) -> (n * windows, window², width), row by row."""
    n, height, across, width = x.shape
    x = x.reshape(n, height // window, window, across // window, window, width)
    return x.transpose(2, 3).reshape(-1, window**2, width)


def join(x: Tensor, window: int, height: int, width: int) -> Tensor:
    """The inverse of `split` for planes of this height and width."""
    x = x.reshape(-1, height // window, width // window, window, window, x.shape[-1])
    return x.transpose(2, 3).reshape(x.shape[0], height, width, x.shape[-1])


@functools.lru_cache(4)
def relative_positions(window: int) -> Tensor:
    """(window², window²): for two pixels of a window, the row of the bias table that their distance has."""
    rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    down, across = (each.flatten()[:, None] - each.flatten() + window - 1 for each in (rows, columns))
    return down * (2 * window - 1) + across


@functools.lru_cache(4)
def shifted_mask(height: int, width: int, window: int) -> Tensor:
    """(windows, 1, window², window²): what is added to the attention in shifted windows.

    A shift wraps the plane round; pixels that come from its opposite edges must not see each other.
    """
    rows, columns = (_edges(length, window) for length in (height, width))
    parts = split((3 * rows[:, None] + columns)[None, ..., None].float(), window)[..., 0]
    return ((parts[:, None, :] != parts[:, :, None]) * MASKED)[:, None]


def _edges(length: int, window: int) -> Tensor:
    """0 along an axis, 1 in the last window, 2 in that part of it that a shift brings from the other edge."""
    positions = torch.arange(length)
    return (positions >= length - window).int() + (positions >= length - window // 2).int()


# --- convolutions


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _after(width: int, three_convs: bool) -> nn.Module:
    """The convolution behind a block, or three that are narrower, of the large network."""
    if not three_convs:
        return _convolution(width, width)
    narrow = width // 4
    return nn.Sequential(
        _convolution(width, narrow),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(narrow, narrow, 1),
        nn.LeakyReLU(SLOPE),
        _convolution(narrow, width),
    )


def _shuffles(features: int, scale: int) -> list[nn.Module]:
    """Convolutions whose channels become pixels: one for 3 times, else one for each doubling."""
    steps = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
    return [
        each for side in steps for each in (_convolution(features, features * side**2), nn.PixelShuffle(side))
    ]
