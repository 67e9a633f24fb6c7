"""MiDaS's DPT-hybrid, written out from the paper (arXiv 2103.13413) with plain tensors under their published names."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

VIT = "pretrained.model."
RESNET = VIT + "patch_embed.backbone."


def depth(w: Mapping[str, Tensor], x: Tensor, heads: int, groups: int) -> Tensor:
    """Pixels (1, 3, h, w) in -1 … 1 -> depth (1, 1, h, w)."""
    coarse, fine = _resnet(w, x, groups), []
    for i, feature in enumerate([*coarse[:2], *_transformer(w, coarse[2], heads)]):
        fine.append(F.conv2d(feature, w[f"scratch.layer{i + 1}_rn.weight"], padding=1))
    path = None
    for i in (4, 3, 2, 1):
        path = _fused(w, f"scratch.refinenet{i}.", path, fine[i - 1])
    out = _doubled(_conv(w, "scratch.output_conv.0", path))
    out = _conv(w, "scratch.output_conv.2", out).relu()
    return _conv(w, "scratch.output_conv.4", out).relu()


def _resnet(w: Mapping[str, Tensor], x: Tensor, groups: int) -> list[Tensor]:
    """The outputs of three stages of bottleneck blocks, with standardised weights and TensorFlow's "same" padding."""

    def unit(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        kernel = w[RESNET + conv + ".weight"]
        variance, mean = torch.var_mean(kernel, (1, 2, 3), correction=0, keepdim=True)
        x = F.conv2d(
            _padded(x, kernel.shape[-1], stride), (kernel - mean) / (variance + 1e-8).sqrt(), None, stride
        )
        return F.group_norm(x, groups, w[RESNET + norm + ".weight"], w[RESNET + norm + ".bias"])

    x = unit(x, "stem.conv", "stem.norm", 2).relu()
    x = F.max_pool2d(_padded(x, 3, 2), 3, 2)
    stages = []
    for stage in range(3):
        block = 0
        while f"{RESNET}stages.{stage}.blocks.{block}.conv1.weight" in w:
            at, stride = f"stages.{stage}.blocks.{block}.", 2 if stage > 0 and block == 0 else 1
            shortcut = unit(x, at + "downsample.conv", at + "downsample.norm", stride) if block == 0 else x
            y = unit(x, at + "conv1", at + "norm1").relu()
            y = unit(y, at + "conv2", at + "norm2", stride).relu()
            x = (unit(y, at + "conv3", at + "norm3") + shortcut).relu()
            block += 1
        stages.append(x)
    return stages


def _transformer(w: Mapping[str, Tensor], x: Tensor, heads: int) -> list[Tensor]:
    """The states after layers 9 and 12 as feature maps; each token is projected together with the class token."""
    x = _conv(w, VIT + "patch_embed.proj", x).flatten(2).mT
    x = torch.cat([w[VIT + "cls_token"], x], 1) + w[VIT + "pos_embed"]
    features = []
    for i in range(12):
        at = f"{VIT}blocks.{i}."
        q, k, v = (
            _linear(w, at + "attn.qkv", _norm(w, at + "norm1", x)).unflatten(2, (3, heads, -1)).unbind(2)
        )
        logits = torch.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
        x = x + _linear(
            w, at + "attn.proj", torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), v).flatten(2)
        )
        x = x + _linear(w, at + "mlp.fc2", F.gelu(_linear(w, at + "mlp.fc1", _norm(w, at + "norm2", x))))
        if i in (8, 11):
            at = f"pretrained.act_postprocess{3 if i == 8 else 4}."
            both = torch.cat([x[:, 1:], x[:, :1].expand(-1, x.shape[1] - 1, -1)], -1)
            read = F.gelu(_linear(w, at + "0.project.0", both)).mT
            side = round(read.shape[2] ** 0.5)
            features.append(_conv(w, at + "3", read.unflatten(2, (side, side))))
    features[1] = _conv(w, "pretrained.act_postprocess4.4", features[1], 2)
    return features


def _fused(w: Mapping[str, Tensor], at: str, path: Tensor | None, feature: Tensor) -> Tensor:
    def unit(which: str, x: Tensor) -> Tensor:
        y = _conv(w, f"{at}{which}.conv1", x.relu())
        return x + _conv(w, f"{at}{which}.conv2", y.relu())

    total = feature if path is None else path + unit("resConfUnit1", feature)
    return _conv(w, at + "out_conv", _doubled(unit("resConfUnit2", total)))


def _padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Padded so that each side of the output is ceil(side / stride); the odd pixel goes to the end."""
    pads = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in (x.shape[3], x.shape[2])]
    return F.pad(x, [part for pad in pads for part in (pad // 2, pad - pad // 2)])


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def _conv(w: Mapping[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    kernel = w[name + ".weight"]
    return F.conv2d(x, kernel, w[name + ".bias"], stride, kernel.shape[-1] // 2)


def _linear(w: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[name + ".weight"], w[name + ".bias"])


def _norm(w: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], 1e-6)
