"""C10 (sdnext#2734, ComfyUI#2172): leftovers of CLIP were refused under one name and ignored under the next."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from tests.full_size import write
from tests.single_file import layout

SD1 = [
    "cond_stage_model.logit_scale",
    "cond_stage_model.text_projection",
    "cond_stage_model.text_projection.weight",
    "cond_stage_model.clip_l.logit_scale",
    "cond_stage_model.clip_l.text_projection",
    "cond_stage_model.transformer.logit_scale",
    "cond_stage_model.transformer.text_projection.weight",
    "cond_stage_model.transformer.vision_model.pre_layrnorm.weight",
    "cond_stage_model.transformer.visual_projection.weight",
]
SDXL = [
    "conditioner.embedders.0.logit_scale",
    "conditioner.embedders.0.text_projection",
    "conditioner.embedders.0.transformer.text_projection.weight",
    "conditioner.embedders.1.logit_scale",
    "conditioner.embedders.1.model.logit_scale",
    "conditioner.embedders.1.model.transformer.text_model.embeddings.position_ids",
    "conditioner.embedders.1.model.visual.proj",
]


@pytest.mark.parametrize(("family", "keys"), [("sd1", SD1), ("sdxl", SDXL)])
def test_c10_leftovers_of_other_tools_are_ignored_and_listed_by_sd_info(sd, written, family, keys):
    small, path = written(family)
    write(path, {**layout(small, small.configs), **{key: [2, 2] for key in keys}})
    told = sd("info", path, "--json")
    assert (told.code, told.err) == (0, "")
    assert json.loads(told.lines[0])["ignored"] == sorted(keys)
    drawn = sd("txt2img", "a cat", "-m", path, "-s", 1, "-W", 64, "-H", 64, "-q")
    assert (drawn.code, drawn.err) == (0, "")


def test_c10_the_refiners_own_projection_is_not_taken_for_a_leftover(sd, written):
    _, path = written("sdxl_refiner")
    assert json.loads(sd("info", path, "--json").lines[0])["ignored"] == []


def test_c10_leftovers_in_a_folders_text_encoder_are_ignored(sd, toy, tmp_path):
    folder = shutil.copytree(toy, tmp_path / "x")
    path = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    some = next(iter(tensors.values()))
    keys = ["logit_scale", "vision_model.pre_layrnorm.weight", "text_projection.weight"]
    save_file({**tensors, **{key: some[:2].clone() for key in keys}}, path, {"format": "pt"})
    assert json.loads(sd("info", folder, "--json").lines[0])["ignored"] == keys
    assert sd("txt2img", "a cat", "-m", folder, "-s", 1).code == 0
