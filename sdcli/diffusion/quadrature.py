"""Weights: how much each remembered estimate counts in the integral that a step stands for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

Density = Callable[[float], float]


def weights(
    nodes: Sequence[float], start: float, end: float, density: Density = lambda s: 1.0
) -> list[float]:
    """The weight of the value at each node in the integral, from start to end, of density times the polynomial
    through the values."""

    def basis(j: int, s: float) -> float:
        return math.prod((s - node) / (nodes[j] - node) for k, node in enumerate(nodes) if k != j)

    return [integral(lambda s, j=j: density(s) * basis(j, s), start, end) for j in range(len(nodes))]  # type: ignore[misc]


def decay(end: float, rate: float = 1.0) -> Density:
    """The density of an exponential integrator in data prediction: rate * exp(-rate * (end - s))."""
    return lambda s: rate * math.exp(-rate * (end - s))


def integral(f: Density, start: float, end: float) -> float:
    """The integral of f by Gauss-Legendre's rule of 16 points, exact for polynomials up to degree 31."""
    half, middle = (end - start) / 2, (end + start) / 2
    return half * sum(share * f(middle + half * point) for point, share in _gauss())


@cache
def _gauss(count: int = 16) -> tuple[tuple[float, float], ...]:
    """The rule's points and shares on -1 … 1: the roots of Legendre's polynomial, by Newton's method."""
    rule = []
    for i in range(count):
        x = math.cos(math.pi * (i + 0.75) / (count + 0.5))
        for _ in range(10):
            before, now = 1.0, x
            for k in range(2, count + 1):
                before, now = now, ((2 * k - 1) * x * now - (k - 1) * before) / k
            slope = count * (x * now - before) / (x * x - 1)
            x -= now / slope
        rule.append((x, 2 / ((1 - x * x) * slope * slope)))
    return tuple(rule)
