"""Perturb: a U-Net whose middle self-attention is replaced by the identity for a while, so that it loses structure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from sdcli.errors import ModelError
from sdcli.models.architectures.attention import Attention
from sdcli.models.architectures.unet import UNet


@contextmanager
def perturbed(unet: UNet, enabled: bool = True) -> Iterator[None]:
    """While inside, each token of the middle block attends to itself alone (Ahn et al. 2024, "PAG", section 4.1).

    Raises ModelError for a network without self-attention in its middle block.
    """
    blocks = [each for each in unet.mid_block.modules() if hasattr(each, "attn1")] if enabled else []
    attentions: list[Any] = [block.attn1 for block in blocks]
    if enabled and not attentions:
        raise ModelError(
            "this network has no self-attention in its middle; choose another --guidance than pag"
        )
    before = [attention.processor for attention in attentions]
    try:
        for attention in attentions:
            attention.processor = _attend_to_itself
        yield
    finally:
        for attention, processor in zip(attentions, before, strict=True):
            attention.processor = processor


def _attend_to_itself(attention: Attention, x: Tensor, context: Tensor | None) -> Tensor:
    """Attention whose matrix is the identity: only the value and output projections are left."""
    out: Tensor = attention.to_out[0](attention.to_v(x))
    return out
