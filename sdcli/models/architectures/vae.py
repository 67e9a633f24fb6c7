"""VAE: the autoencoder between pictures and latents, of factor 8 (Stable Diffusion 1, 2, XL) or 4 (x4 upscaler)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sdcli.models.architectures.attention import Attention
from sdcli.models.architectures.layers import (
    ACTIVATIONS,
    Activation,
    Downsample,
    ResnetBlock,
    Upsample,
    activated,
)

EPS = 1e-6  # of all its group norms


class AutoencoderKL(nn.Module):
    """The autoencoder (Rombach et al. 2022). Its latents are not scaled here: the caller applies `scaling_factor`.

    `settings` is a complete config in diffusers' words, as `config.settings` makes it.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        latent = settings["latent_channels"]
        self.encoder = Encoder(settings)
        self.decoder = Decoder(settings)
        if settings["use_quant_conv"]:
            self.quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1)
        if settings["use_post_quant_conv"]:
            self.post_quant_conv = nn.Conv2d(latent, latent, 1)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (n, 3, h, w) in -1 … 1 -> mean and log variance of the latents, each (n, 4, h/8, w/8)."""
        h = self.encoder(x)
        if hasattr(self, "quant_conv"):
            h = self.quant_conv(h)
        mean, logvar = h.chunk(2, dim=1)
        return mean, logvar.clamp(-30.0, 20.0)

    def encode(self, x: Tensor) -> Tensor:
        """Pixels (n, 3, h, w) in -1 … 1 -> the mean of the latents (n, 4, h/8, w/8)."""
        return self.moments(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """Latents (n, 4, h, w) -> pixels (n, 3, 8h, 8w), about -1 … 1, not clamped."""
        if hasattr(self, "post_quant_conv"):
            z = self.post_quant_conv(z)
        pixels: Tensor = self.decoder(z)
        return pixels


class SpatialAttention(Attention):
    """One-headed self-attention over the pixels of a feature map, with a group norm and a shortcut."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__(width, heads=1, bias=True)
        self.group_norm = nn.GroupNorm(groups, width, EPS)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(n, width, h, w) -> the same shape."""
        n, width, height, columns = x.shape
        tokens = self.group_norm(x.view(n, width, height * columns)).transpose(1, 2)
        out = self.processor(self, tokens, context)
        return out.transpose(-1, -2).reshape(n, width, height, columns) + x


class Middle(nn.Module):
    """Two residual blocks with attention between them, at the lowest resolution."""

    def __init__(self, width: int, groups: int, act: Activation, attends: bool) -> None:
        super().__init__()
        resnets = [ResnetBlock(width, width, groups, EPS, act)]
        self.attentions = nn.ModuleList([SpatialAttention(width, groups)] if attends else [])
        self.resnets = nn.ModuleList([*resnets, ResnetBlock(width, width, groups, EPS, act)])

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, h, w) -> the same shape."""
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        out: Tensor = self.resnets[1](x)
        return out


class Level(nn.Module):
    """Residual blocks, then a downsampling or an upsampling on all levels but the last."""

    def __init__(
        self, inputs: int, outputs: int, layers: int, groups: int, act: Activation, resample: str
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock(inputs if i == 0 else outputs, outputs, groups, EPS, act) for i in range(layers)
        )
        if resample == "down":
            self.downsamplers = nn.ModuleList([Downsample(outputs, padding=0)])
        elif resample == "up":
            self.upsamplers = nn.ModuleList([Upsample(outputs)])

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h, w), or half or twice as large."""
        for resnet in self.resnets:
            x = resnet(x)
        for resample in self._resamplers():
            x = resample(x)
        return x

    def _resamplers(self) -> Iterable[nn.Module]:
        for name in ("downsamplers", "upsamplers"):
            yield from getattr(self, name, ())


class Encoder(nn.Module):
    """Pixels to the moments of latents. `act_fn` is for the residual blocks: the last activation is always SiLU."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        widths, groups = list(settings["block_out_channels"]), settings["norm_num_groups"]
        act = ACTIVATIONS[settings["act_fn"]]
        layers = settings["layers_per_block"]
        self.conv_in = nn.Conv2d(settings["in_channels"], widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Level(widths[max(i - 1, 0)], width, layers, groups, act, "down" if i < len(widths) - 1 else "")
            for i, (width, _) in enumerate(zip(widths, settings["down_block_types"], strict=True))
        )
        self.mid_block = Middle(widths[-1], groups, act, bool(settings["mid_block_add_attention"]))
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * settings["latent_channels"], 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, 8, h/8, w/8)."""
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        out: Tensor = self.conv_out(activated(F.silu, self.conv_norm_out(self.mid_block(x))))
        return out


class Decoder(nn.Module):
    """Latents to pixels. `act_fn` is for the residual blocks: the last activation is always SiLU."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        widths, groups = list(settings["block_out_channels"])[::-1], settings["norm_num_groups"]
        act = ACTIVATIONS[settings["act_fn"]]
        layers = settings["layers_per_block"] + 1
        self.conv_in = nn.Conv2d(settings["latent_channels"], widths[0], 3, padding=1)
        self.mid_block = Middle(widths[0], groups, act, bool(settings["mid_block_add_attention"]))
        self.up_blocks = nn.ModuleList(
            Level(widths[max(i - 1, 0)], width, layers, groups, act, "up" if i < len(widths) - 1 else "")
            for i, (width, _) in enumerate(zip(widths, settings["up_block_types"], strict=True))
        )
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], settings["out_channels"], 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """(n, 4, h, w) -> (n, 3, 8h, 8w)."""
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        out: Tensor = self.conv_out(activated(F.silu, self.conv_norm_out(x)))
        return out
