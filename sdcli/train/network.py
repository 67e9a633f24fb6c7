"""Network: the U-Net called so that gradients flow, and which models can be trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from sdcli.diffusion.conditioning import Cond
from sdcli.models.architectures.attention import TransformerBlock
from sdcli.models.architectures.layers import ResnetBlock
from sdcli.models.model import Model
from sdcli.pipeline.unet import told


def predict(model: Model, x: Tensor, t: Tensor, conds: Sequence[Cond]) -> Tensor:
    """The U-Net's answer (n, 4, h/8, w/8) in float32 for x of unit variance at timesteps t (n,); gradients flow."""
    out: Tensor = model.unet(
        x.to(model.placement.dtype).contiguous(memory_format=torch.channels_last),
        t.float(),
        **told(model, conds),
    )
    return out.float()


def with_sizes(cond: Cond, original: tuple[int, int], crop: tuple[int, int], target: tuple[int, int]) -> Cond:
    """A cond that tells a network with size conditioning (SDXL) of the picture: (height, width), (top, left) each."""
    if cond.pooled is None:
        return cond
    return replace(cond, time_ids=tuple(map(float, (*original, *crop, *target))))


@contextmanager
def gradient_checkpointing(part: str, module: nn.Module) -> Iterator[None]:
    """An adapter of the U-Net: inside, its blocks keep only their inputs, and are calculated again on the way back."""
    blocks = [each for each in module.modules() if isinstance(each, ResnetBlock | TransformerBlock)]
    for block in blocks if part == "unet" else ():
        vars(block)["forward"] = _again(block.forward)
    try:
        yield
    finally:
        for block in blocks:
            vars(block).pop("forward", None)


def _again(forward: object) -> object:
    def call(*arguments: Tensor) -> Tensor:
        out: Tensor = recomputed(forward, *arguments, use_reentrant=False)
        return out

    return call
