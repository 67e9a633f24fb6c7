"""The seed contract with every sampler, schedule and guidance there is: a picture does not know of its neighbours."""

import pytest
import torch

from sdcli import registry
from sdcli.engine import generate
from sdcli.pipeline import latents_file
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


def split(path, request: Request, step: int) -> torch.Tensor:
    """The end of a run that was stopped after a step, written, and gone on with."""
    half = generate(request.replace(stop_after=step))
    path.write_bytes(latents_file.to_bytes(half.latents, half.sigma, half.recording))
    return generate(request.replace(latents_in=str(path))).latents


@pytest.mark.parametrize("sampler", registry.names("samplers"))
def test_every_sampler_goes_on_from_any_step_bit_for_bit(tmp_path, sampler):
    request = Request("a cat", negative="a dog", model="test:sd1", seed=9, steps=4, sampler=sampler)
    straight = generate(request).latents
    for step in (1, 2, 3):
        assert torch.equal(split(tmp_path / f"{step}.safetensors", request, step), straight)


@pytest.mark.parametrize("guidance", registry.names("guidance"))
def test_so_does_every_guidance_also_where_it_remembers(tmp_path, guidance):
    for sampler, cfg in (("dpmpp_2m", 5.0), ("euler_a_cfg_pp", 1.0)):
        request = Request("a cat", negative="a dog", model="test:sd1", seed=9, steps=4, cfg=cfg,
                          sampler=sampler, guidance=guidance)  # fmt: skip
        assert torch.equal(split(tmp_path / f"{sampler}.safetensors", request, 2), generate(request).latents)


@pytest.mark.parametrize("rng", ["philox", "comfyui"])
def test_so_do_other_tools_generators(tmp_path, rng):
    request = Request("a cat", model="test:sd1", seed=9, steps=4, sampler="dpmpp_2s_a", rng=rng, like="a1111")
    assert torch.equal(split(tmp_path / "half.safetensors", request, 2), generate(request).latents)
