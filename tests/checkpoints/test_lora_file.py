"""LoRA files: every tensor belongs to a module of the model, or is named."""

import json
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from sdcli.checkpoints import lora_file, tensor_shapes
from sdcli.checkpoints.adapter_info import describe
from sdcli.checkpoints.keys.adapters import Module, spellings
from sdcli.checkpoints.lora_suffixes import SUFFIXES as SPELLED
from sdcli.checkpoints.lora_suffixes import split_key
from sdcli.errors import ModelError, SdError
from sdcli.registry import find
from tests.adapters import loras

FULL_SIZE = {
    name: {
        part: tensor_shapes.of_network(part, config, name)
        for part, config in find("families", name).configs.items()
        if part == "unet" or part.startswith("text_encoder")
    }
    for name in ("sd1", "sd2", "sdxl")
}
ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
XL_ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
LAYER = "encoder.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("family", "spelling", "part", "path"),
    [
        ("sd1", "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", "unet", ATTENTION),
        ("sd1", "lora_te_text_model_encoder_layers_0_self_attn_q_proj", "text_encoder", LAYER),
        ("sd1", "lora_te_encoder_layers_0_self_attn_q_proj", "text_encoder", LAYER),
        ("sd2", "lora_te_text_model_encoder_layers_0_self_attn_q_proj", "text_encoder", LAYER),
        ("sdxl", "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q", "unet", XL_ATTENTION),
        ("sdxl", "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q", "unet", XL_ATTENTION),
        ("sdxl", "lora_te1_text_model_encoder_layers_0_self_attn_q_proj", "text_encoder", LAYER),
        ("sdxl", "lora_te2_text_model_encoder_layers_0_self_attn_q_proj", "text_encoder_2", LAYER),
        ("sdxl", "lycoris_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q", "unet", XL_ATTENTION),
        ("sd1", "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q", "unet", ATTENTION),
        ("sd1", "text_encoders.clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj", "text_encoder", LAYER),
        ("sd1", f"unet.{ATTENTION}", "unet", ATTENTION),
        ("sd1", f"text_encoder.text_model.{LAYER}", "text_encoder", LAYER),
        ("sdxl", f"text_encoder_2.text_model.{LAYER}", "text_encoder_2", LAYER),
        ("sd1", "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q", "unet", ATTENTION),
        ("sd1", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out", "unet",
         "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"),
        ("sd1", f"base_model.model.{ATTENTION}", "unet", ATTENTION),
        ("sd1", "oft_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", "unet", ATTENTION),
        ("sd1", "lora_unet_time_embedding_linear_1", "unet", "time_embedding.linear_1"),
        ("sd1", "lora_unet_up_blocks_0_upsamplers_0_conv", "unet", "up_blocks.0.upsamplers.0.conv"),
    ],
)  # fmt: skip
def test_a_published_spelling_names_its_module(family, spelling, part, path):
    assert spellings(FULL_SIZE[family])[spelling] == Module(part, path)


@pytest.mark.parametrize("family", FULL_SIZE)
def test_no_spelling_stands_for_two_modules(family):
    names = FULL_SIZE[family]
    paths = {part: {name.rpartition(".")[0] for name in own} for part, own in names.items()}
    assert len({path.replace(".", "_") for path in paths["unet"]}) == len(paths["unet"])


@pytest.mark.parametrize(
    ("key", "split"),
    [
        ("lora_unet_a.lora_down.weight", ("lora_unet_a", "down")),
        ("unet.a.to_q.lora.up.weight", ("unet.a.to_q", "up")),
        ("unet.a.to_q.lora_linear_layer.down.weight", ("unet.a.to_q", "down")),
        ("unet.a.proj_in.lora_A.weight", ("unet.a.proj_in", "down")),
        ("unet.a.proj_in.lora_B.default.weight", ("unet.a.proj_in", "up")),
        ("unet.a.attn1.processor.to_q_lora.down.weight", ("unet.a.attn1.processor.to_q", "down")),
        ("unet.a.lora_magnitude_vector", ("unet.a", "magnitude")),
        ("a.dora_scale", ("a", "dora_scale")),
        ("a.alpha", ("a", "alpha")),
        ("a.hada_w1_a", ("a", "hada_w1_a")),
        ("a.oft_R.weight", ("a", "oft_R")),
        ("a.w_norm", ("a", "w_norm")),
        ("a.b1.weight", ("a", "b1")),
        ("a.bias", None),
        (".alpha", None),
    ],
)
def test_a_key_is_a_module_and_a_suffix(key, split):
    assert split_key(key) == split


def read(path):
    return lora_file.read_header(path)


def saved(path, tensors, metadata=None):
    save_file(tensors, path, metadata)
    return path


TO_K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def of_family(path, family):
    """A LoRA of one module, for a full-size model of this family."""
    width = {"sd1": 768, "sd2": 1024, "sdxl": 2048}[family]
    name = TO_K if family != "sdxl" else "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    outputs = 640 if family == "sdxl" else 320
    tensors = {
        f"{name}.lora_down.weight": torch.zeros(2, width),
        f"{name}.lora_up.weight": torch.zeros(outputs, 2),
    }
    return saved(path, tensors)


NAMES = {"sd1": "SD 1", "sd2": "SD 2", "sdxl": "SDXL"}


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize("made_for", NAMES)
def test_a_lora_of_another_family_is_refused_and_both_are_named(tmp_path, model, made_for):
    file = read(of_family(tmp_path / "a.safetensors", made_for))
    assert file.trained_for == NAMES[made_for]
    if model == made_for:
        found, left = lora_file.changes(file, model, FULL_SIZE[model])
        assert (len(found), left) == (1, [])
        return
    message = (
        f"was made for {NAMES[made_for]}, and {model} is {NAMES[model]}; use one made for {NAMES[model]}"
    )
    with pytest.raises(ModelError, match=message):
        lora_file.changes(file, model, FULL_SIZE[model])


def test_what_fits_nothing_is_refused_or_left_out_by_name(tmp_path):
    tensors = loras.tensors("test:sd1")
    tensors["lora_unet_nowhere.lora_up.weight"] = tensors["lora_unet_nowhere.lora_down.weight"] = torch.zeros(
        1
    )
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    file = read(saved(tmp_path / "a.safetensors", tensors))
    shapes = loras.shapes("test:sd1")
    with pytest.raises(
        ModelError, match=r"2 tensors \(lora_unet_nowhere.* fit nothing in x; --allow-partial"
    ):
        lora_file.changes(file, "x", shapes)
    found, left = lora_file.changes(file, "x", shapes, allow_partial=True)
    assert sorted(left) == ["lora_unet_nowhere.lora_down.weight", "lora_unet_nowhere.lora_up.weight"]
    assert len(found) == len(file.modules) - 1


def test_a_file_of_which_nothing_fits_is_refused_even_if_parts_may_be_left_out(tmp_path):
    tensors = {"lora_unet_nowhere.lora_up.weight": torch.zeros(1, 1)}
    file = read(saved(tmp_path / "a.safetensors", tensors, {"ss_base_model_version": "sdxl_base_v1-0"}))
    with pytest.raises(ModelError, match="fit nothing in x; it was made for SDXL"):
        lora_file.changes(file, "x", loras.shapes("test:sd1"), allow_partial=True)


def test_one_module_in_two_spellings_is_refused(tmp_path):
    tensors = {}
    for name in ("lora_unet_conv_in", "unet.conv_in"):
        tensors |= {
            f"{name}.lora_up.weight": torch.zeros(16, 1),
            f"{name}.lora_down.weight": torch.zeros(1, 36),
        }
    file = read(saved(tmp_path / "a.safetensors", tensors))
    with pytest.raises(ModelError, match="are two names of one module"):
        lora_file.changes(file, "x", loras.shapes("test:sd1"))


def test_a_bias_for_a_layer_without_one_is_refused(tmp_path):
    file = read(saved(tmp_path / "a.safetensors", {f"{TO_K}.diff_b": torch.zeros(320)}))
    with pytest.raises(ModelError, match="has diff_b, and the model's layer has no bias"):
        lora_file.changes(file, "x", FULL_SIZE["sd1"])


@pytest.mark.parametrize("rooted", [False, True])
def test_pefts_alpha_is_in_the_metadata(tmp_path, rooted):
    config = {
        "unet.r": 2,
        "unet.lora_alpha": 4,
        "unet.use_rslora": rooted,
        "unet.alpha_pattern": {"conv_in": 8},
    }
    path = loras.write(
        tmp_path / "a.safetensors", naming="peft", alpha=None,
        metadata={"lora_adapter_metadata": json.dumps(config)},
    )  # fmt: skip
    found, _ = lora_file.changes(read(path), "x", loras.shapes("test:sd1"))
    scales = {change.module: change.scale for change in found}
    root = 2**0.5 if rooted else 2
    assert scales[Module("unet", "conv_out")] == pytest.approx(4 / root)
    assert scales[Module("unet", "conv_in")] == pytest.approx(8 / root)
    assert scales[Module("text_encoder", LAYER)] == 1  # of which the config says nothing


def test_a_config_beside_pefts_file_has_its_alpha(tmp_path):
    tensors = {f"base_model.model.{ATTENTION}.lora_A.weight": torch.zeros(2, 320),
               f"base_model.model.{ATTENTION}.lora_B.weight": torch.zeros(320, 2)}  # fmt: skip
    path = saved(tmp_path / "adapter_model.safetensors", tensors)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 5}))
    (change,), _ = lora_file.changes(read(path), "x", FULL_SIZE["sd1"])
    assert change.scale == 2.5


def test_what_a_lora_is_is_told_by_its_header(tmp_path):
    tags = {"ss_tag_frequency": json.dumps({"1_a": {"blue": 2, "hat": 7}, "2_b": {"blue": 9}})}
    facts = describe(loras.write(tmp_path / "hat.safetensors", metadata=tags))
    assert facts["kind"] == "a LoRA file"
    assert facts["rank"] == "2"
    assert facts["trained words"] == "blue, hat"
    assert facts["typed as"] == "<lora:hat:1>"
    assert describe(of_family(tmp_path / "b.safetensors", "sdxl"))["kind"] == "a LoRA file for SDXL"


def test_a_model_is_no_lora(tmp_path):
    tensors = {f"a.{i}.weight": torch.zeros(2, 2) for i in range(4)}
    path = saved(tmp_path / "a.safetensors", tensors)
    assert describe(path) is None
    with pytest.raises(ModelError, match="is no LoRA"):
        read(path)


ENDINGS = sorted(SPELLED)


@given(st.randoms(use_true_random=False))
def test_any_set_of_tensors_is_accepted_or_refused_in_one_line(tmp_path_factory, rng: random.Random):
    path = tmp_path_factory.mktemp("fuzz") / "a.safetensors"
    modules = ["lora_unet_conv_in", "unet.conv_out", "lora_unet_conv_norm_out", TO_K, "elsewhere"]
    tensors = {}
    for _ in range(rng.randint(1, 8)):
        name = f"{rng.choice(modules)}{rng.choice(ENDINGS)}"
        shape = [rng.choice([0, 1, 2, 4, 16]) for _ in range(rng.randint(0, 4))]
        tensors[name] = torch.zeros(shape, dtype=rng.choice([torch.float16, torch.float32, torch.int64]))
    saved(path, tensors)
    try:
        found, _ = lora_file.changes(
            read(path), "x", loras.shapes("test:sd1"), allow_partial=rng.random() < 0.5
        )
        assert found
    except SdError as error:
        assert "\n" not in str(error)
