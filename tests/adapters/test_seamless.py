"""Seamless: a convolution that wraps around an edge does not know where the edge is, and nothing stays changed."""

import pytest
import torch

from sdcli.adapters.seamless import seamless
from sdcli.engine import generate
from sdcli.models.load import load
from sdcli.request.request import Request


@pytest.mark.parametrize(("direction", "shift"), [("x", (0, 8)), ("y", (8, 0)), ("both", (8, 16))])
def test_the_decoder_wraps_around_the_chosen_edges_only(direction, shift):
    model = load("test:sd1", "cpu", "float32")
    vae = model.vae
    z = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    moved = tuple(8 * side for side in shift)
    with torch.inference_mode(), model.networks.adapted([seamless(direction)]):
        plain, turned = (vae.decode(each) for each in (z, z.roll(shift, (-2, -1))))
        assert torch.allclose(turned, plain.roll(moved, (-2, -1)), atol=1e-4)
        other = vae.decode(z.roll((8, 0) if direction == "x" else (0, 8), (-2, -1)))
    back = other.roll((-64, 0) if direction == "x" else (0, -64), (-2, -1))
    assert torch.allclose(back, plain, atol=1e-4) == (direction == "both")


def test_a_texture_changes_its_own_picture_and_none_after_it():
    def drawn(tile):
        asked = Request("a wall", model="test:sd1", seed=3, steps=2, width=128, height=128, tile=tile)
        return generate(asked).latents

    plain = drawn("none")
    assert not torch.equal(drawn("both"), plain)
    assert torch.equal(drawn("none"), plain)


def test_seamless_convolutions_are_undone_after_an_error():
    model = load("test:sd1", "cpu", "float32")
    vae = model.vae
    with pytest.raises(RuntimeError), model.networks.adapted([seamless("both")]):
        raise RuntimeError
    assert not any("_conv_forward" in vars(module) for module in vae.modules())
