"""Quadrature weights: known answers of Adams' methods, and exactness for polynomials."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.diffusion.quadrature import decay, integral, quadrature_weights


def test_even_nodes_behind_give_adams_bashforth():
    assert quadrature_weights([0, -1, -2, -3], 0, 1) == pytest.approx([55 / 24, -59 / 24, 37 / 24, -9 / 24])


def test_even_nodes_with_the_end_give_adams_moulton():
    assert quadrature_weights([1, 0, -1], 0, 1) == pytest.approx([5 / 12, 8 / 12, -1 / 12])


@given(st.floats(0.01, 8), st.floats(1, 2))
def test_the_weights_of_an_exponential_step_add_up_to_1_minus_its_decay(h, rate):
    assert sum(quadrature_weights([0, -1.3, -2], 0, h, decay(h, rate))) == pytest.approx(
        -math.expm1(-rate * h)
    )


def test_the_integral_is_exact_for_polynomials_of_degree_31():
    assert integral(lambda s: s**31 + s**30, -1, 1) == pytest.approx(2 / 31, rel=1e-13)


def test_the_integral_of_an_exponential_is_that_of_scipy():
    integrate = pytest.importorskip("scipy.integrate")
    expected = integrate.quad(lambda s: math.exp(-s) * s**3, -1.3, 2.7, epsabs=1e-13)[0]
    assert integral(lambda s: math.exp(-s) * s**3, -1.3, 2.7) == pytest.approx(expected, rel=1e-12)
