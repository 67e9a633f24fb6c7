"""B6: every setting of another tool that changes the picture is taken over, or named as left."""

import json

import pytest

from sdcli.request.other_tools.recognise import recognise
from tests.adapters import loras
from tests.field.test_b6_pictures_of_other_tools import A1111, FOOOCUS, INVOKE, NOVELAI, SWARM, graph, png

SAMPLER = {"seed": 5, "steps": 20, "cfg": 8.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1,
           "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}  # fmt: skip


def read(**texts):
    return recognise(
        {key: each if isinstance(each, str) else json.dumps(each) for key, each in texts.items()}, (64, 64)
    )


def swarm(**settings):
    return {"sui_image_params": {**SWARM["sui_image_params"], **settings}}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"invokeai_metadata": INVOKE}, ("detail", 0.7, 0.7)),
        ({"invokeai_metadata": {**INVOKE, "loras": [{"lora": {"model_name": "old"}, "weight": 1}]}}, ("old", 1, 1)),
        ({"parameters": {**FOOOCUS, "loras": [["a.safetensors", 0.5, "12ab"]]}}, ("a", 0.5, 0.5)),
        ({"parameters": {**FOOOCUS, "lora_combined_1": "a.safetensors : 0.5"}}, ("a", 0.5, 0.5)),
        ({"parameters": A1111 + ', Lora hashes: "a: 12345678", Lora weights: "a: 0.5", Version: Fooocus v2.5'},
         ("a", 0.5, 0.5)),
        ({"parameters": swarm(loraweights=["0.6"], loratencweights=["0.2"])}, ("detail", 0.6, 0.2)),
        ({"prompt": graph(**{
            "20": ("LoraLoader", {"lora_name": "sub/a.safetensors", "strength_model": 0.8, "strength_clip": 0.3,
                                  "model": ["4", 0], "clip": ["4", 1]}),
            "3": ("KSampler", {**SAMPLER, "model": ["20", 0]})})}, ("a", 0.8, 0.3)),
        ({"prompt": graph(**{
            "20": ("Power Lora Loader", {"lora_1": {"on": True, "lora": "a.safetensors", "strength": 0.4},
                                         "lora_2": {"on": False, "lora": "b.safetensors", "strength": 1},
                                         "model": ["4", 0]}),
            "3": ("KSampler", {**SAMPLER, "model": ["20", 0]})})}, ("a", 0.4, 0.4)),
    ],
)  # fmt: skip
def test_the_loras_of_every_tool_are_read_and_left_by_name_until_they_are_found(texts, expected):
    found = read(**texts)
    (lora,) = found.loras
    assert (lora.name, lora.unet, lora.te) == expected
    assert expected[0] in found.left[lora.key]


def test_a_lora_that_is_in_the_users_folder_is_drawn_with(sd, toy, tmp_path, monkeypatch):
    folder = tmp_path / "loras"
    folder.mkdir()
    monkeypatch.setenv("SDCLI_LORAS", str(folder))
    png("x.png", {"parameters": json.dumps(swarm(loraweights=["0.6"]))})
    assert "not taken over from SwarmUI: loras: detail 0.6" in sd("again", "x.png", "-m", toy, "-s", 1).err
    loras.write(folder / "detail.safetensors")
    ran = sd("again", "x.png", "-m", toy, "-s", 1, "--plan")
    assert "not taken over" not in ran.err


def test_of_a_base_model_and_a_refiner_the_first_is_drawn_and_the_second_named():
    base = {**SAMPLER, "end_at_step": 15, "add_noise": "enable", "return_with_leftover_noise": "enable"}
    found = read(prompt=graph(**{
        "3": ("KSamplerAdvanced", {**base, "model": ["40", 0], "latent_image": ["30", 0], "start_at_step": 15,
                                   "add_noise": "disable", "end_at_step": 20}),
        "30": ("KSamplerAdvanced", base),
        "40": ("CheckpointLoaderSimple", {"ckpt_name": "refiner.safetensors"})}))  # fmt: skip
    assert found.model == "v1-5"
    assert {
        "second pass: model",
        "second pass",
        "first pass: end_at_step",
        "start_at_step",
    } <= found.left.keys()


def test_latents_enlarged_to_a_size_are_hires():
    found = read(prompt=graph(**{
        "3": ("KSampler", {**SAMPLER, "denoise": 0.5, "latent_image": ["31", 0]}),
        "30": ("KSampler", SAMPLER),
        "31": ("LatentUpscale", {"samples": ["30", 0], "width": 128, "height": 256, "upscale_method": "bicubic"}),
    }))  # fmt: skip
    assert (found.fields["hires"], found.fields["hires_strength"], found.left) == (2.0, 0.5, {})


def test_a_loader_with_both_prompts_gives_each_its_own():
    found = read(prompt=graph(**{
        "6": ("Efficient Loader", {"ckpt_name": "x.safetensors", "positive": "a cat", "negative": "a dog"}),
        "3": ("KSampler (Efficient)", {**SAMPLER, "positive": ["6", 1], "negative": ["6", 2]})}))  # fmt: skip
    assert (found.fields["prompt"], found.fields["negative"]) == ("a cat", "a dog")


@pytest.mark.parametrize(
    ("texts", "left"),
    [
        ({"parameters": A1111 + ", Distilled CFG Scale: 3.5"}, "Distilled CFG Scale"),
        ({"parameters": A1111 + ", Module 1: ae"}, "Module 1"),
        ({"parameters": A1111 + ", Beta schedule alpha: 0.6"}, "Beta schedule alpha"),
        ({"parameters": A1111 + ", Refiner: x, Refiner switch at: 0.8"}, "Refiner switch at"),
        ({"Comment": {**NOVELAI, "noise": 0.2}, "Software": "NovelAI"}, "noise"),
        ({"Comment": {**NOVELAI, "sm": True}, "Software": "NovelAI"}, "sm"),
        ({"Comment": {**NOVELAI, "deliberate_euler_ancestral_bug": True}, "Software": "NovelAI"},
         "deliberate_euler_ancestral_bug"),
        ({"parameters": {**FOOOCUS, "refiner_model": "x"}}, "refiner_switch"),
        ({"parameters": swarm(prompt="a fox <segment:face> big")}, "prompt: <segment>"),
        ({"parameters": swarm(refinermodel="x", refinermethod="StepSwap")}, "refinermethod"),
        ({"prompt": graph(**{"5": ("EmptyLatentImage", {"width": 64, "height": 128, "batch_size": 4})})},
         "node 5 EmptyLatentImage: batch_size"),
        ({"prompt": graph(**{"12": ("VAELoader", {"vae_name": "x"}), "8": ("VAEDecode", {"samples": ["3", 0],
          "vae": ["12", 0]})})}, "node 12 VAELoader"),
    ],
)  # fmt: skip
def test_what_is_not_taken_over_is_named(texts, left):
    assert left in read(**texts).left


def test_swarmuis_second_pass_is_hires_by_its_upscaler():
    found = read(parameters=swarm(refinerupscale=2, refinercontrolpercentage=0.3, refinermethod="PostApply",
                                  refinerupscalemethod="model-4x-sharp.safetensors"))  # fmt: skip
    assert (found.fields["hires"], found.fields["hires_strength"], found.upscaler) == (2.0, 0.3, "4x-sharp")
    assert "Hires upscaler" in found.left


def test_an_inpainted_picture_of_invokeai_asks_for_picture_and_mask():
    found = read(invokeai_metadata={**INVOKE, "generation_mode": "sdxl_inpaint", "strength": 0.6})
    assert (found.start, found.masked, found.fields["strength"]) == (True, True, 0.6)


def test_the_texts_of_prompts_that_are_combined_with_the_first_are_named():
    found = read(prompt=graph(**{
        "30": ("CLIPTextEncode", {"text": "a lake", "clip": ["4", 1]}),
        "31": ("ConditioningCombine", {"conditioning_1": ["6", 0], "conditioning_2": ["30", 0]}),
        "3": ("KSampler", {**SAMPLER, "positive": ["31", 0]})}))  # fmt: skip
    assert found.fields["prompt"] == "a photo of a hill"
    assert "a lake" in found.left["node 30 CLIPTextEncode"]
