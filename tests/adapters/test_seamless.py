"""Seamless: what goes round the edge does not know where the edge is, and leaves no trace behind."""

import pytest
import torch

from sdcli.adapters.seamless import seamless
from sdcli.engine import generate
from sdcli.models.load import load
from sdcli.request.request import Request


@pytest.mark.parametrize(("way", "turn"), [("x", (0, 8)), ("y", (8, 0)), ("both", (8, 16))])
def test_the_decoder_goes_round_that_edge_alone(way, turn):
    model = load("test:sd1", "cpu", "float32")
    vae = model.vae
    z = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    moved = tuple(8 * side for side in turn)
    with torch.inference_mode(), seamless(model, way):
        plain, turned = (vae.decode(each).sample for each in (z, z.roll(turn, (-2, -1))))
        assert torch.allclose(turned, plain.roll(moved, (-2, -1)), atol=1e-4)
        other = vae.decode(z.roll((8, 0) if way == "x" else (0, 8), (-2, -1))).sample
    back = other.roll((-64, 0) if way == "x" else (0, -64), (-2, -1))
    assert torch.allclose(back, plain, atol=1e-4) == (way == "both")


def test_it_changes_the_picture_and_then_nothing():
    def drawn(tile):
        asked = Request("a wall", model="test:sd1", seed=3, steps=2, width=128, height=128, tile=tile)
        return generate(asked).latents

    plain = drawn("none")
    assert not torch.equal(drawn("both"), plain)
    assert torch.equal(drawn("none"), plain)


def test_it_is_undone_after_an_error():
    model = load("test:sd1", "cpu", "float32")
    vae = model.vae
    with pytest.raises(RuntimeError), seamless(model, "both"):
        raise RuntimeError
    assert not any("_conv_forward" in vars(module) for module in vae.modules())
