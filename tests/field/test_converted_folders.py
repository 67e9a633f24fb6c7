"""Conventions: a converted folder of every family opens and draws in diffusers, and keeps its scheduler.

Version 0.1 left out the upscaler's low_res_scheduler and the depth model's feature_extractor, said nothing of the
refiner's aesthetic scores, and made every scheduler a DDIM one.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdcli.checkpoints import toy

PROMPT = {"prompt": "a cat", "num_inference_steps": 1, "output_type": "np"}


def picture() -> Image.Image:
    return Image.radial_gradient("L").resize((64, 64)).convert("RGB")


INPUTS = {
    "test:inpaint": lambda: {"image": picture(), "mask_image": picture(), "height": 64, "width": 64},
    "test:depth": lambda: {"image": picture(), "strength": 1.0},
    "test:pix2pix": lambda: {"image": picture()},
    "test:x4": lambda: {"image": picture()},
    "test:refiner": lambda: {"image": picture(), "strength": 1.0},
}
"""Test model -> what its pipeline is given besides the prompt."""


def opened(folder: str):
    from diffusers import DiffusionPipeline

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", toy.MODELS)
def test_conventions_a_converted_folder_of_every_family_opens_and_draws_in_diffusers(sd, model):
    assert sd("models", "convert", model, "folder").code == 0
    pipe = opened("folder")
    assert type(pipe).__name__ == toy.family(model)[0].pipeline
    image = pipe(**PROMPT, **INPUTS.get(model, dict)()).images[0]
    side = 256 if model == "test:x4" else 64
    assert image.shape == (side, side, 3)
    assert np.isfinite(image).all()


def test_conventions_the_refiner_is_told_to_read_aesthetic_scores(sd):
    assert sd("models", "convert", "test:refiner", "folder").code == 0
    index = json.loads(Path("folder/model_index.json").read_text())
    assert index["requires_aesthetics_score"] is True
    assert index["force_zeros_for_empty_prompt"] is False


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("scheduler", "settings"),
    [
        ("EulerDiscreteScheduler", {"timestep_spacing": "linspace", "use_karras_sigmas": True}),
        ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}),
        ("EulerAncestralDiscreteScheduler", {"prediction_type": "v_prediction"}),
        (
            "DDIMScheduler",
            {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "clip_sample": False},
        ),
    ],
)
def test_conventions_the_class_and_the_settings_of_a_scheduler_are_kept(sd, scheduler, settings):
    import diffusers

    assert sd("models", "convert", "test:sdxl", "folder").code == 0
    made = getattr(diffusers, scheduler)(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **settings
    )
    made.save_pretrained("folder/scheduler")
    index = json.loads(Path("folder/model_index.json").read_text())
    Path("folder/model_index.json").write_text(json.dumps({**index, "scheduler": ["diffusers", scheduler]}))
    assert sd("models", "convert", "folder", "copy").code == 0
    pipe = opened("copy")
    assert type(pipe.scheduler) is getattr(diffusers, scheduler)
    assert dict(pipe.scheduler.config) == dict(opened("folder").scheduler.config)
    assert (
        Path("folder/scheduler/scheduler_config.json").read_text()
        == Path("copy/scheduler/scheduler_config.json").read_text()
    )


@pytest.mark.parametrize(
    ("model", "file", "changes"),
    [
        ("test:x4", "low_res_scheduler/scheduler_config.json", {"clip_sample": False, "beta_end": 0.02}),
        ("test:depth", "feature_extractor/preprocessor_config.json", {"resample": 2}),
    ],
)
def test_conventions_settings_beside_the_networks_are_kept(sd, model, file, changes):
    assert sd("models", "convert", model, "folder").code == 0
    settings = {**json.loads(Path("folder", file).read_text()), **changes}
    Path("folder", file).write_text(json.dumps(settings))
    assert sd("models", "convert", "folder", "copy").code == 0
    assert json.loads(Path("copy", file).read_text()) == settings
