"""A Brownian path is one function of the level, whoever asks and in whatever order; its increments are unit noise."""

import math

import pytest
import torch

from sdcli.diffusion.brownian import Brownian
from sdcli.diffusion.noise import Stream

SHAPE = (1, 4, 40, 40)
ASKED = [(14.6, 9.0), (9.0, 3.1), (9.0, 5.2), (3.1, 0.4), (0.4, 0.03), (14.6, 0.0)]


def path(seed: int = 3) -> Brownian:
    return Brownian(Stream(seed, SHAPE), 14.6)


def test_the_order_of_the_questions_does_not_matter():
    one, other = path(), path()
    answers = {asked: one(*asked) for asked in ASKED}
    for asked in reversed(ASKED):
        assert torch.equal(other(*asked), answers[asked])


def test_increments_add_up():
    w = path()
    parts = w(9.0, 5.2) * math.sqrt(3.8) + w(5.2, 3.1) * math.sqrt(2.1)
    assert torch.allclose(parts, w(9.0, 3.1) * math.sqrt(5.9), atol=1e-5)


@pytest.mark.parametrize("asked", [*ASKED, (2.0, 1.999), (0.02, 0.0199), (7.3, 7.3 - 1e-7)])
def test_every_increment_is_unit_noise(asked):
    got = path()(*asked)
    assert got.dtype == torch.float32
    assert float(got.mean()) == pytest.approx(0, abs=0.05)
    assert float(got.std()) == pytest.approx(1, rel=0.05)


def test_increments_apart_are_independent():
    w = path()
    for one, other in [((14.6, 9.0), (9.0, 3.1)), ((7.31, 7.3), (7.3, 7.29)), ((0.4, 0.03), (0.03, 0.0))]:
        assert abs(float((w(*one) * w(*other)).mean())) < 0.05


def test_it_takes_one_draw_from_the_picture_and_only_when_asked():
    stream = Stream(3, SHAPE)
    w = Brownian(stream, 14.6)
    first = Stream(3, SHAPE)(14.6, 0.0)
    assert torch.equal(w(14.6, 0.0), first)
    w(9.0, 1.0)
    again = Stream(3, SHAPE)
    again(0, 0)
    assert torch.equal(stream(1, 0), again(1, 0))


def test_other_seeds_have_other_paths():
    assert abs(float((path(3)(9.0, 3.1) * path(4)(9.0, 3.1)).mean())) < 0.05
