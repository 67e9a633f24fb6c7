"""TAESD: the tiny autoencoder, a fast and small stand-in for the VAE; it takes latents as the U-Net gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "mish": nn.Mish,
    "gelu": nn.GELU,
}


class AutoencoderTiny(nn.Module):
    """Ollin Boer Bohan's TAESD: plain convolutions and residual blocks without norms or attention.

    `settings` is a complete config in diffusers' words, as `config.settings` makes it.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        act = ACTIVATIONS[settings["act_fn"]]
        self.encoder = Encoder(settings, act)
        self.decoder = Decoder(settings, act)

    def encode(self, x: Tensor) -> Tensor:
        """Pixels (n, 3, h, w) in -1 … 1 -> latents (n, 4, h/8, w/8)."""
        latents: Tensor = self.encoder.layers(x.add(1).div(2))
        return latents

    def decode(self, z: Tensor) -> Tensor:
        """Latents (n, 4, h, w) -> pixels (n, 3, 8h, 8w), about -1 … 1, not clamped; latents beyond 3 are squeezed."""
        pixels: Tensor = self.decoder.layers(torch.tanh(z / 3) * 3)
        return pixels.mul(2).sub(1)


class Block(nn.Module):
    """Three convolutions with a shortcut around them."""

    def __init__(self, width: int, act: type[nn.Module]) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(convolutions[0], act(), convolutions[1], act(), convolutions[2])
        self.fuse = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, h, w) -> the same shape."""
        out: Tensor = self.fuse(self.conv(x) + x)
        return out


class Encoder(nn.Module):
    """A convolution and blocks for each level; all levels but the first halve the picture."""

    def __init__(self, settings: Mapping[str, Any], act: type[nn.Module]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = settings["encoder_block_out_channels"]
        for i, (width, blocks) in enumerate(zip(widths, settings["num_encoder_blocks"], strict=True)):
            if i == 0:
                layers.append(nn.Conv2d(settings["in_channels"], width, 3, padding=1))
            else:
                layers.append(nn.Conv2d(width, width, 3, padding=1, stride=2, bias=False))
            layers += [Block(width, act) for _ in range(blocks)]
        layers.append(nn.Conv2d(widths[-1], settings["latent_channels"], 3, padding=1))
        self.layers = nn.Sequential(*layers)


class Decoder(nn.Module):
    """Blocks and a convolution for each level; all levels but the last double the picture."""

    def __init__(self, settings: Mapping[str, Any], act: type[nn.Module]) -> None:
        super().__init__()
        widths, counts = settings["decoder_block_out_channels"], settings["num_decoder_blocks"]
        layers: list[nn.Module] = [nn.Conv2d(settings["latent_channels"], widths[0], 3, padding=1), act()]
        for i, (width, blocks) in enumerate(zip(widths, counts, strict=True)):
            layers += [Block(width, act) for _ in range(blocks)]
            if i < len(widths) - 1:
                layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
                layers.append(nn.Conv2d(width, width, 3, padding=1, bias=False))
            else:
                layers.append(nn.Conv2d(width, settings["out_channels"], 3, padding=1))
        self.layers = nn.Sequential(*layers)
