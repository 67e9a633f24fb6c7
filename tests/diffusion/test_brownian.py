"""A Brownian path is one function of the level, in whatever order it is asked; its increments are unit noise."""

import math

import pytest
import torch

from sdcli.diffusion.brownian import Brownian
from sdcli.diffusion.noise import Stream

SHAPE = (1, 4, 40, 40)
INTERVALS = [(14.6, 9.0), (9.0, 3.1), (9.0, 5.2), (3.1, 0.4), (0.4, 0.03), (14.6, 0.0)]


def path(seed: int = 3) -> Brownian:
    return Brownian(Stream(seed, SHAPE), 14.6)


def test_an_increment_does_not_depend_on_which_others_were_asked_before():
    forwards, backwards = path(), path()
    increments = {interval: forwards(*interval) for interval in INTERVALS}
    for interval in reversed(INTERVALS):
        assert torch.equal(backwards(*interval), increments[interval])


def test_the_increments_of_a_brownian_path_add_up():
    w = path()
    total = w(9.0, 5.2) * math.sqrt(3.8) + w(5.2, 3.1) * math.sqrt(2.1)
    assert torch.allclose(total, w(9.0, 3.1) * math.sqrt(5.9), atol=1e-5)


@pytest.mark.parametrize("interval", [*INTERVALS, (2.0, 1.999), (0.02, 0.0199), (7.3, 7.3 - 1e-7)])
def test_every_increment_is_unit_noise(interval):
    increment = path()(*interval)
    assert increment.dtype == torch.float32
    assert float(increment.mean()) == pytest.approx(0, abs=0.05)
    assert float(increment.std()) == pytest.approx(1, rel=0.05)


def test_increments_that_do_not_overlap_are_independent():
    w = path()
    for one, other in [((14.6, 9.0), (9.0, 3.1)), ((7.31, 7.3), (7.3, 7.29)), ((0.4, 0.03), (0.03, 0.0))]:
        assert abs(float((w(*one) * w(*other)).mean())) < 0.05


def test_a_path_takes_one_draw_from_the_pictures_noise_and_only_when_it_is_used():
    stream = Stream(3, SHAPE)
    w = Brownian(stream, 14.6)
    same = Stream(3, SHAPE)
    assert torch.equal(stream(1, 0), same(1, 0))  # the path has drawn nothing yet
    assert torch.equal(w(14.6, 0.0), same(14.6, 0.0))
    w(9.0, 1.0)
    assert torch.equal(stream(1, 0), same(1, 0))


def test_paths_of_two_seeds_are_independent():
    assert abs(float((path(3)(9.0, 3.1) * path(4)(9.0, 3.1)).mean())) < 0.05
