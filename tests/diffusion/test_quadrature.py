"""Weights of a step: known answers of Adams' methods, and exactness for polynomials."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.diffusion.quadrature import decay, integral, weights


def test_even_nodes_give_adams_bashforth():
    assert weights([0, -1, -2, -3], 0, 1) == pytest.approx([55 / 24, -59 / 24, 37 / 24, -9 / 24])


def test_one_node_behind_gives_adams_moulton():
    assert weights([1, 0, -1], 0, 1) == pytest.approx([5 / 12, 8 / 12, -1 / 12])


@given(st.floats(0.01, 8), st.floats(1, 2))
def test_an_exponential_step_keeps_what_is_constant(h, rate):
    assert sum(weights([0, -1.3, -2], 0, h, decay(h, rate))) == pytest.approx(-math.expm1(-rate * h))


def test_the_integral_is_exact_to_degree_31():
    assert integral(lambda s: s**31 + s**30, -1, 1) == pytest.approx(2 / 31, rel=1e-13)
