"""Optimizers: AdamW from torch, others from the packages that have them; and how the learning rate goes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib import import_module

import torch
from torch import Tensor

from sdcli.train.settings import OPTIMIZERS

WEIGHT_DECAY = 0.01


def optimizer_of(
    name: str, parameters: Iterable[Tensor], lr: float, decays: bool = True
) -> torch.optim.Optimizer:
    """The optimizer of this name; vectors of words, which have a length of their own, do not decay towards 0."""
    _, module, kind = OPTIMIZERS[name]
    made: torch.optim.Optimizer = getattr(import_module(module), kind)(
        list(parameters), lr=lr, weight_decay=WEIGHT_DECAY if decays else 0.0
    )
    return made


def rate(lr: float, schedule: str, done: int, steps: int) -> float:
    """The learning rate of the next update, after `done` of so many steps."""
    share = done / steps
    falls = {"constant": 1.0, "linear": 1 - share, "cosine": (1 + math.cos(math.pi * share)) / 2}
    return lr * falls[schedule]
