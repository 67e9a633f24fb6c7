"""Networks whose layers hold weights only while they run, read from the mapped file or kept in fewer bits."""

import pytest
import torch

from sdcli.checkpoints.toy import MODELS
from sdcli.engine import generate
from sdcli.errors import OutOfMemory
from sdcli.models import layers, memory
from sdcli.models.load import load
from sdcli.request.request import Request

DRAWN = [
    name for name in MODELS if name in ("test:sd1", "test:sd2", "test:sd2-v", "test:sdxl", "test:refiner")
]


def drawn(**asked) -> bytes:
    return generate(
        Request("a cat", negative="a dog", seed=1, steps=2, width=64, height=64, **asked)
    ).picture.image.tobytes()


@pytest.mark.parametrize("name", ["tiny", *DRAWN])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_streamed_model_draws_the_same_picture(name, dtype):
    assert drawn(model=name, dtype=dtype) == drawn(model=name, dtype=dtype, stream=True)


@pytest.mark.parametrize("store", ["bf16", "fp8"])
def test_weights_in_fewer_bits_draw_the_same_picture_streamed_but_another_than_in_all_bits(store):
    kept = drawn(model="tiny", store=store)
    assert kept == drawn(model="tiny", store=store, stream=True)
    assert kept != drawn(model="tiny")


def test_a_layer_is_empty_before_and_after_it_runs():
    unet = load("tiny", "cpu", "float32", stream=True).unet
    seen = []
    unet.conv_in.register_forward_hook(lambda layer, *_: seen.append(layer.weight.is_meta))
    assert unet.conv_in.weight.is_meta
    unet.conv_in(torch.zeros(1, 4, 8, 8))
    assert seen == [True] and unet.conv_in.weight.is_meta


def test_fp8_weights_are_the_nearest_ones_of_float8_e4m3():
    whole, kept = (load("tiny", "cpu", "float32", **more).unet for more in ({}, {"store": "fp8"}))
    name = "mid_block.resnets.0.conv1.weight"
    exact = whole.state_dict()[name].to(torch.float8_e4m3fn).float()
    assert torch.equal(layers.weights_of(kept)[name], exact)
    assert torch.equal(layers.weights_of(kept)["conv_in.bias"], whole.conv_in.bias)


def test_layers_are_streamed_where_memory_holds_no_network(monkeypatch):
    unet = load("tiny", "cpu", "float32").unet
    free = 4 * sum(p.numel() for p in unet.parameters())
    monkeypatch.setattr(memory, "free", lambda device: free)
    assert load("tiny", "cpu", "float32").networks.how == "layer by layer"


def test_a_model_whose_largest_layer_does_not_fit_is_refused_with_the_figures(monkeypatch):
    monkeypatch.setattr(memory, "free", lambda device: 1000)
    monkeypatch.setattr(memory, "swap", lambda: 0)
    with pytest.raises(OutOfMemory, match=r"or 0\.\d GB with --stream"):
        load("tiny", "cpu", "float32", stream=True)
