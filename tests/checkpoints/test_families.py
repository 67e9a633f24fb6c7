"""Test models of every family, and runs of SDXL against diffusers' pipeline and transformers' text encoders."""

from pathlib import Path

import pytest
import torch

from sdcli.checkpoints import toy
from sdcli.engine import generate
from sdcli.models.load import load
from sdcli.pipeline.text import encode_prompts
from sdcli.request.request import Request
from sdcli.tokenizer import chunks, framed
from tests import judges

NEEDS_NO_PICTURE = [name for name in toy.MODELS if toy.family(name)[0].signature.channels in (4, 9)]
NEEDS_A_PICTURE = [name for name in toy.MODELS if name not in NEEDS_NO_PICTURE]


@pytest.mark.parametrize("name", NEEDS_NO_PICTURE)
def test_a_test_model_draws_the_same_picture_every_time_and_reports_nothing(sd, name):
    runs = [sd("txt2img", "a cat", "-m", name, "--seed", 1, "-s", 2, "-o", f"{i}.png") for i in "ab"]
    assert [(run.code, run.err) for run in runs] == [(0, "")] * 2
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


@pytest.mark.parametrize("name", NEEDS_A_PICTURE)
def test_a_test_model_that_needs_a_picture_says_so(sd, name):
    ran = sd("txt2img", "a cat", "-m", name)
    assert ran.code == 3
    assert "model needs a " in ran.err


def test_a_mistyped_test_model_is_answered_with_the_nearest_name(sd):
    assert "did you mean 'test:sd" in sd("txt2img", "a cat", "-m", "test:sd").err


def drawn(sd, model: str, *options: str) -> bytes:
    """The bytes of a picture without metadata."""
    ran = sd("txt2img", "a cat", "-m", model, "--seed", 1, "-o", "-", "--no-metadata", *options)
    assert ran.code == 0, ran.err
    return ran.out


def test_each_prediction_type_gives_another_picture(sd):
    pictures = {
        drawn(sd, "test:sd2", "--prediction", prediction)
        for prediction in ("epsilon", "v_prediction", "sample")
    }
    assert len(pictures) == 3


def test_a_prediction_type_that_is_given_is_as_good_as_one_that_is_recognised(sd):
    assert drawn(sd, "test:sd2-v") == drawn(sd, "test:sd2", "--prediction", "v_prediction")


@pytest.mark.filterwarnings("ignore")
def test_a_run_of_sdxl_gives_the_latents_of_diffusers_pipeline():
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    model = load("test:sdxl", "cpu", "float32")
    request = Request(
        "a red apple", model="test:sdxl", seed=5, steps=6, cfg=4.0, sampler="euler", schedule="leading"
    )
    prompt, negative = (
        composed.parts[0].cond for composed in encode_prompts(model, model.with_defaults(request))
    )
    assert not negative.context.any()
    assert prompt.time_ids == (64, 64, 0, 0, 64, 64)
    pipe = StableDiffusionXLPipeline(
        vae=judges.vae(model), unet=judges.unet(model), tokenizer=None, tokenizer_2=None,
        text_encoder=judges.text_encoder(model), text_encoder_2=judges.text_encoder(model, "text_encoder_2"),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
            timestep_spacing="leading",
        ),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        prompt_embeds=prompt.context, pooled_prompt_embeds=prompt.pooled, negative_prompt_embeds=negative.context,
        negative_pooled_prompt_embeds=negative.pooled, guidance_scale=4.0, num_inference_steps=6, height=64, width=64,
        latents=torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(5)), output_type="latent",
    ).images  # fmt: skip
    ours = generate(request).latents
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4


def test_sdxl_reads_the_states_of_its_two_text_encoders_that_transformers_gives():
    model = load("test:sdxl", "cpu", "float32")
    job = model.with_defaults(Request("a red apple", model="test:sdxl", seed=1))
    cond = encode_prompts(model, job)[0].parts[0].cond
    chunk = chunks("a red apple")[0]
    encoders = [judges.text_encoder(model, part) for part in ("text_encoder", "text_encoder_2")]
    with torch.no_grad():
        small, large = (
            encoder(torch.tensor([framed(chunk, pad)]), output_hidden_states=True)
            for encoder, pad in zip(encoders, (49407, 0), strict=True)
        )
    expected = torch.cat([small.hidden_states[-2], large.hidden_states[-2]], -1)
    assert torch.equal(cond.context, expected)
    assert torch.equal(cond.pooled, large.text_embeds)
