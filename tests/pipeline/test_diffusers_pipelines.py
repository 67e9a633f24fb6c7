"""Runs that start from a picture, against diffusers' pipelines with the same networks and noise."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from sdcli.engine import generate
from sdcli.models.load import load
from sdcli.pipeline.start import start_of
from sdcli.pipeline.text import encode_prompts
from sdcli.pipeline.vae import grey_to_tensor
from sdcli.request.inputs import open_inputs
from sdcli.request.request import Request
from tests import judges
from tests.pictures import half_mask, photo

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("shared_models")]
SEED = 5


@pytest.fixture
def compare(tmp_path, monkeypatch):
    """compare("Img2Img", "test:sd1", given to the pipeline, asked of us): runs both, returns their distance."""
    monkeypatch.chdir(tmp_path)
    photo().save("in.png")
    half_mask().save("mask.png")
    photo(mode="L").save("depth.png")

    def call(pipeline: str, name: str, theirs: dict, **asked) -> float:
        import diffusers
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        if asked.get("like") != "diffusers":  # the pipelines sample the VAE's distribution; we take its mean
            monkeypatch.setattr(
                DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode()
            )
        model = load(name, "cpu", "float32")
        asked = {
            "negative": "a dog",
            "steps": 5,
            "cfg": 4.0,
            "sampler": "ddim",
            "schedule": "leading",
            **asked,
        }
        request = Request("a cat", model=name, seed=SEED, **asked)
        ours = generate(request).latents
        prompts = encode_prompts(model, model.with_defaults(open_inputs(request).fill_in_size(request)))
        prompt, negative = (prompt.parts[0].cond for prompt in prompts)
        betas = (0.0001, 0.02) if pipeline == "Upscale" else (0.00085, 0.012)
        scheduler = diffusers.DDIMScheduler(
            beta_start=betas[0], beta_end=betas[1], beta_schedule="scaled_linear", steps_offset=1, clip_sample=False,
            set_alpha_to_one=asked.get("like") != "diffusers", timestep_spacing="leading",
            prediction_type=model.prediction,
        )  # fmt: skip
        parts = {
            "vae": judges.vae(model), "unet": judges.unet(model),
            "text_encoder": judges.text_encoder(model), "tokenizer": None,
            "scheduler": scheduler, "safety_checker": None, "feature_extractor": None, "depth_estimator": None,
            "low_res_scheduler": diffusers.DDPMScheduler(
                beta_start=0.0001, beta_end=0.02, beta_schedule="scaled_linear"
            ),
        }  # fmt: skip
        kind = getattr(diffusers, f"StableDiffusion{pipeline}Pipeline")
        extra = {"requires_safety_checker": False} if "Pix2Pix" in pipeline or "paint" in pipeline else {}
        extra = {"requires_safety_checker": False} if pipeline == "Img2Img" else extra
        signature = kind.__init__.__code__.co_varnames
        pipe = kind(**{k: v for k, v in parts.items() if k in signature}, **extra)
        pipe.set_progress_bar_config(disable=True)
        made = pipe(
            prompt_embeds=prompt.context, negative_prompt_embeds=negative.context, guidance_scale=4.0,
            num_inference_steps=5, generator=torch.Generator().manual_seed(SEED), output_type="latent", **theirs,
        ).images  # fmt: skip
        assert made.shape == ours.shape
        return float((ours - made).norm() / made.norm())

    return call


@pytest.mark.parametrize("name", ["test:sd1", "test:sd2-v"])
@pytest.mark.parametrize("strength", [0.2, 0.6, 1.0])
def test_img2img_is_the_run_of_diffusers_pipeline(compare, name, strength):
    assert (
        compare(
            "Img2Img",
            name,
            {"image": photo(), "strength": strength},
            image="in.png",
            strength=strength,
        )
        < 1e-4
    )


@pytest.mark.parametrize("strength", [0.4, 0.8])
def test_inpainting_on_a_plain_model_is_the_run_of_diffusers_pipeline(compare, strength):
    theirs = {"image": photo(), "mask_image": half_mask(), "strength": strength, "height": 64, "width": 64}
    asked = {"image": "in.png", "mask": "mask.png", "mask_blur": 0, "strength": strength}
    assert compare("Inpaint", "test:sd1", theirs, **asked) < 1e-4


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_inpainting_on_an_inpainting_model_is_the_run_of_diffusers_pipeline(compare, strength):
    theirs = {"image": photo(), "mask_image": half_mask(), "strength": strength, "height": 64, "width": 64}
    asked = {"image": "in.png", "mask": "mask.png", "mask_blur": 0, "strength": strength}
    assert compare("Inpaint", "test:inpaint", theirs, **asked) < 1e-4


def test_depth_to_image_is_the_run_of_diffusers_pipeline(compare):
    depth = grey_to_tensor(photo(mode="L"))[0]
    theirs = {"image": photo(), "depth_map": depth, "strength": 0.8}
    assert compare("Depth2Img", "test:depth", theirs, image="in.png", depth="depth.png", strength=0.8) < 1e-4


def test_instructpix2pix_is_the_run_of_diffusers_pipeline(compare):
    theirs = {"image": photo(), "image_guidance_scale": 1.7}
    asked = {"image": "in.png", "guidance": "pix2pix:image_cfg=1.7"}
    assert compare("InstructPix2Pix", "test:pix2pix", theirs, **asked) < 1e-4


def full_size(file: str) -> str:
    from tests.checkpoints.test_checkpoint import published
    from tests.full_size import write

    return str(write(Path("full.safetensors").absolute(), published(file)))


@pytest.mark.parametrize("file", ["test:x4", pytest.param("x4-upscaler", marks=pytest.mark.slow)])
def test_the_x4_upscaler_is_the_run_of_diffusers_pipeline(compare, monkeypatch, file):
    from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_upscale as upscale

    photo(16, 16).save("small.png")
    name = file if file.startswith("test:") else full_size(file)
    asked = {"image": "small.png", "scale": 4.0, "noise_level": 20, "device": "cpu", "dtype": "float32"}
    model = load(name, "cpu", "float32")
    request = Request("a cat", model=name, seed=SEED, steps=5, **asked)
    given = open_inputs(request)
    job = model.with_defaults(given.fill_in_size(request))
    assert (job.width, job.height) == (64, 64)
    stream = start_of(model, job, given.at_size(job))
    random = torch.Generator().manual_seed(SEED)
    first, second = (torch.randn(1, 4, 16, 16, generator=random) for _ in range(2))
    assert stream.inputs.class_label == 20
    monkeypatch.setattr(upscale, "randn_tensor", lambda *_, **__: second[:, :3])
    theirs = {"image": photo(16, 16), "noise_level": 20, "latents": first}
    assert compare("Upscale", name, theirs, **asked) < 1e-4


LIKE = {
    "like": "diffusers"
}  # the config that Stable Diffusion 1 is published with, which ends at the lowest level


@pytest.mark.parametrize("strength", [0.5, 0.7, 1.0])
def test_img2img_by_the_published_scheduler_config_is_the_run_of_diffusers_pipeline(compare, strength):
    theirs = {"image": photo(), "strength": strength}
    assert compare("Img2Img", "test:sd1", theirs, image="in.png", strength=strength, **LIKE) < 1e-4


@pytest.mark.parametrize(
    ("name", "strength"), [("test:sd1", 0.7), ("test:inpaint", 0.7), ("test:inpaint", 1.0)]
)
def test_inpainting_by_the_published_scheduler_config_is_the_run_of_diffusers_pipeline(
    compare, name, strength
):
    theirs = {"image": photo(), "mask_image": half_mask(), "strength": strength, "height": 64, "width": 64}
    asked = {"image": "in.png", "mask": "mask.png", "mask_blur": 0, "strength": strength}
    assert compare("Inpaint", name, theirs, **asked, **LIKE) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "pipeline"),
    [
        ("sd15", "Img2Img"),
        ("sd15", "Inpaint"),
        ("sd15-inpaint", "Inpaint"),
        ("sd2-inpaint", "Inpaint"),
        ("sd2-depth", "Depth2Img"),
    ],
)
def test_runs_of_full_size_checkpoints_are_those_of_diffusers_pipelines(compare, file, pipeline):
    name = full_size(file)
    theirs = {"image": photo(), "strength": 0.6}
    asked = {"image": "in.png", "strength": 0.6, "device": "cpu", "dtype": "float32"}
    if pipeline == "Inpaint":
        theirs |= {"mask_image": half_mask(), "height": 64, "width": 64}
        asked |= {"mask": "mask.png", "mask_blur": 0}
    if pipeline == "Depth2Img":
        theirs |= {"depth_map": grey_to_tensor(photo(mode="L"))[0]}
        asked |= {"depth": "depth.png"}
    try:
        assert compare(pipeline, name, theirs, **asked, **LIKE) < 1e-3
    finally:
        Path(name).unlink()


def test_a_run_over_a_picture_at_strength_1_starts_with_the_noise_of_txt2img(compare):
    model = load("test:sd1", "cpu", "float32")

    def start(**asked):
        request = Request("a cat", model="test:sd1", seed=SEED, steps=5, **asked)
        given = open_inputs(request)
        job = model.with_defaults(given.fill_in_size(request))
        return start_of(model, job, given.at_size(job))

    words, both = start(), start(image="in.png", strength=1.0)
    assert both.sigmas == words.sigmas
    unit = words.x / (1 + words.sigmas[0] ** 2) ** 0.5
    from sdcli.pipeline import vae

    z = vae.encode(model, vae.to_tensor(Image.open("in.png")))
    assert torch.allclose(both.x, z + unit * words.sigmas[0], atol=1e-4)


def test_self_attention_guidance_is_the_run_of_diffusers_pipeline(compare):
    theirs = {"sag_scale": 0.75, "height": 64, "width": 64}
    assert compare("SAG", "test:sd1", theirs, guidance="sag:strength=0.75,blur=1") < 1e-4
