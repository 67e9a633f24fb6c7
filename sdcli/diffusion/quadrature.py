"""Quadrature: how much each remembered estimate counts in the integral over one step of a multistep method."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np

Density = Callable[[float], float]


def quadrature_weights(
    nodes: Sequence[float], start: float, end: float, density: Density = lambda s: 1.0
) -> list[float]:
    """The weight of the value at each node in the integral of density(s) * p(s) from start to end.

    p is the polynomial through the values at the nodes (Lagrange interpolation).
    """

    def weighted_basis(j: int, s: float) -> float:
        return density(s) * math.prod(
            (s - node) / (nodes[j] - node) for k, node in enumerate(nodes) if k != j
        )

    return [integral(partial(weighted_basis, j), start, end) for j in range(len(nodes))]


def decay(end: float, rate: float = 1.0) -> Density:
    """The density of an exponential integrator in data prediction: rate * exp(-rate * (end - s))."""
    return lambda s: rate * math.exp(-rate * (end - s))


def integral(f: Density, start: float, end: float) -> float:
    """The integral of f by the Gauss-Legendre rule of 16 points, exact for polynomials up to degree 31."""
    half, middle = (end - start) / 2, (end + start) / 2
    return half * sum(weight * f(middle + half * point) for point, weight in _gauss_legendre())


@cache
def _gauss_legendre() -> tuple[tuple[float, float], ...]:
    """(point, weight) of the rule on -1 … 1."""
    points, weights = np.polynomial.legendre.leggauss(16)
    return tuple(zip(points.tolist(), weights.tolist(), strict=True))
