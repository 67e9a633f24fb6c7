"""A7, A8 (diffusers#3401, #3573, #3984, stablediffusion#223, stable-diffusion.cpp#158): U-Nets that want more than they
are given ended in a traceback or a wrong picture, while `sd info` and `sd models` called them fine.
"""

import json
import shutil

import pytest

WANTS_MORE = {  # what a published U-Net has -> its settings
    "unCLIP": {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 1536},
    "class label as a timestep": {"class_embed_type": "timestep"},
    "class label as it is": {"class_embed_type": "identity"},
    "AudioLDM": {"class_embed_type": "simple_projection", "class_embeddings_concat": True},
    "classes": {"num_class_embeds": 10},
    "Kandinsky 2.1": {"encoder_hid_dim_type": "text_image_proj", "encoder_hid_dim": 1024},
    "Kandinsky 2.2": {"encoder_hid_dim_type": "image_proj", "addition_embed_type": "image"},
    "Kandinsky 2.2 with a hint": {"addition_embed_type": "image_hint"},
    "Kandinsky 2.1 with both": {"addition_embed_type": "text_image"},
    "DeepFloyd IF": {"encoder_hid_dim_type": "text_proj", "encoder_hid_dim": 4096},
    "GLIGEN": {"attention_type": "gated"},
    "Fourier time": {"time_embedding_type": "fourier"},
    "Versatile Diffusion": {"dual_cross_attention": True},
    "another first convolution": {"conv_in_kernel": 1},
    "another last convolution": {"conv_out_kernel": 5},
    "k-diffusion's upscaler": {"timestep_post_act": "silu", "time_embedding_act_fn": "gelu"},
    "an unknown block": {"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"},
    "a key of tomorrow": {"brand_new_key": 1},
}


def with_settings(toy, folder, part, changes):
    """A copy of the toy model whose config of this part is changed."""
    shutil.copytree(toy, folder)
    path = folder / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def refusals(sd, monkeypatch, folder):
    """What drawing says of a model, after checking that `sd info`, `sd models` and converting say the same."""
    monkeypatch.setenv("SDCLI_MODELS", str(folder.parent))
    drawn = sd("txt2img", "a cat", "-m", folder, "-s", 1)
    told = sd("info", folder)
    converted = sd("models", "convert", folder, folder.parent / "out.safetensors")
    listed = json.loads(next(line for line in sd("models", "--json").lines if f'"{folder}"' in line))["fault"]
    assert (drawn.code, told.code, converted.code) == (3, 3, 3), (drawn.err, told.err, converted.err)
    assert drawn.err == told.err == converted.err
    assert len(drawn.err.splitlines()) == 1
    assert f"sd: {listed}\n" == drawn.err
    return drawn.err


@pytest.mark.parametrize("kind", WANTS_MORE)
def test_a7_a_unet_that_wants_more_than_it_is_given_is_refused_in_one_line_by_all(
    sd, toy, tmp_path, monkeypatch, kind
):
    folder = with_settings(toy, tmp_path / "models" / "x", "unet", WANTS_MORE[kind])
    refused = refusals(sd, monkeypatch, folder)
    assert any(key in refused for key in WANTS_MORE[kind]) or "class" in refused


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("unet", {"layers_per_block": 2}),
        ("unet", {"block_out_channels": [8, 24]}),
        ("unet", {"norm_num_groups": 3}),
        ("vae", {"latent_channels": 4, "block_out_channels": [4, 4, 8, 12]}),
        ("vae", {"act_fn": "snake"}),
        ("text_encoder", {"num_hidden_layers": 2}),
        ("text_encoder", {"intermediate_size": 65}),
        ("text_encoder", {"hidden_act": "relu"}),
        ("text_encoder", {"eos_token_id": True}),
        ("unet", {"norm_num_groups": True}),
        ("vae", {"layers_per_block": 0}),
    ],
)
def test_a8_a_network_that_is_not_what_its_config_says_is_refused_in_one_line_by_all(
    sd, toy, tmp_path, monkeypatch, part, changes
):
    folder = with_settings(toy, tmp_path / "models" / "x", part, changes)
    assert str(folder / part) in refusals(sd, monkeypatch, folder)
