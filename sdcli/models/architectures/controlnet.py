"""ControlNet: a copy of the U-Net's encoder that sees a picture, the hint, and what it adds to the U-Net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcli.models.architectures.layers import ACTIVATIONS, per_level
from sdcli.models.architectures.unet import Residuals, Sinusoids, TimeEmbedding, UNetEncoder


class ControlNet(UNetEncoder):
    """ControlNet (Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models").

    `settings` are those of a U-Net, and `hint_channels`, the widths of the hint's encoder.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        first = settings["block_out_channels"][0]
        self.controlnet_cond_embedding = HintEncoder(
            settings["conditioning_channels"], settings["hint_channels"], first
        )
        widths = [first, *_skip_widths(settings)]
        self.controlnet_down_blocks = nn.ModuleList([nn.Conv2d(width, width, 1) for width in widths])
        last = settings["block_out_channels"][-1]
        self.controlnet_mid_block = nn.Conv2d(last, last, 1)

    def encode_hint(self, hint: Tensor) -> Tensor:
        """The hint (1, 3, 8h, 8w) in 0 … 1 as features (1, width, h, w), the same at every step of a run."""
        out: Tensor = self.controlnet_cond_embedding(hint)
        return out

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        hint: Tensor,
        *,
        pooled: Tensor | None = None,
        time_ids: Tensor | None = None,
    ) -> Residuals:
        """What is added to the U-Net for its x (n, 4, h, w), t and text; `hint` is what `encode_hint` made."""
        x = 2 * x - 1.0 if self.center_input_sample else x
        time = self.embed_time(t, x, context, pooled, time_ids)
        x, skips = self.encode(self.conv_in(x) + hint, time, repeat(context))
        down = [conv(skip) for conv, skip in zip(self.controlnet_down_blocks, skips, strict=True)]
        return Residuals(down, self.controlnet_mid_block(x))


def _skip_widths(settings: Mapping[str, Any]) -> list[int]:
    """The widths of the skip connections of each level."""
    widths = list(settings["block_out_channels"])
    layers = per_level(settings["layers_per_block"], len(widths))
    own = [[width] * (layers[i] + (i < len(widths) - 1)) for i, width in enumerate(widths)]
    return [width for level in own for width in level]


class HintEncoder(nn.Module):
    """Eight convolutions that bring a picture to the size of the latents."""

    def __init__(self, channels: int, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for width, wider in pairwise(widths):
            self.blocks.append(nn.Conv2d(width, width, 3, padding=1))
            self.blocks.append(nn.Conv2d(width, wider, 3, padding=1, stride=2))
        self.conv_out = nn.Conv2d(widths[-1], outputs, 3, padding=1)

    def forward(self, hint: Tensor) -> Tensor:
        """(n, channels, 8h, 8w) -> (n, outputs, h, w)."""
        x = F.silu(self.conv_in(hint))
        for conv in self.blocks:
            x = F.silu(conv(x))
        out: Tensor = self.conv_out(x)
        return out


class ControlNetUnion(ControlNet):
    """A ControlNet for several kinds of hints (xinsir's ControlNet++ for SDXL), which is told the kind.

    `settings` hold `control_types`, the number of kinds, as well. The published model attends from one picture of a
    batch to the others, not from one token to the others: it was trained so. All rows of a call have the same hint,
    so each token attends to copies of itself, and what it gets is its own value.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        width, act = settings["block_out_channels"][0], ACTIVATIONS[settings["act_fn"]]
        types, type_width = settings["control_types"], settings["addition_time_embed_dim"]
        self.task_embedding = nn.Parameter(torch.zeros(types, width))
        self.transformer_layes = nn.ModuleList([_HintBlock(width)])  # spelt as in its files
        self.spatial_ch_projs = nn.Linear(width, width)
        flip, shift = bool(settings["flip_sin_to_cos"]), float(settings["freq_shift"])
        self.control_type_proj = Sinusoids(type_width, flip, shift)
        self.control_add_embedding = TimeEmbedding(types * type_width, 4 * width, act)
        self.control_type = 0
        """The kind of the hint: set before a run, read by `encode_hint` and `embed_time`."""

    def encode_hint(self, hint: Tensor) -> Tensor:
        """As a ControlNet's, plus a number for each channel that depends on the whole hint and its kind."""
        features = super().encode_hint(hint)
        token = features.mean((2, 3)) + self.task_embedding[self.control_type]
        for layer in self.transformer_layes:
            token = layer(token)
        shift: Tensor = self.spatial_ch_projs(token)
        return features + shift[:, :, None, None]

    def embed_time(
        self, t: Tensor, x: Tensor, context: Any, *more: Tensor | None, **named: Tensor | None
    ) -> Tensor:
        """As a U-Net's, with the kind of the hint in it."""
        types = torch.zeros(self.task_embedding.shape[0], device=x.device)
        types[self.control_type] = 1
        told: Tensor = self.control_type_proj(types).reshape(1, -1).to(x.dtype)
        kind: Tensor = self.control_add_embedding(told)
        return super().embed_time(t, x, context, *more, **named) + kind


class _HintBlock(nn.Module):
    """A transformer block over one token: its attention returns the token's own value."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = _OwnValue(width)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width) -> (n, width)."""
        x = x + self.attn(self.ln_1(x))
        inner = self.mlp["c_fc"](self.ln_2(x))
        out: Tensor = x + self.mlp["c_proj"](inner * torch.sigmoid(1.702 * inner))
        return out


class _OwnValue(nn.Module):
    """The tensors of a torch.nn.MultiheadAttention; q and k, the first two thirds of `in_proj`, are not read."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        value = F.linear(x, self.in_proj_weight.chunk(3)[2], self.in_proj_bias.chunk(3)[2])
        out: Tensor = self.out_proj(value)
        return out
