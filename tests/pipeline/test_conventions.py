"""--like at work: runs of diffusers' own pipeline are made again, and what is written is what the tool would write."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sdcli.engine import generate
from sdcli.models.load import load
from sdcli.pipeline import unet, vae
from sdcli.pipeline.text import encode_prompts
from sdcli.request.request import Request
from tests import judges

pytestmark = pytest.mark.usefixtures("shared_models")

CASES = {  # (sampler, schedule) -> diffusers' scheduler, as Stable Diffusion's config sets it up
    ("ddim", "leading"): ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    ("plms", "leading"): ("PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": False}),
    ("euler", "leading"): ("EulerDiscreteScheduler", {"timestep_spacing": "leading"}),
    ("euler", "trailing"): ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    ("euler", "karras"): ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ("heun", "trailing"): ("HeunDiscreteScheduler", {"timestep_spacing": "trailing"}),
    ("dpmpp_2m", "karras"): ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    ("dpmpp_2m", "trailing"): ("DPMSolverMultistepScheduler", {"timestep_spacing": "trailing"}),
}
STEPS = 10


def asked(case, **more) -> Request:
    sampler, schedule = case
    return Request("a red apple", negative="a dog", model="test:sd1", seed=5, steps=STEPS, cfg=4.0,
                   sampler=sampler, schedule=schedule, **more)  # fmt: skip


def theirs(case) -> tuple[torch.Tensor, Image.Image]:
    """The same run by diffusers' pipeline, on our networks."""
    import diffusers

    name, options = CASES[case]
    model = load("test:sd1", "cpu", "float32")
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    pipe = diffusers.StableDiffusionPipeline(
        vae=judges.vae(model), text_encoder=judges.text_encoder(model), unet=judges.unet(model), tokenizer=None,
        scheduler=getattr(diffusers, name)(**betas, **options),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    prompts = encode_prompts(model, model.with_defaults(asked(case)))
    positive, negative = (prompt.parts[0].cond for prompt in prompts)
    run = {
        "prompt_embeds": positive.context,
        "negative_prompt_embeds": negative.context,
        "guidance_scale": 4.0,
    }
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(5))
    run |= {"num_inference_steps": STEPS, "height": 64, "width": 64}
    return (
        pipe(**run, latents=noise.clone(), output_type="latent").images,
        pipe(**run, latents=noise).images[0],
    )


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("case", CASES, ids="-".join)
@pytest.mark.filterwarnings("ignore")
def test_like_diffusers_is_a_run_of_its_pipeline(case):
    expected, image = theirs(case)
    ours, plain = generate(asked(case, like="diffusers")), generate(asked(case))
    assert apart(ours.latents, expected) < 5e-5
    assert apart(ours.latents, expected) <= apart(plain.latents, expected) * 1.01
    pixels = [np.asarray(each, int) for each in (ours.picture.image, image)]
    assert abs(pixels[0] - pixels[1]).max() <= 1


def test_pixels_are_rounded_or_cut_as_each_tool_does(toy, monkeypatch):
    values = torch.tensor([100.25, 100.75, 101.5, 102.5]) / 127.5 - 1  # bytes, before they are whole
    monkeypatch.setattr(vae, "_decoded", lambda *_: values.expand(1, 3, 1, 4))
    rounded, cut = [100, 101, 102, 102], [100, 100, 101, 102]
    for like in ("sdcli", "a1111", "comfyui", "diffusers", "compvis"):
        image = generate(Request("a cat", model=str(toy), seed=1, steps=1, like=like)).picture.image
        expected = rounded if like in ("sdcli", "diffusers") else cut
        assert np.asarray(image)[0, :, 0].tolist() == expected, like


@pytest.mark.parametrize("like", ["sdcli", "comfyui"])
def test_the_network_hears_the_timestep_that_the_tool_tells_it(toy, monkeypatch, like):
    heard, real = [], unet.call_unet
    monkeypatch.setattr(
        unet, "call_unet", lambda model, x, t, *rest: heard.append(t) or real(model, x, t, *rest)
    )
    generate(Request("a cat", model=str(toy), seed=1, steps=5, schedule="karras", like=like))
    assert all(t == round(t) for t in heard) == (like == "comfyui")
    assert heard[0] == 999


def test_a_run_that_ends_above_zero_leaves_latents_as_the_network_sees_them(toy):
    seen = []

    def keep(steps):
        for step in steps:
            seen.append(step)
            yield step

    request = Request(
        "a cat", model=str(toy), seed=1, steps=3, sampler="ddim", schedule="leading", like="compvis"
    )
    result = generate(request, watch=keep)
    last = seen[-1]
    assert last.sigma == pytest.approx(0.029167, abs=1e-6)
    assert torch.equal(result.latents, last.x / math.sqrt(1 + last.sigma**2))


def test_a_picture_tells_whose_conventions_it_was_made_by(draw, sd):
    draw("a cat", "--seed", 7, "--like", "a1111")
    told = json.loads(sd("info", "a-cat-7.png", "--json").out)
    assert told["like"] == "a1111"
    assert sd("again", "a-cat-7.png").lines == ["a-cat-7-2.png"]
    assert Path("a-cat-7.png").read_bytes() == Path("a-cat-7-2.png").read_bytes()
