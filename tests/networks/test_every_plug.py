"""The seed contract with every sampler, schedule and guidance there is: a picture does not know of its neighbours."""

import pytest
import torch

from sdcli import registry
from sdcli.engine import generate
from sdcli.request.request import Request


def drawn(toy, seed: int = 9, **asked) -> torch.Tensor:
    request = Request(
        "a cat", negative="a dog", model=str(toy), seed=seed, steps=4, width=72, height=88, **asked
    )
    return generate(request).latents


@pytest.mark.parametrize("sampler", registry.names("samplers"))
def test_every_sampler_draws_a_picture_alone_as_among_others(toy, sampler):
    alone = drawn(toy, sampler=sampler)
    other = drawn(toy, seed=10, sampler=sampler)
    assert torch.isfinite(alone).all()
    assert not torch.equal(other, alone)
    assert torch.equal(drawn(toy, sampler=sampler), alone)


@pytest.mark.parametrize("rng", ["philox", "comfyui"])
@pytest.mark.parametrize("sampler", ["euler_a", "dpmpp_sde", "dpm2_a"])
def test_so_it_is_with_other_tools_generators(toy, sampler, rng):
    alone = drawn(toy, sampler=sampler, rng=rng)
    assert torch.equal(drawn(toy, sampler=sampler, rng=rng), alone)
    assert not torch.equal(drawn(toy, sampler=sampler), alone)


@pytest.mark.parametrize("schedule", registry.names("schedules"))
def test_every_schedule_draws(toy, schedule):
    assert torch.isfinite(drawn(toy, schedule=schedule)).all()
