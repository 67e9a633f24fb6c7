"""The seed contract, with every sampler, schedule and guidance: a picture does not depend on its neighbours."""

import pytest
import torch

from sdcli import registry
from sdcli.engine import generate
from sdcli.models.cache import ModelCache
from sdcli.pipeline import latents_file
from sdcli.request.request import Request


def drawn(toy, seed: int = 9, models: ModelCache | None = None, **asked) -> torch.Tensor:
    request = Request(
        "a cat", negative="a dog", model=str(toy), seed=seed, steps=4, width=72, height=88, **asked
    )
    return generate(request, models).latents


@pytest.mark.parametrize("sampler", registry.names("samplers"))
def test_a_picture_drawn_between_others_with_one_model_is_the_picture_drawn_alone(toy, sampler):
    """The others differ in seed, sampler, texture and guidance, and leave nothing behind in the model."""
    alone = drawn(toy, sampler=sampler)
    models = ModelCache()
    before = drawn(toy, 10, models, sampler=sampler, tile="both")
    between = drawn(toy, 9, models, sampler=sampler)
    drawn(toy, 9, models, sampler="euler_a", guidance="pag", cfg=3.0)
    after = drawn(toy, 9, models, sampler=sampler)
    assert torch.isfinite(alone).all()
    assert torch.equal(between, alone)
    assert torch.equal(after, alone)
    assert not torch.equal(before, alone)


@pytest.mark.parametrize("rng", ["philox", "comfyui"])
@pytest.mark.parametrize("sampler", ["euler_a", "dpmpp_sde", "dpm2_a"])
def test_a_picture_with_another_tools_noise_is_the_same_twice_and_not_that_of_our_noise(toy, sampler, rng):
    alone = drawn(toy, sampler=sampler, rng=rng)
    assert torch.equal(drawn(toy, sampler=sampler, rng=rng), alone)
    assert not torch.equal(drawn(toy, sampler=sampler), alone)


@pytest.mark.usefixtures("shared_models")
@pytest.mark.parametrize("schedule", registry.names("schedules"))
def test_every_schedule_draws_finite_latents(toy, schedule):
    assert torch.isfinite(drawn(toy, schedule=schedule)).all()


def split(path, request: Request, step: int) -> torch.Tensor:
    """The latents of a run that was stopped after a step, saved, and continued."""
    half = generate(request.replace(stop_after=step))
    path.write_bytes(latents_file.to_bytes(half.latents, half.sigma, half.recording))
    return generate(request.replace(latents_in=str(path))).latents


@pytest.mark.usefixtures("shared_models")
@pytest.mark.parametrize("sampler", registry.names("samplers"))
def test_every_sampler_goes_on_from_any_step_of_a_stopped_run_bit_for_bit(tmp_path, sampler):
    request = Request("a cat", negative="a dog", model="test:sd1", seed=9, steps=4, sampler=sampler)
    straight = generate(request).latents
    for step in (1, 2, 3):
        assert torch.equal(split(tmp_path / f"{step}.safetensors", request, step), straight)


@pytest.mark.usefixtures("shared_models")
@pytest.mark.parametrize("guidance", registry.names("guidance"))
def test_every_guidance_goes_on_from_a_stopped_run_bit_for_bit(tmp_path, guidance):
    for sampler, cfg in (("dpmpp_2m", 5.0), ("euler_a_cfg_pp", 1.0)):
        request = Request("a cat", negative="a dog", model="test:sd1", seed=9, steps=4, cfg=cfg,
                          sampler=sampler, guidance=guidance)  # fmt: skip
        assert torch.equal(split(tmp_path / f"{sampler}.safetensors", request, 2), generate(request).latents)


@pytest.mark.usefixtures("shared_models")
@pytest.mark.parametrize("rng", ["philox", "comfyui"])
def test_a_stopped_run_goes_on_with_another_tools_noise_bit_for_bit(tmp_path, rng):
    request = Request("a cat", model="test:sd1", seed=9, steps=4, sampler="dpmpp_2s_a", rng=rng, like="a1111")
    assert torch.equal(split(tmp_path / "half.safetensors", request, 2), generate(request).latents)
