"""--like diffusers draws in the order of diffusers' pipelines, from the one generator.

The pipelines first sample the VAE's distribution of the picture and then draw the noise of the latents; the x4 upscaler
draws the noise of the small picture first. Version 0.1.0 took the mean and drew the latents' noise first: 13 dB from
the pipeline's img2img, refiner, inpaint and upscale pictures. The judges are the pipelines themselves.
"""

import pytest

from tests.pictures import half_mask, photo
from tests.pipeline.test_diffusers_pipelines import LIKE, compare  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore")
MASKED = {"image": "in.png", "mask": "mask.png", "mask_blur": 0}
BOTH = {"height": 64, "width": 64}


@pytest.mark.parametrize("name", ["test:sd1", "test:sd2-v"])
@pytest.mark.parametrize("strength", [0.2, 0.6, 1.0])
def test_img2img_is_the_pipelines_run(compare, name, strength):  # noqa: F811
    theirs = {"image": photo(), "strength": strength}
    assert compare("Img2Img", name, theirs, image="in.png", strength=strength, **LIKE) < 1e-4


@pytest.mark.parametrize("strength", [0.4, 0.8, 1.0])
def test_inpainting_on_a_plain_model_is_the_pipelines_run(compare, strength):  # noqa: F811
    theirs = {"image": photo(), "mask_image": half_mask(), "strength": strength, **BOTH}
    assert compare("Inpaint", "test:sd1", theirs, strength=strength, **MASKED, **LIKE) < 1e-4


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_inpainting_on_an_inpainting_model_is_the_pipelines_run(compare, strength):  # noqa: F811
    theirs = {"image": photo(), "mask_image": half_mask(), "strength": strength, **BOTH}
    assert compare("Inpaint", "test:inpaint", theirs, strength=strength, **MASKED, **LIKE) < 1e-4


@pytest.mark.parametrize("model", ["test:sd1", "test:inpaint"])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_inpainting_with_noise_in_the_steps_is_the_pipelines_run(compare, model, strength):  # noqa: F811
    theirs = {"image": photo(), "mask_image": half_mask(), "strength": strength, "eta": 1.0, **BOTH}
    assert compare("Inpaint", model, theirs, strength=strength, **MASKED, **LIKE, sampler="ddim:eta=1") < 1e-4


def test_depth_to_image_is_the_pipelines_run(compare):  # noqa: F811
    from sdcli.pipeline.vae import grey_to_tensor

    theirs = {"image": photo(), "depth_map": grey_to_tensor(photo(mode="L"))[0], "strength": 0.8}
    asked = {"image": "in.png", "depth": "depth.png", "strength": 0.8}
    assert compare("Depth2Img", "test:depth", theirs, **asked, **LIKE) < 1e-4


def test_instructpix2pix_is_the_pipelines_run(compare):  # noqa: F811
    theirs = {"image": photo(), "image_guidance_scale": 1.7}
    asked = {"image": "in.png", "guidance": "pix2pix:image_cfg=1.7"}
    assert compare("InstructPix2Pix", "test:pix2pix", theirs, **asked, **LIKE) < 1e-4


@pytest.mark.parametrize("noise_level", [0, 20, 350])
def test_the_x4_upscaler_is_the_pipelines_run(compare, noise_level):  # noqa: F811
    photo(16, 16).save("small.png")
    theirs = {"image": photo(16, 16), "noise_level": noise_level}
    asked = {"image": "small.png", "scale": 4.0, "noise_level": noise_level}
    assert compare("Upscale", "test:x4", theirs, **asked, **LIKE) < 1e-4


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_the_refiner_is_the_pipelines_run(tmp_path, monkeypatch, strength):
    import diffusers
    import torch

    from sdcli.engine import generate
    from sdcli.models.load import load
    from sdcli.pipeline.text import encode_prompts
    from sdcli.request.inputs import open_inputs
    from sdcli.request.request import Request
    from tests import judges

    monkeypatch.chdir(tmp_path)
    photo(128, 128).save("in.png")
    request = Request("a cat", negative="a dog", model="test:refiner", seed=5, steps=5, cfg=4.0, image="in.png",
                      strength=strength, sampler="ddim", schedule="leading", **LIKE)  # fmt: skip
    model = load("test:refiner", "cpu", "float32")
    ours = generate(request).latents
    prompts = encode_prompts(model, model.with_defaults(open_inputs(request).fill_in_size(request)))
    positive, negative = (prompt.parts[0].cond for prompt in prompts)
    pipe = diffusers.StableDiffusionXLImg2ImgPipeline(
        vae=judges.vae(model), unet=judges.unet(model), text_encoder=None, tokenizer=None, tokenizer_2=None,
        text_encoder_2=judges.text_encoder(model, "text_encoder_2"), requires_aesthetics_score=True,
        add_watermarker=False,
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False,
            set_alpha_to_one=False, timestep_spacing="leading",
        ),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        prompt_embeds=positive.context, negative_prompt_embeds=negative.context, guidance_scale=4.0,
        pooled_prompt_embeds=positive.pooled, negative_pooled_prompt_embeds=negative.pooled,
        image=photo(128, 128), strength=strength, num_inference_steps=5, output_type="latent",
        generator=torch.Generator().manual_seed(5),
    ).images  # fmt: skip
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4
