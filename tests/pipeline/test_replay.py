"""A run stopped after a step: what it shows and leaves, and how another goes on from it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sdcli.engine import generate
from sdcli.errors import ImageError, UsageError
from sdcli.pipeline import latents_file
from sdcli.request.request import Request
from tests.pictures import half_mask, photo

pytestmark = pytest.mark.usefixtures("shared_models")


@pytest.fixture
def request_() -> Request:
    return Request("a cat", model="test:sd1", seed=9, steps=4, cfg=5.0, sampler="dpmpp_2m_sde")


@pytest.fixture
def half(tmp_path, request_) -> Path:
    """What that run leaves if it is stopped after two steps."""
    return stopped(tmp_path / "half.safetensors", request_, 2)


def stopped(path: Path, request: Request, step: int) -> Path:
    result = generate(request.replace(stop_after=step))
    path.write_bytes(latents_file.to_bytes(result.latents, result.sigma, result.recording))
    return path


def test_a_stopped_run_shows_the_estimate_and_keeps_x(request_):
    seen = []

    def keep(steps):
        for step in steps:
            seen.append(step)
            yield step

    result = generate(request_.replace(stop_after=2), watch=keep)
    assert [step.total for step in seen] == [2, 2]
    assert torch.equal(result.latents, seen[-1].x)
    assert result.sigma == seen[-1].sigma > 0
    assert result.picture.image.tobytes() == seen[-1].picture().tobytes()


def test_a_run_that_goes_on_asks_the_network_for_the_rest_only(request_, half, monkeypatch):
    from sdcli.pipeline import unet

    calls, real = [], unet.call_unet
    monkeypatch.setattr(unet, "call_unet", lambda *given: calls.append(given) or real(*given))
    generate(request_.replace(latents_in=str(half)))
    assert len(calls) == 2


def test_a_run_may_be_stopped_again_and_again(request_, half, tmp_path):
    third = stopped(tmp_path / "third.safetensors", request_.replace(latents_in=str(half)), 3)
    first = stopped(tmp_path / "first.safetensors", request_.replace(latents_in=str(third)), 1)
    straight = generate(request_).latents
    for path in (third, first):
        assert torch.equal(generate(request_.replace(latents_in=str(path))).latents, straight)


def test_a_run_from_a_file_without_a_record_can_be_stopped_too(request_, tmp_path):
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    for sigma in ({}, {"sigma": "14.614641229333643"}):
        save_file({"latents": noise}, tmp_path / "noise.safetensors", sigma)
        request = request_.replace(latents_in=str(tmp_path / "noise.safetensors"))
        path = stopped(tmp_path / "half.safetensors", request, 2)
        assert torch.equal(
            generate(request_.replace(latents_in=str(path))).latents, generate(request).latents
        )


def test_stopping_after_the_last_step_is_the_whole_run(request_):
    result = generate(request_.replace(stop_after=4))
    assert torch.equal(result.latents, generate(request_).latents)
    assert (result.sigma, result.recording) == (0.0, None)


def test_there_is_no_step_after_the_last(request_):
    with pytest.raises(UsageError, match="--stop-after 5 is more than the 4 steps"):
        generate(request_.replace(stop_after=5))


OTHERS = {
    "another seed": ({"seed": 10}, "step 2 comes out otherwise"),
    "another sampler": ({"sampler": "euler"}, "step 2 comes out otherwise"),
    "a option": ({"sampler": "dpmpp_2m_sde:eta=0.5"}, "step 2 comes out otherwise"),
    "another scale": ({"cfg": 5.5}, "step 2 comes out otherwise"),
    "more evaluations": ({"sampler": "heun"}, "step 2 comes out otherwise"),
    "other steps": ({"steps": 5}, "this one asks for 2 at 4.79653"),
    "no negative side": ({"cfg": 1.0}, "2 estimates at noise level 14.6146, this one asks for 1"),
    "another size": ({"width": 72}, "give their --width"),
    "another schedule": ({"schedule": "leading"}, "which this run does not visit"),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_a_record_of_another_run_is_one_line(request_, half, other):
    changes, words = OTHERS[other]
    with pytest.raises(ImageError) as caught:
        generate(request_.replace(latents_in=str(half), **changes))
    assert words in str(caught.value)
    assert "half.safetensors" in str(caught.value)


DAMAGE = {
    "no calls": (lambda tensors, about: about.pop("calls"), "is damaged"),
    "calls of nonsense": (lambda tensors, about: about.update(calls="[[1, 2], 3]"), "is damaged"),
    "deep calls": (lambda tensors, about: about.update(calls="[" * 100_000), "is damaged"),
    "too few answers": (lambda tensors, about: tensors.update(answers=tensors["answers"][1:]), "is damaged"),
    "flat answers": (lambda tensors, about: tensors.update(answers=tensors["answers"][0]), "not (1, 4, 8, 8)"),
    "no first": (lambda tensors, about: tensors.pop("first"), "holds answers, latents"),
    "not finite": (lambda tensors, about: tensors["answers"].fill_(float("nan")), "answers are not finite"),
    "another x": (lambda tensors, about: tensors["latents"].mul_(1.1), "step 2 comes out otherwise"),
    "no level": (lambda tensors, about: about.update(start="x"), "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_is_one_line(request_, half, tmp_path, damage):
    change, words = DAMAGE[damage]
    tensors = load_file(half)
    with safe_open(half, "pt") as file:
        about = file.metadata()
    change(tensors, about)
    save_file(tensors, tmp_path / "bad.safetensors", about)
    with pytest.raises(ImageError) as caught:
        generate(request_.replace(latents_in=str(tmp_path / "bad.safetensors")))
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_sd_stops_and_goes_on_to_the_same_pixels(draw, sd):
    from PIL import Image

    options = ("--seed", 7, "--steps", 4, "--sampler", "unipc")
    draw("a cat", *options, "-o", "straight.png")
    told = draw("a cat", *options, "--stop-after", 2, "--latents-out", "half.safetensors", "--json")
    assert json.loads(told.out)["request"]["stop_after"] == 2
    ran = draw("a cat", *options, "--latents-in", "half.safetensors", "-o", "whole.png")
    assert (ran.code, ran.err) == (0, "")
    assert Image.open("whole.png").tobytes() == Image.open("straight.png").tobytes()
    ran = draw("a cat", *options, "--cfg", 2, "--latents-in", "half.safetensors")
    assert (ran.code, len(ran.err.splitlines())) == (4, 1)


@pytest.mark.parametrize("model", ["test:sd1", "test:inpaint"])
@pytest.mark.parametrize("like", ["sdcli", "a1111", "comfyui", "diffusers", "compvis"])
def test_a_run_over_a_picture_goes_on_too(tmp_path, model, like):
    photo().save(tmp_path / "in.png")
    half_mask().save(tmp_path / "mask.png")
    given = {"image": str(tmp_path / "in.png"), "mask": str(tmp_path / "mask.png"), "strength": 0.7}
    request = Request("a cat", model=model, seed=9, steps=6, sampler="dpmpp_2m_sde", like=like, **given)
    path = stopped(tmp_path / "half.safetensors", request, 2)
    assert torch.equal(generate(request.replace(latents_in=str(path))).latents, generate(request).latents)
