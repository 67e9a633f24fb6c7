"""LoRAs as a user meets them: options, words of the prompt, notes, and what a picture records."""

import io
import json

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests import adapter_files
from tests.adapters import loras

SMALL = ("-m", "test:sd1", "-s", "2", "--seed", "1")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of LoRAs for test:sd1: style, and lcm_4steps."""
    (tmp_path / "loras").mkdir()
    monkeypatch.setenv("SDCLI_LORAS", str(tmp_path / "loras"))
    for i, name in enumerate(("style", "lcm_4steps")):
        loras.write(tmp_path / "loras" / f"{name}.safetensors", seed=i)
    return tmp_path / "loras"


def texts_of(png):
    with Image.open(io.BytesIO(png)) as image:
        return dict(image.text)


def drawn(sd, tmp_path, *arguments, name="out.png"):
    ran = sd("txt2img", *arguments, *SMALL, "-o", name)
    assert ran.code == 0, ran.err
    return (tmp_path / name).read_bytes(), ran


def test_a_lora_by_option_and_in_the_prompt_are_one_picture(sd, tmp_path, folder):
    by_option, _ = drawn(sd, tmp_path, "a cat", "--lora", "style@0.5", name="a.png")
    in_prompt, _ = drawn(sd, tmp_path, "a cat<lora:style:0.5>", name="b.png")
    assert by_option == in_prompt
    assert drawn(sd, tmp_path, "a cat", name="c.png")[0] != by_option


def test_a_picture_records_its_loras_in_a1111s_words_and_ours(sd, tmp_path, folder):
    png, _ = drawn(sd, tmp_path, "a cat <lora:style:0.5>", "--lora", "lcm_4steps@0.25:te=0.75")
    texts = texts_of(png)
    record = json.loads(texts["sd"])
    assert record["request"]["lora"] == [
        f"{folder / 'lcm_4steps.safetensors'}@0.25:te=0.75", f"{folder / 'style.safetensors'}@0.5"
    ]  # fmt: skip
    assert set(record["loras"]) == {"style", "lcm_4steps"}
    first, *_, last = texts["parameters"].splitlines()
    assert first.endswith("<lora:lcm_4steps:0.75:0.25> <lora:style:0.5>")
    assert f"style: {record['loras']['style']['autov3']}" in last


def test_a_picture_is_made_again_with_its_loras_and_without_their_folder(sd, tmp_path, folder, monkeypatch):
    png, _ = drawn(sd, tmp_path, "a cat <lora:style:0.5>")
    monkeypatch.delenv("SDCLI_LORAS")
    assert sd("again", "out.png", "-o", "same.png").code == 0
    assert (tmp_path / "same.png").read_bytes() == png


def test_again_says_which_lora_is_not_the_same(sd, tmp_path, folder):
    drawn(sd, tmp_path, "a cat <lora:style:0.5>")
    loras.write(folder / "style.safetensors", seed=9)
    ran = sd("again", "out.png", "-o", "other.png")
    assert "out.png was made with another LoRA style; the picture will differ" in ran.err


def test_a_lora_for_few_steps_says_how_it_is_meant_and_not_what_was_asked_so(sd, tmp_path, folder):
    ran = sd("txt2img", "a cat", "--lora", "lcm_4steps", "-m", "test:sd1", "--cfg", 1, "-o", "a.png")
    assert (
        "lcm_4steps.safetensors is for few steps (LCM); it is meant for --sampler lcm --steps 4\n" in ran.err
    )
    asked = ("--cfg", 1, "--sampler", "lcm", "-s", 4)
    ran = sd("txt2img", "a cat", "--lora", "lcm_4steps", "-m", "test:sd1", *asked, "-o", "b.png")
    assert "few steps" not in ran.err


def test_what_is_left_out_is_named(sd, tmp_path, folder):
    tensors = {name: tensor.clone() for name, tensor in loras.tensors("test:sd1").items()}
    save_file(
        tensors | {"lora_unet_nowhere.alpha": torch.ones(()), "more": torch.ones(1)},
        folder / "odd.safetensors",
    )
    ran = sd("txt2img", "a cat", "--lora", "odd", *SMALL, "-o", "a.png")
    assert ran.code == 3
    assert "--allow-partial draws without them" in ran.err
    ran = sd("txt2img", "a cat", "--lora", "odd", "--allow-partial", *SMALL, "-o", "a.png")
    assert ran.code == 0
    assert "2 tensors (more, lora_unet_nowhere.alpha) fit nothing in the model and are left out" in ran.err


def test_a_lora_of_another_model_is_refused_before_anything_is_drawn(sd, tmp_path, folder):
    for command in (("txt2img", "a cat"), ("txt2img", "a cat", "--plan")):
        ran = sd(*command, "--lora", "style", "-m", "test:sdxl")
        assert ran.code == 3
        assert "is it for another model?" in ran.err
        assert not list(tmp_path.glob("*.png"))


def test_an_unknown_name_is_answered_with_the_nearest(sd, folder):
    ran = sd("txt2img", "a cat", "--lora", "stile", *SMALL)
    assert ran.code == 2
    assert "is called 'stile'; did you mean 'style'?" in ran.err


def test_an_embedding_in_a_lora_file_is_a_word_while_the_lora_is_used(sd, tmp_path, folder):
    tensors = {name: tensor.clone() for name, tensor in loras.tensors("test:sd1").items()}
    bundled = {"bundle_emb.mine.clip_l": torch.ones(2, 16)}
    save_file(tensors | bundled, folder / "both.safetensors")
    shown = sd("tokens", "a mine <lora:both:1>", "-m", "test:sd1").out.decode()
    assert "mine[1]" in shown and "mine[2]" in shown
    with_word, _ = drawn(sd, tmp_path, "a mine <lora:both:0>", name="a.png")
    save_file(tensors | {"bundle_emb.mine.clip_l": torch.zeros(2, 16)}, folder / "both.safetensors")
    other, _ = drawn(sd, tmp_path, "a mine <lora:both:0>", name="b.png")
    assert with_word != other
    assert "embeddings: mine" in sd("info", str(folder / "both.safetensors")).out.decode()


def test_the_models_that_are_listed_include_the_loras(sd, folder):
    assert any(line.startswith("  style  a LoRA file") for line in sd("models", "loras").lines)


def test_info_lists_the_loras_of_a_picture(sd, tmp_path, folder):
    drawn(sd, tmp_path, "a cat <lora:style:0.5>")
    assert f"  lora: {folder / 'style.safetensors'}@0.5" in sd("info", "out.png").lines


@pytest.mark.parametrize("model", ["tiny", "test:inpaint", "test:depth", "test:x4", "test:refiner"])
def test_a_lora_for_any_model_finds_its_modules(model):
    from sdcli.checkpoints import checkpoint, tensor_shapes
    from sdcli.checkpoints.keys.adapters import spellings

    found = checkpoint.read(model)
    parts = ("unet", *found.family.text_encoders)
    shapes = {part: tensor_shapes.of_network(part, found.components[part].config, model) for part in parts}
    assert spellings(shapes)["lora_unet_conv_in"] == ("unet", "conv_in")


def test_two_files_of_one_name_are_recorded_apart(sd, tmp_path, folder):
    (tmp_path / "other").mkdir()
    loras.write(tmp_path / "other" / "style.safetensors", seed=5)
    png, _ = drawn(sd, tmp_path, "a cat", "--lora", "style", "--lora", "./other/style.safetensors")
    assert list(json.loads(texts_of(png)["sd"])["loras"]) == ["style", "style (2)"]


def test_a_hypernetwork_is_a_word_of_a1111_too(sd, tmp_path):
    adapter_files.hypernet(tmp_path / "paint.safetensors", [16])
    png, _ = drawn(sd, tmp_path, "a cat", "--hypernet", "./paint.safetensors@0.5")
    assert texts_of(png)["parameters"].splitlines()[0] == "a cat <hypernet:paint:0.5>"


def test_again_takes_a_lora_by_its_name(sd, tmp_path, folder):
    drawn(sd, tmp_path, "a cat")
    assert sd("again", "out.png", "--lora", "style@0.5", "-o", "new.png").code == 0
    asked, _ = drawn(sd, tmp_path, "a cat", "--lora", "style@0.5", name="asked.png")
    assert (tmp_path / "new.png").read_bytes() == asked


def test_a_python_program_names_loras_as_the_command_line_does(folder):
    from sdcli import Request, generate

    asked = {"model": "test:sd1", "seed": 1, "steps": 2}
    by_name = generate(Request("a cat", lora=["style@0.5"], **asked))
    in_prompt = generate(Request("a cat<lora:style:0.5>", **asked))
    assert by_name.picture.png() == in_prompt.picture.png()


def test_a_module_of_another_shape_is_left_out_if_that_is_allowed(sd, folder):
    """The U-Net of an inpainting model reads more channels than the one that the LoRA was made for."""
    small = ("-m", "test:inpaint", "-s", "2", "--seed", "1")
    assert sd("txt2img", "a cat", "--lora", "style", *small).code == 3
    ran = sd("txt2img", "a cat", "--lora", "style", "--allow-partial", *small, "-o", "a.png")
    assert ran.code == 0
    assert "3 tensors (lora_unet_conv_in.alpha, lora_unet_conv_in.lora_down.weight, " in ran.err


def test_block_weights_for_another_family_are_refused(sd, folder):
    ran = sd("txt2img", "a cat", "--lora", "style:blocks=1,1,1,1,1,1,1,1,1,1,1,1", *SMALL)
    assert ran.code == 2
    assert "12 block weights, and this model takes 17 or 26" in ran.err


def test_tokens_lists_the_networks_that_a_prompt_names(sd, tmp_path, folder):
    lines = sd("tokens", "a cat <lora:style:0.5>", "-m", "test:sd1").lines
    assert lines[0] == f"lora: {folder / 'style.safetensors'}@0.5"


def test_a_single_file_for_few_steps_says_how_it_is_meant(sd, tmp_path):
    assert sd("models", "convert", "test:sd1", "lightning_2step.safetensors").code == 0
    ran = sd("txt2img", "a cat", "-m", "lightning_2step.safetensors", "-s", 2, "-o", "a.png")
    options = "--sampler euler --schedule sgm_uniform --cfg 1"
    assert f"lightning_2step.safetensors is for few steps (Lightning); it is meant for {options}" in ran.err
