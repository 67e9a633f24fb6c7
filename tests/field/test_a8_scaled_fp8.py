"""A8: single files whose weights are stored as 8-bit floats, alone or with `.scale_weight` beside each as ComfyUI
writes them, were refused by drawing and called fine by `sd info`.
"""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdcli.models.load import load


def quantised(path, name):
    """A copy of a single file with the linear weights of its U-Net as scaled 8-bit floats; their values are kept."""
    tensors, kept = {}, {}
    for key, tensor in load_file(path).items():
        tensors[key] = tensor
        if key.startswith("model.diffusion_model.") and key.endswith(".weight") and tensor.dim() == 2:
            scale = tensor.float().abs().max() / 448
            tensors[key] = (tensor.float() / scale).to(torch.float8_e4m3fn)
            tensors[key.removesuffix("weight") + name] = scale
            tensors[key.removesuffix("weight") + "scale_input"] = torch.ones(())
            kept[key] = tensors[key].float() * scale
    tensors["model.diffusion_model.scaled_fp8"] = torch.empty(0, dtype=torch.float8_e4m3fn)
    return tensors, kept


@pytest.mark.parametrize("name", ["scale_weight", "weight_scale"])
def test_a8_scaled_8_bit_weights_are_multiplied_by_their_scales(sd, written, name):
    _, path = written("sd1")
    tensors, kept = quantised(path, name)
    save_file(tensors, path)
    told = json.loads(sd("info", path, "--json").lines[0])
    assert "model.diffusion_model.scaled_fp8" in told["ignored"]
    assert not any(name in key for key in told["ignored"])
    drawn = sd("txt2img", "a cat", "-m", path, "-s", 1, "-W", 64, "-H", 64)
    assert (drawn.code, drawn.err) == (0, "")
    weights = load(str(path), "cpu", "float32").unet.state_dict()
    key = "model.diffusion_model.time_embed.0.weight"
    assert torch.equal(weights["time_embedding.linear_1.weight"], kept[key])


def test_a8_plain_8_bit_weights_are_loaded_as_they_are(sd, written):
    _, path = written("sd1")
    key = "model.diffusion_model.time_embed.0.weight"
    tensors = load_file(path)
    tensors[key] = tensors[key].to(torch.float8_e5m2)
    save_file(tensors, path)
    assert sd("info", path).code == 0
    weights = load(str(path), "cpu", "float32").unet.state_dict()
    assert torch.equal(weights["time_embedding.linear_1.weight"], tensors[key].float())


def test_a8_a_scale_of_several_numbers_is_refused_by_all_in_one_line(sd, written):
    _, path = written("sd1")
    tensors = load_file(path)
    tensors["model.diffusion_model.time_embed.0.scale_weight"] = torch.ones(3)
    save_file(tensors, path)
    told, drawn = sd("info", path), sd("txt2img", "a cat", "-m", path)
    assert told.code == drawn.code == 3
    assert told.err == drawn.err
    assert "not one number to scale by" in told.err
