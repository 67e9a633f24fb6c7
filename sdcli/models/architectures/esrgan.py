"""ESRGAN: networks that enlarge a picture in one pass, without diffusion.

Planes are RGB, 0 … 1, as (n, 3, h, w); results may go a little beyond that range.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COLOURS = 3
SLOPE = 0.2  # of the leaky ReLUs
RESIDUAL = 0.2  # share of what a dense block, and three of them together, add to their input


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees the input and the results of those before it; ESRGAN's figure 4."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv1 = _convolution(width, growth)
        self.conv2 = _convolution(width + growth, growth)
        self.conv3 = _convolution(width + 2 * growth, growth)
        self.conv4 = _convolution(width + 3 * growth, growth)
        self.conv5 = _convolution(width + 4 * growth, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, h, w) -> the same shape."""
        seen = x
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat((seen, _leaky(convolution(seen))), 1)
        added: Tensor = self.conv5(seen)
        return x + RESIDUAL * added


class RRDB(nn.Module):
    """Residual in residual dense block: three dense blocks and a residual connection round them."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(width, growth)
        self.rdb2 = DenseBlock(width, growth)
        self.rdb3 = DenseBlock(width, growth)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, h, w) -> the same shape."""
        added: Tensor = self.rdb3(self.rdb2(self.rdb1(x)))
        return x + RESIDUAL * added


class RRDBNet(nn.Module):
    """ESRGAN's generator (https://arxiv.org/abs/1809.00219), also Real-ESRGAN's (https://arxiv.org/abs/2107.10833).

    `factor` is how many times larger the result is than the input, which has `unshuffle`² pixels in its channels.
    """

    def __init__(self, blocks: int, width: int, growth: int, upconvs: int, unshuffle: int) -> None:
        super().__init__()
        self.unshuffle, self.factor, self.grid = unshuffle, 2**upconvs, 1
        self.upconvs = upconvs
        self.conv_first = _convolution(COLOURS * unshuffle**2, width)
        self.body = nn.Sequential(*(RRDB(width, growth) for _ in range(blocks)))
        self.conv_body = _convolution(width, width)
        for i in range(upconvs):
            self.add_module(f"conv_up{i + 1}", _convolution(width, width))
        self.conv_hr = _convolution(width, width)
        self.conv_last = _convolution(width, COLOURS)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3 * unshuffle², h, w) -> (n, 3, h * factor, w * factor)."""
        first = self.conv_first(x)
        x = first + self.conv_body(self.body(first))
        for i in range(self.upconvs):
            enlarged = F.interpolate(x, scale_factor=2, mode="nearest")
            x = _leaky(self.get_submodule(f"conv_up{i + 1}")(enlarged))
        result: Tensor = self.conv_last(_leaky(self.conv_hr(x)))
        return result


class SRVGGNetCompact(nn.Module):
    """Real-ESRGAN's small network: plain convolutions whose result is added to the input's nearest enlargement."""

    def __init__(self, blocks: int, width: int, scale: int) -> None:
        super().__init__()
        self.unshuffle, self.factor, self.grid = 1, scale, 1
        layers: list[nn.Module] = [_convolution(COLOURS, width), nn.PReLU(width)]
        for _ in range(blocks):
            layers += [_convolution(width, width), nn.PReLU(width)]
        self.body = nn.Sequential(*layers, _convolution(width, COLOURS * scale**2))

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, 3, h * factor, w * factor)."""
        added = F.pixel_shuffle(self.body(x), self.factor)
        return added + F.interpolate(x, scale_factor=self.factor, mode="nearest")


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)
