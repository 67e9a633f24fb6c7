"""Kind A (Playground v2.5, CosXL Edit, GLIGEN, …): settings of the VAE and of model_index.json that change the
picture are honoured as diffusers honours them, or refused by name.
"""

import json
import shutil

import pytest
import torch

from sdcli.models.load import load
from sdcli.pipeline import vae
from sdcli.pipeline.text import encode_prompts
from sdcli.request.request import Request
from tests import judges

MEAN, STD = [-1.6574, 1.886, -1.383, 2.5155], [8.4927, 5.9022, 6.5498, 5.2299]  # Playground v2.5's


def changed(folder, part, **changes):
    path = folder / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(sd, folder) -> str:
    """What drawing and `sd info` say, which must be the same line."""
    told, drawn = sd("info", folder), sd("txt2img", "a cat", "-m", folder)
    assert told.code == drawn.code == 3
    assert told.err == drawn.err
    assert told.err.count("\n") == 1
    return told.err


@pytest.fixture
def folder(toy, tmp_path):
    return shutil.copytree(toy, tmp_path / "x")


@pytest.mark.filterwarnings("ignore")
def test_the_mean_and_deviation_of_a_vaes_latents_are_applied_as_diffusers_does(folder):
    changed(folder, "vae", latents_mean=MEAN, latents_std=STD)
    model = load(str(folder), "cpu", "float32")
    theirs = judges.vae(model)
    mean, std = (torch.tensor(values).view(1, 4, 1, 1) for values in (MEAN, STD))
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs.decode(x * std / theirs.config.scaling_factor + mean).sample
        pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2)).clamp(-1, 1)
        latents = theirs.encode(pixels).latent_dist.mode()
    assert torch.allclose(vae._decoded(model, x), expected, atol=1e-4)
    encoded = (latents - mean) * theirs.config.scaling_factor / std
    assert torch.allclose(vae.encode(model, pixels), encoded, atol=1e-4)


def test_the_mean_and_deviation_of_a_vaes_latents_change_the_picture(sd, toy, folder):
    changed(folder, "vae", latents_mean=MEAN, latents_std=STD)
    drawn = [
        sd("txt2img", "a cat", "-m", model, "--seed", 1, "-s", 1, "-o", "-", "--no-metadata").out
        for model in (toy, folder)
    ]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"latents_mean": MEAN},
        {"latents_std": STD},
        {"latents_mean": MEAN, "latents_std": [1.0, 1.0, 0.0, 1.0]},
        {"latents_mean": MEAN[:3], "latents_std": STD},
        {"latents_mean": "zero", "latents_std": STD},
        {"latents_mean": MEAN, "latents_std": 2.0},
    ],
    ids=str,
)
def test_latents_that_are_half_described_are_refused_in_one_line(sd, folder, changes):
    changed(folder, "vae", **changes)
    assert "latents_" in refused(sd, folder)


def indexed(folder, **index):
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize(
    "pipeline",
    [
        "StableDiffusionGLIGENPipeline",
        "StableUnCLIPPipeline",
        "StableDiffusionImageVariationPipeline",
        "StableDiffusionXLInstructPix2PixPipeline",
        "StableDiffusion3Pipeline",
        "KandinskyV22Pipeline",
        "WuerstchenDecoderPipeline",
        "AudioLDMPipeline",
        "IFPipeline",
        "Zero1to3StableDiffusionPipeline",
        "TextToVideoSDPipeline",
        "AnimateDiffPipeline",
        "MarigoldDepthPipeline",
        "PaintByExamplePipeline",
        "StableVideoDiffusionPipeline",
        "DiTPipeline",
        "AltDiffusionPipeline",
    ],
)
def test_a_pipeline_that_does_something_else_is_refused_by_its_name(sd, folder, pipeline):
    assert pipeline in refused(sd, indexed(folder, _class_name=pipeline))


@pytest.mark.parametrize("pipeline", ["StableDiffusionPipeline", "LatentConsistencyModelPipeline"])
def test_a_pipeline_that_draws_from_a_prompt_is_drawn(sd, folder, pipeline):
    parts = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "safety_checker": [None, None],
        "image_encoder": None,
    }
    indexed(folder, _class_name=pipeline, requires_safety_checker=False, **parts)
    assert sd("txt2img", "a cat", "-m", folder, "-s", 1).code == 0


@pytest.mark.parametrize(
    "setting",
    [
        {"motion_adapter": ["diffusers", "MotionAdapter"]},
        {"prior": ["diffusers", "PriorTransformer"]},
        {"is_cosxl_edit": True},
        {"requires_aesthetics_score": True},
        {"force_zeros_for_empty_prompt": "yes"},
    ],
    ids=str,
)
def test_a_part_or_a_setting_of_a_pipeline_that_is_not_known_is_refused_by_its_name(sd, folder, setting):
    indexed(folder, _class_name="StableDiffusionPipeline", **setting)
    assert next(iter(setting)) in refused(sd, folder)


@pytest.mark.parametrize(("setting", "zeros"), [(None, True), (True, True), (False, False)])
def test_an_empty_negative_prompt_is_zeros_if_the_index_says_so(sd, written, tmp_path, setting, zeros):
    _, path = written("sdxl")
    folder = tmp_path / "folder"
    assert sd("models", "convert", path, folder).code == 0
    index = json.loads((folder / "model_index.json").read_text())
    index.pop("force_zeros_for_empty_prompt")
    if setting is not None:
        index["force_zeros_for_empty_prompt"] = setting
    indexed(folder, **index)
    model = load(str(folder), "cpu", "float32")
    negative = encode_prompts(model, model.with_defaults(Request("a cat", seed=1)))[1].parts[0].cond
    assert bool(negative.context.any()) != zeros
    assert bool(negative.pooled.any()) != zeros
