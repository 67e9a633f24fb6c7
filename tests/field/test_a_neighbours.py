"""A7 (diffusers#3401, #3573, #3984 and their kin): published neighbours of Stable Diffusion, as folders of narrow
networks. Each is drawn, or refused in one line with exit code 3, the same one from drawing, info, models and convert.
"""

import json
import shutil
from pathlib import Path

import pytest

from tests.field.test_a1_edm_schedules import COSXL, PLAYGROUND
from tests.field.test_a7_one_accounting import refusals
from tests.pictures import photo

SD = "StableDiffusionPipeline"
SD_TRAINED = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
}  # fmt: skip
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
ADDED = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 2048}

DRAWN = {  # model -> (pipeline, scheduler)
    "Playground v2.5 of narrow networks": (SD, PLAYGROUND),
    "CosXL of narrow networks": (SD, COSXL),
}
REFUSED = {  # model -> (keys of model_index.json, U-Net's settings, scheduler, what the line says)
    "unCLIP": ({"_class_name": "StableUnCLIPPipeline"}, ADDED, {}, "StableUnCLIPPipeline"),
    "unCLIP as SD": ({"_class_name": SD}, ADDED, {}, "class_embed_type"),
    "GLIGEN": ({"_class_name": "StableDiffusionGLIGENPipeline"}, {"attention_type": "gated"}, {}, "GLIGEN"),
    "GLIGEN as SD": ({"_class_name": SD}, {"attention_type": "gated"}, {}, "attention_type"),
    "Kandinsky 2.2": (
        {"_class_name": "KandinskyV22Pipeline"}, {"encoder_hid_dim_type": "image_proj"}, {}, "Kandinsky",
    ),
    "DeepFloyd IF": ({"_class_name": "IFPipeline"}, {"encoder_hid_dim_type": "text_proj"}, {}, "IFPipeline"),
    "Wuerstchen": ({"_class_name": "WuerstchenDecoderPipeline"}, {}, {}, "Wuerstchen"),
    "Stable Cascade": ({"_class_name": "StableCascadeDecoderPipeline"}, {}, {}, "StableCascade"),
    "AudioLDM": ({"_class_name": "AudioLDMPipeline"}, {"class_embeddings_concat": True}, {}, "AudioLDM"),
    "SVD": ({"_class_name": "StableVideoDiffusionPipeline"}, {"num_frames": 14}, {}, "StableVideoDiffusion"),
    "Zero123": ({"_class_name": "Zero123Pipeline", "cc_projection": ["x", "y"]}, {}, {}, "Zero123"),
    "Flux": ({"_class_name": "FluxPipeline"}, {}, FLOW, "Flux"),
    "SD3": ({"_class_name": "StableDiffusion3Pipeline"}, {}, FLOW, "StableDiffusion3"),
    "flow matching as SD": ({"_class_name": SD}, {}, FLOW, "FlowMatch"),
    "SDXL pix2pix": ({"_class_name": "StableDiffusionXLInstructPix2PixPipeline"}, {}, {}, "Pix2Pix"),
    "ControlNet's pipeline": (
        {"_class_name": "StableDiffusionControlNetPipeline", "controlnet": ["diffusers", "ControlNetModel"]},
        {}, {}, "'controlnet'",
    ),
    "a T2I-Adapter's pipeline": ({"_class_name": SD, "adapter": ["diffusers", "T2IAdapter"]}, {}, {}, "'adapter'"),
}  # fmt: skip


def neighbour(toy, folder, index, unet, scheduler):
    """The toy model with these keys in its model_index.json and configs."""
    shutil.copytree(toy, folder)
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **unet}))
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler or SD_TRAINED))
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("model", REFUSED)
def test_a7_a_neighbour_that_is_not_drawn_is_refused_in_one_line_by_all(
    sd, toy, tmp_path, monkeypatch, model
):
    *made_of, said = REFUSED[model]
    assert said in refusals(sd, monkeypatch, neighbour(toy, tmp_path / "models" / "x", *made_of))


@pytest.mark.parametrize("model", DRAWN)
def test_a7_a_neighbour_that_differs_in_its_scheduler_alone_is_drawn(sd, toy, tmp_path, model):
    pipeline, scheduler = DRAWN[model]
    folder = neighbour(toy, tmp_path / "x", {"_class_name": pipeline}, {}, scheduler)
    told, drawn = sd("info", folder), sd("txt2img", "a cat", "-m", folder, "-s", 2, "--seed", 1)
    assert (told.code, drawn.code) == (0, 0), (told.err, drawn.err)
    assert scheduler["_class_name"] in told.out.decode()
    assert len(drawn.lines) == 1


def test_a7_a_controlnet_that_the_index_leaves_out_is_no_fault(sd, toy, tmp_path):
    index = {"_class_name": SD, "controlnet": [None, None], "image_encoder": [None, None]}
    ran = sd("txt2img", "a cat", "-m", neighbour(toy, tmp_path / "x", index, {}, {}), "-s", 1)
    assert ran.code == 0, ran.err


TURBO = {**SD_TRAINED, "_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"}
OF_PUBLISHED_WIDTH = {  # model -> (test model of the same family, scheduler, sampler and schedule it is drawn with)
    "SD-Turbo": ("test:sd2", {**TURBO, "_class_name": "EulerDiscreteScheduler"}, "euler", "trailing"),
    "SDXL-Turbo": ("test:sdxl", TURBO, "euler_a", "trailing"),
    "LCM-SDXL without its embedding": (
        "test:sdxl", {**SD_TRAINED, "_class_name": "LCMScheduler"}, "lcm", "trailing:among=50",
    ),
    "Playground v2.5": ("test:sdxl", PLAYGROUND, "dpmpp_2m", "karras"),
    "CosXL": ("test:sdxl", COSXL, "euler", "exponential"),
    "InstructPix2Pix": (
        "test:pix2pix", {**TURBO, "timestep_spacing": "linspace"}, "euler_a", "uniform",
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", OF_PUBLISHED_WIDTH)
def test_a2_a_neighbour_of_published_width_is_drawn_with_the_sampler_of_its_scheduler(sd, model):
    like, scheduler, sampler, schedule = OF_PUBLISHED_WIDTH[model]
    assert sd("models", "convert", like, "folder").code == 0
    Path("folder/scheduler/scheduler_config.json").write_text(json.dumps(scheduler))
    photo(64, 64).save("in.png")
    image = ["-i", "in.png"] if "pix2pix" in like else []
    ran = sd("img2img" if image else "txt2img", "a cat", *image, "-m", "folder", "--seed", 1, "--json")
    assert ran.code == 0, ran.err
    request = json.loads(ran.out)["request"]
    assert (request["sampler"], request["schedule"]) == (sampler, schedule)
    assert f"{sampler}, schedule {schedule}, by" in sd("info", "folder").out.decode()
