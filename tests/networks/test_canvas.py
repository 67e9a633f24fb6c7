"""The canvas: which levels a request walks, and the noise it starts from."""

import math

import pytest
import torch

from sdcli.networks.canvas import canvas
from sdcli.networks.load import load
from sdcli.request.request import Request


@pytest.fixture
def drawn(toy):
    """The canvas of a request for the toy model: drawn(steps=3) -> Canvas."""
    model = load(str(toy), "cpu", "float32")

    def call(**asked):
        return canvas(model, model.complete(Request(**{"seed": 5, "steps": 3, "model": str(toy), **asked})))

    return call


def test_levels_of_ones_own_take_the_place_of_the_schedule(drawn):
    start = drawn(steps=None, sigmas="9,4,0.5")
    assert start.sigmas == [9, 4, 0.5, 0]
    unit = drawn().x / math.sqrt(1 + drawn().sigmas[0] ** 2)
    assert torch.allclose(start.x, unit * math.sqrt(1 + 81))
