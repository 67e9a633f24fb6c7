"""Perturb: a U-Net whose middle self-attention is cut for a while, so that it paints without structure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from sdcli.errors import ModelError


@contextmanager
def perturbed(net: Any, really: bool = True) -> Iterator[None]:
    """While inside, each place of the middle block attends to itself alone (Ahn et al. 2024, "PAG", section 4.1)."""
    seats = [each.attn1 for each in net.mid_block.modules() if hasattr(each, "attn1")] if really else []
    if really and not seats:
        raise ModelError(
            "this network has no self-attention in its middle; choose another --guidance than pag"
        )
    before = [seat.processor for seat in seats]
    try:
        for seat in seats:
            seat.processor = _itself
        yield
    finally:
        for seat, processor in zip(seats, before, strict=True):
            seat.processor = processor


def _itself(attention: Any, states: Tensor, *_: Any, **__: Any) -> Tensor:
    """Attention whose matrix is the identity: value and output projections only."""
    out: Tensor = attention.to_out[1](attention.to_out[0](attention.to_v(states)))
    return out
