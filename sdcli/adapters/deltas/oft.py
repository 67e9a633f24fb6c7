"""OFT: rotations of blocks of a layer's outputs or inputs (Qiu et al. 2023, "Controlling Text-to-Image Diffusion")."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def oft(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """LyCORIS' diag-oft, and kohya's: each block of outputs is turned by Rᵀ, then all are scaled by `rescale`."""
    rotations = cayley(constrained(tensors, base))
    turned = torch.einsum("nij,ni...->nj...", rotations, base.reshape(*rotations.shape[:2], *base.shape[1:]))
    return rescaled(tensors, turned.reshape(base.shape)) - base


def oft_diag(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """The first LyCORIS': the blocks are the rotations R themselves."""
    rotations = tensors["oft_diag"]
    if rotations.dim() == 2:
        rotations = rotations[None]
    count, size = base.shape[0] // rotations.shape[-1], rotations.shape[-1]
    rotations = rotations.expand(count, size, size)
    turned = torch.einsum("nij,ni...->nj...", rotations, base.reshape(count, size, *base.shape[1:]))
    return turned.reshape(base.shape) - base


def oft_input(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """OneTrainer's and peft's: blocks of inputs are turned by I + 2Q + 2Q² + 2Q³ + Q⁴, a series of Cayley's map."""
    triangles = tensors["oft_R"]
    size = math.isqrt(2 * triangles.shape[1]) + 1
    if "scaled_oft" in tensors:
        triangles = triangles / (2 * math.sqrt(size - 1))
    upper = triangles.new_zeros(triangles.shape[0], size, size)
    rows, columns = torch.triu_indices(size, size, 1)
    upper[:, rows, columns] = triangles
    q = upper - upper.transpose(1, 2)
    square = q @ q
    rotations = torch.eye(size, device=q.device) + 2 * q + 2 * square + 2 * (square @ q) + square @ square
    blocks = base.reshape(base.shape[0], -1, size)
    return torch.einsum("nij,onj->oni", rotations, blocks).reshape(base.shape) - base


def constrained(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """Q = B - Bᵀ of all blocks, whose norm is at most alpha · outputs if there is an alpha above 0."""
    blocks = tensors["oft_blocks"]
    q = blocks - blocks.transpose(-1, -2)
    limit = float(tensors["alpha"]) * base.shape[0] if "alpha" in tensors else 0.0
    norm = float(q.double().norm())
    return q * (limit / norm) if 0 < limit < norm else q


def cayley(q: Tensor) -> Tensor:
    """R = (I + Q)(I - Q)⁻¹, a rotation for each skew-symmetric Q; in float64, since the inverse cancels."""
    identity = torch.eye(q.shape[-1], dtype=torch.float64, device=q.device)
    wide = q.double()
    rotations: Tensor = torch.linalg.solve(identity - wide, identity + wide)  # the factors commute
    return rotations.to(q.dtype)


def rescaled(tensors: Mapping[str, Tensor], weight: Tensor) -> Tensor:
    """The weight with each output multiplied by its `rescale`, if there is one."""
    if "rescale" not in tensors:
        return weight
    return weight * tensors["rescale"].reshape(-1, *[1] * (weight.dim() - 1))
