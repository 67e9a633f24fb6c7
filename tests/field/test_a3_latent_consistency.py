"""A3 (latent-consistency-model#58, minSDTF#2): an LCM's guidance embedding was loaded and never used, and a single file
with one was refused.
"""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdcli.engine import generate
from sdcli.models.cache import ModelCache
from sdcli.models.load import load
from sdcli.pipeline.text import encode_prompts
from sdcli.request.request import Request
from tests import judges
from tests.full_size import write
from tests.single_file import layout

pytestmark = pytest.mark.usefixtures("shared_models")

WIDTH = 24  # of the guidance embedding


@pytest.fixture(scope="module")
def folder(toy, tmp_path_factory):
    """The toy model as a latent consistency model that predicts epsilon."""
    folder = shutil.copytree(toy, tmp_path_factory.mktemp("lcm") / "x")
    config = folder / "unet" / "config.json"
    values = json.loads(config.read_text()) | {"time_cond_proj_dim": WIDTH}
    config.write_text(json.dumps(values))
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"prediction_type": "epsilon"}))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    noise = torch.randn(8, WIDTH, generator=torch.Generator().manual_seed(3))
    save_file({**load_file(weights), "time_embedding.cond_proj.weight": noise}, weights, {"format": "pt"})
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cfg", [1.0, 4.5, 8.0])
def test_a3_an_lcm_draws_the_latents_of_diffusers_pipeline(folder, cfg):
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler

    model = load(str(folder), "cpu", "float32")
    request = Request("a red apple", model=str(folder), seed=5, cfg=cfg, width=64, height=64)
    ours = generate(request)
    assert (ours.picture.request.steps, str(ours.picture.request.sampler)) == (4, "lcm")
    prompt = encode_prompts(model, model.with_defaults(request))[0].parts[0].cond
    pipe = LatentConsistencyModelPipeline(
        vae=judges.vae(model), unet=judges.unet(model), text_encoder=None, tokenizer=None, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
        scheduler=LCMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        prompt_embeds=prompt.context, guidance_scale=cfg, num_inference_steps=4, height=64, width=64,
        generator=torch.Generator().manual_seed(5), output_type="latent",
    ).images  # fmt: skip
    assert float((ours.latents - theirs).norm() / theirs.norm()) < 2e-3


def test_a3_the_guidance_embedding_decides_the_picture(sd, folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "x")
    weights = other / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["time_embedding.cond_proj.weight"] *= 1000
    save_file(tensors, weights, {"format": "pt"})
    drawn = [
        sd("txt2img", "a cat", "-m", path, "--seed", 1, "-o", "-", "--no-metadata")
        for path in (folder, other)
    ]
    assert [each.code for each in drawn] == [0, 0]
    assert drawn[0].out != drawn[1].out


def test_a3_each_step_asks_the_network_for_the_prompt_alone(folder):
    rows = []
    cache = ModelCache()
    request = Request("a cat", "a dog", model=str(folder), seed=1, width=64, height=64)
    with cache.use(request.loading) as used:
        used.unet.register_forward_pre_hook(lambda _, arguments: rows.append(len(arguments[0])))
        generate(request, cache)
    assert rows == [1, 1, 1, 1]


def test_a3_a_negative_prompt_and_another_guidance_are_not_dropped_silently(sd, folder):
    drawn = sd("txt2img", "a cat", "-n", "a dog", "-m", folder, "-s", 1)
    assert drawn.code == 0
    assert "the negative prompt has no effect on a latent consistency model" in drawn.err
    refused = sd("txt2img", "a cat", "-m", folder, "-s", 1, "--guidance", "pag")
    assert refused.code == 2
    assert refused.err.startswith("sd: --guidance pag: ")


def test_a3_a_single_file_of_an_lcm_is_recognised_and_drawn(sd, written):
    small, path = written("sd1")
    write(
        path, {**layout(small, small.configs), "model.diffusion_model.time_embed.cond_proj.weight": [16, 256]}
    )
    told = json.loads(sd("info", path, "--json").lines[0])
    assert told["guidance"].startswith("a latent consistency model")
    drawn = sd("txt2img", "a cat", "-m", path, "-W", 64, "-H", 64, "--json")
    assert (drawn.code, drawn.err) == (0, "")
    request = json.loads(drawn.lines[0])["request"]
    assert (request["sampler"], request["steps"], request["cfg"]) == ("lcm", 4, 8.0)
