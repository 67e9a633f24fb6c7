"""Full-size checkpoints against stored answers of the reference codes from the same weights; minutes and gigabytes."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sdcli import registry
from sdcli.diffusion.conditioning import Composed, Cond, composed
from sdcli.models.load import load
from sdcli.pipeline import vae
from sdcli.pipeline.encode import encode_chunks
from sdcli.pipeline.unet import call_unet, predictor
from tests.checkpoints.test_checkpoint import published
from tests.full_size import normal, picture, write
from tests.tokens import plain

GOLDEN = Path(__file__).parent.parent / "golden" / "full_size"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["sd15", "sd21-v", "sdxl-base"])
def loaded(request, tmp_path_factory):
    """(family, model in float32, stored answers), from a file written for the purpose."""
    path = write(tmp_path_factory.mktemp("full") / "x.safetensors", published(request.param))
    prediction = "v_prediction" if request.param == "sd21-v" else "auto"
    answers = load_file(GOLDEN / f"{request.param}.safetensors")
    yield request.param, load(str(path), "cpu", "float32", prediction=prediction), answers
    path.unlink()


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(normal(seed, *shape))


def apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Relative L2 distance."""
    return float((ours - theirs).norm() / theirs.norm())


def test_the_unet_predicts_as_the_reference_does(loaded):
    family, model, answers = loaded
    width = model.configs["unet"]["cross_attention_dim"]
    for i, t in enumerate(answers["unet.t"].tolist()):
        cond = Cond(random(2000 + i, 1, 77, width))
        if family == "sdxl-base":
            cond = Cond(cond.context, random(6000 + i, 1, 1280), tuple(map(float, answers["cond"].tolist())))
        out = call_unet(model, random(1000 + i, 1, 4, 32, 32), float(t), [cond])
        assert apart(out, answers[f"unet.{i}.out"]) < 5e-5


@torch.inference_mode()
def test_the_vae_decodes_as_the_reference_does(loaded):
    _, model, answers = loaded
    z = random(4000, 1, 4, 32, 32) / model.configs["vae"]["scaling_factor"]
    assert apart(model.vae.decode(z)[:, :, ::8, ::8], answers["vae.decode.out"]) < 5e-5


@torch.inference_mode()
def test_the_vae_encodes_to_the_mean_and_log_variance_of_the_reference(loaded):
    _, model, answers = loaded
    image = torch.from_numpy(picture())
    latents = vae.encode(model, image) / model.configs["vae"]["scaling_factor"]
    assert apart(latents, answers["vae.encode.mean"]) < 5e-5
    assert apart(model.vae.moments(image)[1], answers["vae.encode.logvar"]) < 5e-5


def test_the_text_encoders_give_the_states_of_the_reference(loaded):
    family, model, answers = loaded
    chunks = plain(row[1 : row.index(49407)] for row in answers["text.tokens"].tolist())
    if family == "sdxl-base":
        low, _ = encode_chunks(model, "text_encoder", chunks)
        high, pooled = encode_chunks(model, "text_encoder_2", chunks)
        assert apart(low[:, :, ::16], answers["text.l"]) < 5e-5
        assert apart(high[:, :, ::16], answers["text.g"]) < 5e-5
        assert apart(pooled, answers["text.pooled"]) < 5e-5
        return
    for chunk, answer in zip(chunks, answers["text.out"], strict=True):
        assert apart(encode_chunks(model, "text_encoder", [chunk])[0][0, :, ::16], answer) < 5e-5


def test_a_short_ddim_run_ends_at_the_latents_of_the_reference(loaded):
    family, model, answers = loaded
    chunks = plain(row[1 : row.index(49407)] for row in answers["text.tokens"].tolist())
    if family == "sdxl-base":
        low, (high, pooled) = (
            encode_chunks(model, "text_encoder", chunks)[0],
            encode_chunks(model, "text_encoder_2", chunks),
        )
        prompt = Cond(torch.cat([low, high], -1), pooled, tuple(map(float, answers["cond"].tolist())))
        negative = Cond(prompt.context * 0, pooled * 0, prompt.time_ids)
        sigmas = answers["run.sigmas"].tolist()
    else:
        prompt, negative = (Cond(encode_chunks(model, "text_encoder", [chunk])[0]) for chunk in chunks)
        sigmas = [model.levels.sigma(t) for t in answers["run.timesteps"].tolist()] + [model.levels.sigma_min]
    predict = composed(predictor(model))
    cfg = registry.find("guidance", "cfg")
    denoise = cfg(predict, Composed.plain(prompt), Composed.plain(negative), 7.5)
    x = random(5000, 1, 4, 32, 32) * math.sqrt(1 + sigmas[0] ** 2)
    *_, x = registry.find("samplers", "ddim")(denoise, x, sigmas, None)
    assert apart(x / math.sqrt(1 + sigmas[-1] ** 2), answers["run.latent"]) < 1e-4
