"""Adapters alter networks for a while: entered whenever a network is loaded, left before it is emptied."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from sdcli.adapters.seamless import seamless
from sdcli.engine import generate
from sdcli.models import memory
from sdcli.models.cache import ModelCache
from sdcli.models.load import load
from sdcli.models.offload import Networks
from sdcli.request.request import Request


def networks(one_at_a_time: bool) -> Networks:
    """Two linear layers, empty."""
    modules = {part: nn.Linear(2, 2, device="meta") for part in ("unet", "vae")}
    return Networks(modules, lambda part, module, streams: module.to_empty(device="cpu"), one_at_a_time)


def recorder(events: list[str]):
    """An adapter that notes where it is entered and left."""

    @contextmanager
    def adapted(part, module):
        assert not module.weight.is_meta
        events.append(f"+{part}")
        try:
            yield
        finally:
            assert not module.weight.is_meta
            events.append(f"-{part}")

    return adapted


def test_an_adapter_is_entered_again_after_each_refill_and_left_before_a_network_is_emptied():
    events: list[str] = []
    nets = networks(one_at_a_time=True)
    with nets.adapted([recorder(events)]):
        for part in ("unet", "unet", "vae", "unet"):
            nets[part]
    assert events == ["+unet", "-unet", "+vae", "-vae", "+unet", "-unet"]


def test_an_adapter_is_entered_at_once_into_networks_that_are_loaded():
    events: list[str] = []
    nets = networks(one_at_a_time=False)
    nets["vae"]
    with nets.adapted([recorder(events)]):
        assert events == ["+vae"]
        nets["unet"]
    assert sorted(events) == ["+unet", "+vae", "-unet", "-vae"]


def test_several_adapters_are_left_in_reverse_order():
    events: list[str] = []

    def named(name):
        @contextmanager
        def adapted(part, module):
            events.append(f"+{name}")
            yield
            events.append(f"-{name}")

        return adapted

    nets = networks(one_at_a_time=False)
    with nets.adapted([named("a"), named("b")]):
        nets["unet"]
    assert events == ["+a", "+b", "-b", "-a"]


def test_an_adapter_that_fails_to_enter_leaves_those_before_it():
    events: list[str] = []

    @contextmanager
    def failing(part, module):
        raise ValueError("no such layer")
        yield

    nets = networks(one_at_a_time=False)
    nets["unet"]
    with pytest.raises(ValueError, match="no such layer"), nets.adapted([recorder(events), failing]):
        pass
    assert events == ["+unet", "-unet"]
    with nets.adapted([recorder(events)]):  # nothing of it is left behind
        pass


def test_adapters_are_left_after_an_error():
    events: list[str] = []
    nets = networks(one_at_a_time=False)
    with pytest.raises(RuntimeError, match="a bug"), nets.adapted([recorder(events)]):
        nets["unet"]
        raise RuntimeError("a bug")
    assert events == ["+unet", "-unet"]


def test_networks_that_are_adapted_cannot_be_adapted_again():
    nets = networks(one_at_a_time=False)
    with nets.adapted([recorder([])]), pytest.raises(RuntimeError, match="adapted already"), nets.adapted([]):
        pass


def test_a_texture_is_the_same_with_networks_one_at_a_time(monkeypatch):
    request = Request("a wall", model="test:sd1", seed=3, steps=2, width=128, height=128, tile="both")
    ample = generate(request)
    parts = load("test:sd1", "cpu", "float32").networks.modules.values()
    largest = max(sum(4 * p.numel() for p in part.parameters()) for part in parts)
    monkeypatch.setattr(memory, "free", lambda device: 1.25 * largest)
    scarce = generate(request)
    assert (ample.networks, scarce.networks) == ("all at once", "one at a time")
    assert scarce.picture.png() == ample.picture.png()


def test_a_texture_leaves_every_weight_and_hook_of_the_model_as_it_was():
    models, request = ModelCache(), Request("a wall", model="test:sd1", seed=3, steps=1)
    with models.use(request.loading) as model:
        before = {part: module.state_dict() for part, module in model.networks.items()}
        before = {part: {k: v.clone() for k, v in weights.items()} for part, weights in before.items()}
    generate(request.replace(tile="both"), models)
    for part, module in model.networks.items():
        assert all(torch.equal(v, before[part][k]) for k, v in module.state_dict().items())
        assert not any("_conv_forward" in vars(each) for each in module.modules())


def test_seamless_touches_neither_the_text_encoder_nor_unpadded_convolutions():
    text, vae = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1)), nn.Sequential(nn.Conv2d(1, 1, 1))
    with seamless("both")("text_encoder", text), seamless("both")("vae", vae):
        assert not any("_conv_forward" in vars(each) for each in (text[0], vae[0]))
