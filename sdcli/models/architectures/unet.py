"""UNet: the noise predictor of Stable Diffusion 1, 2 and XL, conditioned on text through cross-attention."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcli.models.architectures.attention import Transformer
from sdcli.models.architectures.layers import (
    ACTIVATIONS,
    Activation,
    Downsample,
    ResnetBlock,
    Upsample,
    activated,
    per_level,
)
from sdcli.models.architectures.packed import Conv2d, Linear
from sdcli.models.architectures.text_pooling import TextTimeEmbedding

Context = Tensor | Sequence[Tensor]
"""The text states (n, tokens, width): the same for all transformer blocks, or one for each of them in order."""


@dataclass(frozen=True)
class Residuals:
    """What control networks add to a U-Net; what is empty or None adds nothing.

    `down` is added to each skip connection, in the order of the down blocks, and `mid` to the output of the middle
    block, both once the U-Net has computed them (ControlNet). `features` are added on the way down, so that later
    layers see them (T2I-Adapter): one for each down block, and one more for the middle block of a U-Net of three
    levels.
    """

    down: Sequence[Tensor] = ()
    mid: Tensor | None = None
    features: Sequence[Tensor] = ()


class UNetEncoder(nn.Module):
    """The U-Net from its input down to its middle block, which a ControlNet has as well.

    `settings` is a complete config in diffusers' words, as `config.settings` makes it.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        widths = list(settings["block_out_channels"])
        time_width, act = 4 * widths[0], ACTIVATIONS[settings["act_fn"]]
        flip, shift = bool(settings["flip_sin_to_cos"]), float(settings["freq_shift"])
        self.act = act
        self.center_input_sample = bool(settings["center_input_sample"])
        self.conv_in = Conv2d(settings["in_channels"], widths[0], 3, padding=1)
        self.time_proj = Sinusoids(widths[0], flip, shift)
        self.time_embedding = TimeEmbedding(widths[0], time_width, act, settings["time_cond_proj_dim"])
        if settings["num_class_embeds"] is not None:
            self.class_embedding = nn.Embedding(settings["num_class_embeds"], time_width)
        self.pools_text = settings["addition_embed_type"] == "text"
        if self.pools_text:
            heads = settings["addition_embed_type_num_heads"]
            self.add_embedding: nn.Module = TextTimeEmbedding(
                settings["cross_attention_dim"], time_width, heads
            )
        elif settings["addition_embed_type"] == "text_time":
            self.add_time_proj = Sinusoids(settings["addition_time_embed_dim"], flip, shift)
            self.add_embedding = TimeEmbedding(
                settings["projection_class_embeddings_input_dim"], time_width, act
            )
        levels = _levels(settings, time_width, act)
        self.down_blocks = _down_blocks(settings, levels)
        self.mid_block = MidBlock(levels[-1], settings["mid_block_type"], _middle_depth(settings))

    def embed_time(
        self,
        t: Tensor,
        x: Tensor,
        context: Context,
        pooled: Tensor | None = None,
        time_ids: Tensor | None = None,
        class_labels: Tensor | None = None,
        time_cond: Tensor | None = None,
    ) -> Tensor:
        """Everything that is not spatial, as one embedding (n, time_width); t is a scalar or (n,)."""
        steps = self.time_proj(t.expand(x.shape[0])).to(x.dtype)
        time: Tensor = self.time_embedding(steps, time_cond)
        if hasattr(self, "class_embedding"):
            if class_labels is None:
                raise ValueError("this U-Net needs class_labels")
            time = time + self.class_embedding(class_labels).to(x.dtype)
        if hasattr(self, "add_time_proj"):
            if pooled is None or time_ids is None:
                raise ValueError("this U-Net needs the pooled text state and time_ids")
            sizes = self.add_time_proj(time_ids.flatten()).reshape(pooled.shape[0], -1)
            time = time + self.add_embedding(torch.cat([pooled, sizes], -1).to(x.dtype))
        if self.pools_text:
            time = time + self.add_embedding(context if isinstance(context, Tensor) else context[0])
        return time

    def encode(
        self, x: Tensor, time: Tensor, contexts: Iterator[Tensor], features: Sequence[Tensor] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """(output of the middle block, skip connections) from the output of `conv_in`; see Residuals for features."""
        skips = [x]
        for down, feature in zip(
            self.down_blocks, (*features, *[None] * len(self.down_blocks)), strict=False
        ):
            x, more = down(x, time, contexts, feature)
            skips += more
        x = self.mid_block(x, time, contexts)
        if len(features) > len(self.down_blocks):
            x = x + features[len(self.down_blocks)]
        return x, skips


class UNet(UNetEncoder):
    """The conditional U-Net (Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models")."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        widths = list(settings["block_out_channels"])
        levels = _levels(settings, 4 * widths[0], self.act)
        self.up_blocks = _up_blocks(settings, levels)
        self.conv_norm_out = nn.GroupNorm(settings["norm_num_groups"], widths[0], settings["norm_eps"])
        self.conv_out = Conv2d(widths[0], settings["out_channels"], 3, padding=1)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Context,
        *,
        pooled: Tensor | None = None,
        time_ids: Tensor | None = None,
        class_labels: Tensor | None = None,
        time_cond: Tensor | None = None,
        control: Residuals | None = None,
    ) -> Tensor:
        """The prediction (n, out_channels, h, w) for x (n, in_channels, h, w) at timestep t, a scalar or (n,).

        Families with size conditioning (SDXL) take the pooled text state (n, width) and time_ids (n, 5 or 6); the x4
        upscaler takes class_labels (n,), a latent consistency model the embedding of its guidance scale as time_cond
        (n, width). `control` is what control networks add.
        """
        if self.center_input_sample:
            x = 2 * x - 1.0
        control = control or Residuals()
        time = self.embed_time(t, x, context, pooled, time_ids, class_labels, time_cond)
        contexts = repeat(context) if isinstance(context, Tensor) else iter(context)
        x, skips = self.encode(self.conv_in(x), time, contexts, control.features)
        if control.down:
            skips = [skip + residual for skip, residual in zip(skips, control.down, strict=True)]
        if control.mid is not None:
            x = x + control.mid
        for up in self.up_blocks:
            x = up(x, skips, time, contexts)
        out: Tensor = self.conv_out(activated(self.act, self.conv_norm_out(x)))
        return out


class Sinusoids(nn.Module):
    """Numbers as sines and cosines of geometrically spaced frequencies (Ho et al. 2020, as in Vaswani et al. 2017)."""

    def __init__(self, width: int, cosine_first: bool, frequency_shift: float) -> None:
        super().__init__()
        self.width, self.cosine_first, self.frequency_shift = width, cosine_first, frequency_shift

    def forward(self, t: Tensor) -> Tensor:
        """(n,) -> (n, width) float32."""
        half = self.width // 2
        exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device)
        angles = t[:, None].float() * torch.exp(exponent / (half - self.frequency_shift))[None, :]
        parts = [torch.cos(angles), torch.sin(angles)]
        out = torch.cat(parts if self.cosine_first else parts[::-1], -1)
        return F.pad(out, (0, 1)) if self.width % 2 else out


class TimeEmbedding(nn.Module):
    """Two linear layers over sinusoids, to which a projected condition of `cond_width` may be added first."""

    def __init__(self, inputs: int, width: int, act: Activation, cond_width: int | None = None) -> None:
        super().__init__()
        self.act = act
        self.linear_1 = Linear(inputs, width)
        if cond_width is not None:
            self.cond_proj = Linear(cond_width, inputs, bias=False)
        self.linear_2 = Linear(width, width)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """x (n, inputs), cond (n, cond_width) -> (n, width)."""
        if cond is not None:
            x = x + self.cond_proj(cond)
        out: Tensor = self.linear_2(self.act(self.linear_1(x)))
        return out


@dataclass(frozen=True)
class _Level:
    """What the layers of one level have in common, in the down and the up blocks."""

    width: int
    time_width: int
    scales: bool
    groups: int
    eps: float
    act: Activation
    heads: int
    context_width: int
    only_cross: bool
    linear: bool

    def resnet(self, inputs: int, outputs: int) -> ResnetBlock:
        return ResnetBlock(inputs, outputs, self.groups, self.eps, self.act, self.time_width, self.scales)

    def transformer(self, depth: int) -> Transformer:
        return Transformer(
            self.width, self.heads, self.context_width, depth, self.groups, self.linear, self.only_cross
        )


class DownBlock(nn.Module):
    """Residual blocks, each with a transformer if it has a depth, then a downsampling on all levels but the last.

    `depths` are the transformer blocks in the transformer after each residual block; None for no transformer.
    """

    def __init__(self, level: _Level, inputs: int, depths: Sequence[int | None], padding: int | None) -> None:
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(), nn.ModuleList()
        for i, depth in enumerate(depths):
            self.resnets.append(level.resnet(inputs if i == 0 else level.width, level.width))
            if depth is not None:
                self.attentions.append(level.transformer(depth))
        if padding is not None:
            self.downsamplers = nn.ModuleList([Downsample(level.width, padding)])

    def forward(
        self, x: Tensor, time: Tensor, contexts: Iterator[Tensor], feature: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """(the output, the skip connections that the up blocks take).

        `feature` is added behind the last transformer, or behind the whole block if it has none, as T2I-Adapters were
        trained.
        """
        skips = []
        for i, resnet in enumerate(self.resnets):
            x = resnet(x, time)
            if self.attentions:
                x = self.attentions[i](x, contexts)
            skips.append(x)
        if self.attentions and feature is not None:
            x = skips[-1] = x + feature
        if hasattr(self, "downsamplers"):
            x = self.downsamplers[0](x)
            skips.append(x)
        if not self.attentions and feature is not None:
            x = skips[-1] = x + feature
        return x, skips


class MidBlock(nn.Module):
    """The block at the lowest resolution, by `mid_block_type`.

    UNetMidBlock2DCrossAttn: a residual block, a transformer and a second residual block; UNetMidBlock2D: one residual
    block; None: nothing.
    """

    def __init__(self, level: _Level, kind: str | None, depth: int) -> None:
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(), nn.ModuleList()
        if kind is not None:
            self.resnets.append(level.resnet(level.width, level.width))
        if kind == "UNetMidBlock2DCrossAttn":
            level = replace(level, only_cross=False)  # diffusers asks only the levels' own blocks for it
            self.attentions.append(level.transformer(depth))
            self.resnets.append(level.resnet(level.width, level.width))

    def forward(self, x: Tensor, time: Tensor, contexts: Iterator[Tensor]) -> Tensor:
        """(n, width, h, w) -> the same shape."""
        for i, resnet in enumerate(self.resnets):
            if i > 0:
                x = self.attentions[i - 1](x, contexts)
            x = resnet(x, time)
        return x


class UpBlock(nn.Module):
    """Residual blocks over the skip connections, each followed by a transformer if it has a depth, then an upsampling.

    `below` is the width of what comes from below, `skip_width` that of the last skip connection, from the level above.
    """

    def __init__(
        self, level: _Level, below: int, skip_width: int, depths: Sequence[int | None], upsamples: bool
    ) -> None:
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(), nn.ModuleList()
        for i, depth in enumerate(depths):
            inputs = below if i == 0 else level.width
            skip = skip_width if i == len(depths) - 1 else level.width
            self.resnets.append(level.resnet(inputs + skip, level.width))
            if depth is not None:
                self.attentions.append(level.transformer(depth))
        if upsamples:
            self.upsamplers = nn.ModuleList([Upsample(level.width)])

    def forward(self, x: Tensor, skips: list[Tensor], time: Tensor, contexts: Iterator[Tensor]) -> Tensor:
        """Takes its skip connections off the end of `skips`."""
        for i, resnet in enumerate(self.resnets):
            x = resnet(torch.cat([x, skips.pop()], 1), time)
            if self.attentions:
                x = self.attentions[i](x, contexts)
        if hasattr(self, "upsamplers"):
            height, width = skips[-1].shape[2:]
            exact = (height, width) == (2 * x.shape[2], 2 * x.shape[3])
            x = self.upsamplers[0](x, None if exact else (height, width))
        return x


def _levels(settings: Mapping[str, Any], time_width: int, act: Activation) -> list[_Level]:
    """The levels of the U-Net from the highest resolution down."""
    widths = settings["block_out_channels"]
    each = [
        per_level(settings[key], len(widths))
        for key in ("attention_head_dim", "cross_attention_dim", "only_cross_attention")
    ]
    return [
        _Level(
            width=width,
            time_width=time_width,
            scales=settings["resnet_time_scale_shift"] == "scale_shift",
            groups=settings["norm_num_groups"],
            eps=settings["norm_eps"],
            act=act,
            heads=heads,  # diffusers' attention_head_dim is the number of heads, whatever it is called
            context_width=context_width,
            only_cross=bool(only_cross),
            linear=bool(settings["use_linear_projection"]),
        )
        for width, heads, context_width, only_cross in zip(widths, *each, strict=True)
    ]


def _down_blocks(settings: Mapping[str, Any], levels: list[_Level]) -> nn.ModuleList:
    resnets = per_level(settings["layers_per_block"], len(levels))
    depths = per_level(settings["transformer_layers_per_block"], len(levels))
    kinds = per_level(settings["down_block_types"], len(levels))
    blocks = nn.ModuleList()
    for i, level in enumerate(levels):
        depth: list[int | None] = [None] * resnets[i]
        if kinds[i] == "CrossAttnDownBlock2D":
            depth = [*_depths(depths[i], resnets[i])]
        padding = None if i == len(levels) - 1 else settings["downsample_padding"]
        blocks.append(DownBlock(level, levels[max(i - 1, 0)].width, depth, padding))
    return blocks


def _up_blocks(settings: Mapping[str, Any], levels: list[_Level]) -> nn.ModuleList:
    count = len(levels)
    resnets = per_level(settings["layers_per_block"], count)[::-1]
    depths = settings["reverse_transformer_layers_per_block"]
    if depths is None:
        depths = per_level(settings["transformer_layers_per_block"], count)[::-1]
    kinds, upwards = per_level(settings["up_block_types"], count), levels[::-1]
    blocks = nn.ModuleList()
    for i, level in enumerate(upwards):
        layers = resnets[i] + 1
        depth: list[int | None] = [None] * layers
        if kinds[i] == "CrossAttnUpBlock2D":
            depth = [*_depths(depths[i], layers)]
        below, above = upwards[max(i - 1, 0)].width, upwards[min(i + 1, count - 1)].width
        blocks.append(UpBlock(level, below, above, depth, upsamples=i < count - 1))
    return blocks


def _middle_depth(settings: Mapping[str, Any]) -> int:
    depths = per_level(settings["transformer_layers_per_block"], len(settings["block_out_channels"]))
    return _depths(depths[-1], 1)[0]


def _depths(depth: int | Sequence[int], layers: int) -> list[int]:
    """The number of transformer blocks behind each of so many residual blocks."""
    if isinstance(depth, int):
        return [depth] * layers
    if len(depth) < layers:
        raise ValueError(f"transformer_layers_per_block has {len(depth)} depths for {layers} layers")
    return list(depth)[:layers]
