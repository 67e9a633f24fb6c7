"""--like comfyui inpaints as ComfyUI does: KSamplerX0Inpaint, VAEEncodeForInpaint, InpaintModelConditioning.

Version 0.1.0 replaced the estimate under the mask but left the noise that ancestral samplers add to what is kept, and
took a mask that does not lie on 8 pixels by its lightest pixel: latents 12 to 110 from ComfyUI's. The references are
ComfyUI's rules, written out here, on diffusers' VAE.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter

from sdcli import registry
from sdcli.models.load import load
from sdcli.pipeline.start import start_of
from sdcli.request.inputs import open_inputs
from sdcli.request.request import Request
from tests import judges
from tests.pictures import photo

SEED, STEPS = 5, 6
MASKS = {"on 8 pixels": (16, 24, 48, 56), "between": (13, 21, 50, 55), "thin": (30, 0, 33, 64)}


def denoise(x, sigma):
    """A network whose estimate at a latent depends on its neighbours."""
    return F.avg_pool2d(x, 3, 1, 1) / (1 + sigma**2) ** 0.5


def mask_image(box):
    mask = Image.new("L", (64, 64))
    mask.paste(255, box)
    return mask


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """runs("euler", MASKS["thin"], strength=0.6) -> (start, our last x, what ComfyUI would end with)."""
    monkeypatch.chdir(tmp_path)
    photo().save("in.png")

    def call(sampler, box, name="test:sd1", **asked):
        mask_image(box).save("mask.png")
        model = load(name, "cpu", "float32")
        files = {"image": "in.png", "mask": "mask.png", "mask_blur": 0}
        request = Request("x", model=name, seed=SEED, steps=STEPS, sampler=sampler, schedule="karras",
                          like="comfyui", rng="comfyui_cpu", **files, **asked)  # fmt: skip
        inputs = open_inputs(request)
        job = model.with_defaults(inputs.fill_in_size(request))
        start = start_of(model, job, inputs.at_size(job))
        *_, ours = registry.find("samplers", sampler)(
            start.keep_unmasked(denoise), start.x, start.sigmas, start.noise
        )
        grey = asked.get("masked_content") == "grey"
        return start, ours, comfyui(model, sampler, list(start.sigmas), grey)

    return call


def pixels_and_mask(grey):
    pixels = torch.from_numpy(np.array(photo())).float().permute(2, 0, 1)[None] / 255
    mask = torch.from_numpy(np.array(Image.open("mask.png"))).float()[None, None] / 255
    if grey:  # VAEEncodeForInpaint, grow_mask_by 6
        pixels = (pixels - 0.5) * (1 - mask.round()) + 0.5
        grown = F.conv2d(mask.round(), torch.ones(1, 1, 6, 6), padding=3)
        mask = grown.clamp(0, 1)[:, :, :64, :64].round()
    return pixels, mask


def comfyui(model, sampler, sigmas, grey=False):
    """A run of ComfyUI's KSAMPLER with KSamplerX0Inpaint round the network."""
    pixels, pixel_mask = pixels_and_mask(grey)
    vae = judges.vae(model)
    with torch.no_grad():
        latent = vae.encode(pixels * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
    mask = F.interpolate(pixel_mask, (8, 8), mode="bilinear")
    first = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(SEED))
    second = torch.Generator().manual_seed(SEED + 1)
    other = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(SEED + 1))
    shown = other if sampler == "ddim" else first
    highest = abs(sigmas[0] - 14.6146) < 1e-3
    x = latent + first * ((1 + sigmas[0] ** 2) ** 0.5 if highest else sigmas[0])
    before = None
    for i, (sigma, lower) in enumerate(pairwise(sigmas)):
        mixed = x * mask + (latent + shown * sigma) * (1 - mask)
        estimate = denoise(mixed, sigma) * mask + latent * (1 - mask)
        if sampler in ("euler", "ddim"):
            x = x + (x - estimate) / sigma * (lower - sigma)
        elif sampler == "euler_a":
            up = min(lower, (lower**2 * (sigma**2 - lower**2) / sigma**2) ** 0.5)
            down = (lower**2 - up**2) ** 0.5
            x = x + (x - estimate) / sigma * (down - sigma)
            if lower > 0:
                x = x + torch.randn(x.shape, generator=second) * up
        else:  # dpmpp_2m
            d = estimate
            if before is not None and lower > 0:
                h, h_last = np.log(sigma / lower), np.log(sigmas[i - 1] / sigma)
                d = (1 + h / h_last / 2) * estimate - h / h_last / 2 * before
            x = lower / sigma * x + (1 - lower / sigma) * d
            before = estimate
    return x


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("box", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("sampler", ["euler", "euler_a", "ddim", "dpmpp_2m"])
def test_a_masked_run_ends_as_comfyuis(runs, sampler, box, strength):
    _, ours, theirs = runs(sampler, box, strength=strength)
    assert torch.allclose(ours, theirs, atol=5e-4 * float(theirs.std()))


@pytest.mark.parametrize("box", MASKS.values(), ids=MASKS)
def test_masked_content_grey_is_vae_encode_for_inpaint(runs, box):
    _, ours, theirs = runs("euler_a", box, strength=1.0, masked_content="grey")
    assert torch.allclose(ours, theirs, atol=5e-4 * float(theirs.std()))


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_an_inpainting_model_is_held_by_the_mask_as_well(runs, strength):
    """InpaintModelConditioning with noise_mask, and concat_cond: bilinear, then rounded."""
    start, ours, theirs = runs("euler", MASKS["between"], "test:inpaint", strength=strength)
    assert torch.allclose(ours, theirs, atol=5e-4 * float(theirs.std()))
    pixel_mask = pixels_and_mask(False)[1]
    expected = F.interpolate(pixel_mask, (8, 8), mode="bilinear").round()
    assert torch.equal(start.inputs.concat[:, :1], expected)


def test_the_unguided_estimate_is_the_networks_own(runs):
    """CFG++ samplers of ComfyUI take it by a hook inside the mask's wrapper."""
    from sdcli.diffusion.uncond import uncond_of, with_uncond

    start, *_ = runs("euler", MASKS["between"], strength=1.0)
    guided = start.keep_unmasked(lambda x, sigma: with_uncond(x * 0, lambda: x * 0 - 2))
    assert (uncond_of(guided(start.x, 1.0)) == -2).all()


def test_masked_content_grey_goes_by_the_command_line_and_is_recorded(sd, toy):
    photo().save("in.png")
    mask_image(MASKS["between"]).save("mask.png")
    options = ["-m", toy, "-i", "in.png", "--mask", "mask.png", "--steps", 2, "--seed", 1]
    assert sd("inpaint", "x", *options, "--masked-content", "grey", "-o", "a.png").code == 0
    assert sd("inpaint", "x", *options, "-o", "b.png").code == 0
    assert Path("a.png").read_bytes() != Path("b.png").read_bytes()
    assert sd("again", "a.png", "-o", "c.png").code == 0
    assert Path("a.png").read_bytes() == Path("c.png").read_bytes()


def test_a1111_rounds_the_mask_that_pillow_brought_to_the_size_of_the_latents(tmp_path, monkeypatch):
    """processing.StableDiffusionProcessingImg2Img.init: latmask = np.around(mask.convert("RGB").resize(…) / 255)."""
    monkeypatch.chdir(tmp_path)
    photo().save("in.png")
    mask_image(MASKS["between"]).filter(ImageFilter.GaussianBlur(4)).save("mask.png")
    model = load("test:sd1", "cpu", "float32")
    request = Request(
        "x", model="test:sd1", seed=1, image="in.png", mask="mask.png", mask_blur=0, like="a1111"
    )
    inputs = open_inputs(request)
    job = model.with_defaults(inputs.fill_in_size(request))
    mask = start_of(model, job, inputs.at_size(job)).mask
    expected = np.around(
        np.array(Image.open("mask.png").convert("RGB").resize((8, 8)), np.float32)[..., 0] / 255
    )
    assert mask[0, 0].tolist() == expected.tolist()


@pytest.mark.parametrize(("like", "sampler", "said"), [
    ("comfyui", "euler_a", False), ("diffusers", "euler_a", False), ("a1111", "euler_a", False),
    ("a1111", "ddim", True), ("compvis", "ddim", True),
])  # fmt: skip
def test_what_is_not_taken_over_of_a_tools_masks_is_said(sd, toy, like, sampler, said):
    photo().save("in.png")
    mask_image(MASKS["between"]).save("mask.png")
    options = [
        "-m",
        toy,
        "-i",
        "in.png",
        "--mask",
        "mask.png",
        "--steps",
        2,
        "--like",
        like,
        "--sampler",
        sampler,
    ]
    assert ("the picture into x before each step" in sd("inpaint", "x", *options, "--seed", 1).err) == said
