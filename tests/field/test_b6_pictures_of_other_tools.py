"""B6 (A1111#17122 and many): `sd again` makes another tool's picture again as far as its metadata tells.

Version 0.1 refused all of them, and `sd info` showed the raw texts only. The texts here are as the tools write them.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdcli.request.other_tools.recognise import recognise
from sdcli.request.picture import parameters
from sdcli.request.request import Request

A1111 = """photo of a duck
Negative prompt: monochrome
Steps: 15, Sampler: UniPC, CFG scale: 5, Seed: 235284042, Size: 64x80, Model hash: c0d1994c73, Model: realistic_v20"""
A1111_RICH = """a cat, "grey", <b>
two lines
Negative prompt: a dog,
blurry
Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 6.5, Seed: 7, Size: 64x64, Model: x, VAE hash: 12, \
Variation seed: 3, Variation seed strength: 0.2, Seed resize from: 64x128, Denoising strength: 0.4, Clip skip: 2, \
ENSD: 31337, RNG: CPU, Hires upscale: 2, Hires steps: 10, Hires upscaler: R-ESRGAN 4x+, Eta: 0.5, \
Lora hashes: "a: 1234, b: 5678", TI hashes: "c: 9", Hashes: {"model": "1", "lora:a": "2"}, Schedule rho: 5, \
Token merging ratio: 0.5, Version: v1.10.1"""
NOVELAI = {
    "steps": 50,
    "sampler": "k_euler_ancestral",
    "seed": 2253955223,
    "scale": 10.0,
    "uc": "lowres, bad hands",
}
INVOKE = {
    "generation_mode": "sdxl_txt2img", "positive_prompt": "digital artwork", "negative_prompt": "grainy+, noisy++",
    "width": 128, "height": 64, "seed": 3293022630, "rand_device": "cpu", "cfg_scale": 8.0,
    "cfg_rescale_multiplier": 0.0, "steps": 35, "scheduler": "dpmpp_2m_k", "clip_skip": 1, "seamless_x": True,
    "model": {"model_name": "juggernautXL", "base_model": "sdxl", "model_type": "main"},
    "ipAdapters": [{"weight": 0.45}], "loras": [{"model": {"name": "detail"}, "weight": 0.7}],
}  # fmt: skip
FOOOCUS = {
    "base_model": "juggernautXL_v8", "base_model_hash": "aeb7e9e689", "clip_skip": 2, "guidance_scale": 4,
    "full_prompt": ["cinematic still a goldfish"], "loras": [], "metadata_scheme": "fooocus", "negative_prompt": "x",
    "performance": "Speed", "prompt": "a goldfish", "resolution": "(64, 128)", "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras", "seed": "12", "sharpness": 2, "steps": 30, "styles": "['Fooocus V2']",
    "vae": "Default (model)", "version": "Fooocus v2.4.3", "refiner_model": "None", "refiner_switch": 0.5,
}  # fmt: skip
SWARM = {"sui_image_params": {
    "prompt": "a fox", "negativeprompt": "blurry", "model": "sub/v1-5.safetensors", "seed": 5, "steps": 20,
    "cfgscale": 7.0, "aspectratio": "1:1", "width": 64, "height": 64, "sampler": "euler_ancestral",
    "scheduler": "karras",
    "clipstopatlayer": "-2", "loras": ["detail"], "swarm_version": "0.9.3.1"}}  # fmt: skip
EASY = {
    "prompt": "a hen", "negative_prompt": "rain", "seed": "9", "use_stable_diffusion_model": "sd-v1-5", "width": "64",
    "clip_skip": "True", "sampler_name": "dpmpp_2m", "height": "64", "num_inference_steps": "25",
    "guidance_scale": "7.5", "use_vae_model": "None", "use_lora_model": "[]",
}  # fmt: skip
DRAW_THINGS = {
    "c": "a bee", "uc": "a wasp", "steps": 30, "sampler": "DPM++ 2M Karras", "scale": 7.5, "seed": 4, "size": "64x64",
    "model": "sd_v1.5_f16.ckpt", "strength": 1, "seed_mode": "NVIDIA GPU Compatible", "clip_skip": 2,
    "lora": [{"model": "x", "weight": 1}],
}  # fmt: skip
SDCPP = """a lovely cat
Negative prompt: a dog
Steps: 20, CFG scale: 7.000000, Guidance: 3.500000, Eta: 0.000000, Seed: 42, Size: 64x64, Model: sd-v1-4.ckpt, \
RNG: cuda, Sampler: euler_a karras, Version: stable-diffusion.cpp"""


def graph(**changes):
    """ComfyUI's graph of a plain text to image run."""
    sampler = {"seed": 2**40 + 5, "steps": 20, "cfg": 8.0, "sampler_name": "dpmpp_2m", "scheduler": "karras",
               "denoise": 1.0, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
               "latent_image": ["5", 0]}  # fmt: skip
    nodes = {
        "3": ("KSampler", sampler),
        "4": ("CheckpointLoaderSimple", {"ckpt_name": "sd\\v1-5.safetensors"}),
        "5": ("EmptyLatentImage", {"width": 64, "height": 128, "batch_size": 1}),
        "6": ("CLIPTextEncode", {"text": "a photo of a hill", "clip": ["4", 1]}),
        "7": ("CLIPTextEncode", {"text": "watermark", "clip": ["4", 1]}),
        "8": ("VAEDecode", {"samples": ["3", 0], "vae": ["4", 2]}),
        "9": ("SaveImage", {"images": ["8", 0], "filename_prefix": "x"}),
        **changes,
    }
    return json.dumps({key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()})


def text(value):
    return value if isinstance(value, str) else json.dumps(value)


CASES = {
    "a1111": ({"parameters": A1111}, {
        "prompt": "photo of a duck", "negative": "monochrome", "steps": 15, "sampler": "unipc", "cfg": 5.0,
        "seed": 235284042, "width": 64, "height": 80, "like": "a1111", "rng": "philox"}, []),
    "a1111 with everything": ({"parameters": A1111_RICH}, {
        "prompt": 'a cat, "grey", <b>\ntwo lines', "negative": "a dog,\nblurry", "sampler": "euler_a:eta=0.5",
        "schedule": "karras:rho=5", "variation_seed": 3, "variation_strength": 0.2, "seed_size": "64x128",
        "clip_skip": 2, "seed": 7, "rng": "torch", "hires": 2.0,
        "hires_strength": 0.4, "hires_by": "picture", "ensd": 31337},
        ["Hires steps", "Hires upscaler", "Lora hashes", "TI hashes", "Token merging ratio"]),
    "novelai": ({"Comment": text(NOVELAI), "Description": "cat, space", "Software": "NovelAI",
                 "Source": "Stable Diffusion 1D44365E"}, {
        "prompt": "cat, space", "negative": "lowres, bad hands", "steps": 50, "sampler": "euler_a", "cfg": 10.0,
        "seed": 2253955223, "width": 64, "height": 64, "schedule": "uniform"}, []),
    "invokeai": ({"invokeai_metadata": text(INVOKE)}, {
        "prompt": "digital artwork", "sampler": "dpmpp_2m", "schedule": "karras", "clip_skip": 2, "rng": "torch",
        "like": "diffusers", "seed": 3293022630, "width": 128, "height": 64, "tile": "x", "cfg": 8.0,
        "emphasis": "compel"}, ["ipAdapters", "loras"]),
    "invokeai 2": ({"Dream": '"a cat [blurry, text]" -s 50 -S 123 -W 64 -H 64 -C 7.5 -A k_lms'}, {
        "prompt": "a cat", "negative": "blurry, text", "steps": 50, "seed": 123, "width": 64, "height": 64, "cfg": 7.5,
        "sampler": "lms"}, []),
    "fooocus": ({"parameters": text(FOOOCUS), "fooocus_scheme": "fooocus"}, {
        "prompt": "a goldfish", "negative": "x", "steps": 30, "cfg": 4.0, "sampler": "dpmpp_2m_sde",
        "schedule": "karras", "seed": 12, "width": 64, "height": 128, "clip_skip": 2, "like": "comfyui",
        "rng": "comfyui"}, ["full_prompt", "sharpness", "styles"]),
    "swarmui": ({"parameters": text(SWARM)}, {
        "prompt": "a fox", "negative": "blurry", "seed": 5, "steps": 20, "cfg": 7.0, "sampler": "euler_a",
        "schedule": "karras", "clip_skip": 2, "width": 64, "height": 64, "like": "comfyui", "rng": "comfyui"},
        ["loras"]),
    "easy diffusion": (EASY, {
        "prompt": "a hen", "negative": "rain", "seed": 9, "steps": 25, "cfg": 7.5, "sampler": "dpmpp_2m",
        "schedule": "karras", "clip_skip": 2, "width": 64, "height": 64}, []),
    "draw things": ({"Comment": text(DRAW_THINGS), "Software": "Draw Things"}, {
        "prompt": "a bee", "negative": "a wasp", "steps": 30, "cfg": 7.5, "seed": 4, "sampler": "dpmpp_2m",
        "schedule": "karras", "rng": "philox", "clip_skip": 2, "width": 64, "height": 64}, ["lora"]),
    "draw things, xmp": ({"XML:com.adobe.xmp": "<x><exif:UserComment><rdf:Alt><rdf:li xml:lang='x-default'>"
                          + text(DRAW_THINGS).replace('"', "&quot;") + "</rdf:li></rdf:Alt></exif:UserComment></x>"}, {
        "prompt": "a bee", "seed": 4, "sampler": "dpmpp_2m"}, ["lora"]),
    "stable-diffusion.cpp": ({"parameters": SDCPP}, {
        "prompt": "a lovely cat", "negative": "a dog", "steps": 20, "cfg": 7.0, "seed": 42, "sampler": "euler_a",
        "schedule": "karras", "rng": "philox", "width": 64, "height": 64}, []),
    "comfyui": ({"prompt": graph(), "workflow": "{}"}, {
        "prompt": "a photo of a hill", "negative": "watermark", "seed": 2**40 + 5, "steps": 20, "cfg": 8.0,
        "sampler": "dpmpp_2m", "schedule": "karras", "width": 64, "height": 128, "like": "comfyui", "rng": "comfyui"},
        []),
}  # fmt: skip


def png(path, texts):
    info = PngInfo()
    for key, value in texts.items():
        info.add_text(key, value)
    Image.new("RGB", (64, 64)).save(path, pnginfo=info)
    return path


@pytest.mark.parametrize("name", CASES)
def test_b6_what_the_tool_wrote_is_taken_over_and_the_rest_is_named(name):
    texts, fields, left = CASES[name]
    found = recognise(texts, (64, 64))
    assert {key: found.fields.get(key) for key in fields} == fields
    assert sorted(found.left) == sorted(left)
    assert found.request(model="tiny").prompt == fields["prompt"]


@pytest.mark.parametrize("name", CASES)
def test_b6_again_draws_it_with_m_and_has_a_line_for_all_that_it_leaves(sd, toy, name):
    texts, fields, left = CASES[name]
    ran = sd("again", png("x.png", texts), "-m", toy, "-s", 1, "--clip-skip", 1, "--json")
    assert ran.code == 0, ran.err
    request = json.loads(ran.lines[0])["request"]
    assert {key: request.get(key) for key in ("prompt", "seed", "like")} == {
        key: fields.get(key, request.get(key)) for key in ("prompt", "seed", "like")
    }
    told = [line for line in ran.err.splitlines() if "not taken over" in line]
    assert len(told) == len(left) and all(f": {key}: " in ran.err for key in left)


@pytest.mark.parametrize("name", CASES)
def test_b6_again_asks_for_the_model_in_one_line(sd, name):
    ran = sd("again", png("x.png", CASES[name][0]))
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, b"", 1)
    assert "is in no model folder; name it with -m" in ran.err or "name it with -m" in ran.err


@pytest.mark.parametrize("name", CASES)
def test_b6_info_shows_the_facts_and_the_raw_text(sd, name):
    texts, fields, left = CASES[name]
    png("x.png", texts)
    facts = json.loads(sd("info", "x.png", "--json").out)
    assert {key: facts["request"].get(key) for key in fields} == fields
    assert sorted(facts["left"]) == sorted(left)
    assert facts["texts"] == texts
    assert facts["model"].keys() == {"name", "hash"}
    lines = sd("info", "x.png").out.decode()
    assert f"  seed: {fields['seed']}" in lines and "  tool: " in lines


def test_b6_the_model_is_found_by_its_name_in_the_model_folders(sd, toy, monkeypatch):
    monkeypatch.setenv("SDCLI_MODELS", str(toy.parent))
    ran = sd("again", png("x.png", {"parameters": SDCPP.replace("sd-v1-4.ckpt", "toy")}), "-s", 1)
    assert ran.code == 0, ran.err


def test_b6_the_model_is_found_by_its_hash_and_one_of_another_hash_is_not_taken(tmp_path, monkeypatch):
    import hashlib

    from sdcli.checkpoints.lookup import find_model

    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "a.safetensors").write_bytes(b"a")
    monkeypatch.setenv("SDCLI_MODELS", str(folder))
    digest = hashlib.sha256(b"a").hexdigest()
    for sha in (digest, digest[:10], digest[:10].upper()):
        assert find_model("other name", sha) == str(folder / "a.safetensors")
    assert find_model("a", "0" * 10) is None
    assert find_model("a") == find_model("A") == str(folder / "a.safetensors")
    assert find_model("a", "1234abcd") == str(folder / "a.safetensors")  # A1111's old hash says nothing
    assert find_model("b") is None


IMG2IMG = graph(**{
    "3": ("KSampler", {"seed": 5, "steps": 20, "cfg": 8.0, "sampler_name": "sample_dpmpp_2m", "scheduler": "normal",
                       "denoise": 0.87, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
                       "latent_image": ["12", 0]}),
    "10": ("LoadImage", {"image": "example.png"}),
    "12": ("VAEEncode", {"pixels": ["10", 0], "vae": ["4", 2]}),
})  # fmt: skip


def test_b6_a_picture_made_over_another_asks_for_that(sd, toy):
    ran = sd("again", png("x.png", {"prompt": IMG2IMG}), "-m", toy)
    assert ran.code == 2 and "over another picture; name that with -i" in ran.err
    ran = sd("again", "x.png", "-m", toy, "-i", "x.png", "-s", 2, "--json")
    assert ran.code == 0, ran.err
    request = json.loads(ran.lines[0])["request"]
    assert (request["strength"], request["sampler"], request["schedule"]) == (0.87, "dpmpp_2m", "uniform")


def test_b6_a_masked_picture_asks_for_the_mask(sd, toy):
    masked = A1111 + ", Denoising strength: 0.5, Mask blur: 4, Inpaint area: Only masked"
    png("x.png", {"parameters": masked})
    assert "name that with -i" in sd("again", "x.png", "-m", toy).err
    assert "name it with --mask" in sd("again", "x.png", "-m", toy, "-i", "x.png").err


def test_b6_comfyui_nodes_on_the_way_are_read_or_named():
    found = recognise({"prompt": graph(**{
        "4": ("CheckpointLoaderSimple", {"ckpt_name": "x.safetensors"}),
        "20": ("LoraLoader", {"lora_name": "detail.safetensors", "strength_model": 0.8, "model": ["4", 0],
                              "clip": ["4", 1]}),
        "21": ("CLIPSetLastLayer", {"stop_at_clip_layer": -2, "clip": ["20", 1]}),
        "22": ("RescaleCFG", {"multiplier": 0.7, "model": ["20", 0]}),
        "23": ("PrimitiveNode", {"value": "a linked text"}),
        "6": ("CLIPTextEncode", {"text": ["23", 0], "clip": ["21", 0]}),
        "24": ("ControlNetApply", {"conditioning": ["6", 0], "strength": 1.0}),
        "25": ("ImageUpscaleWithModel", {"image": ["8", 0]}),
        "9": ("SaveImage", {"images": ["25", 0]}),
        "3": ("KSampler", {"seed": 5, "steps": 20, "cfg": 8.0, "sampler_name": "euler", "scheduler": "normal",
                           "denoise": 1, "model": ["22", 0], "positive": ["24", 0], "negative": ["7", 0],
                           "latent_image": ["5", 0]}),
    })}, (64, 64))  # fmt: skip
    assert (found.fields["prompt"], found.fields["clip_skip"]) == ("a linked text", 2)
    assert (found.fields["guidance"], found.model) == ("cfg_rescale:phi=0.7", "x")
    assert {key.split()[-1] for key in found.left} == {
        "LoraLoader",
        "ControlNetApply",
        "ImageUpscaleWithModel",
    }


def test_b6_two_samplers_of_comfyui_in_a_row_are_hires():
    found = recognise({"prompt": graph(**{
        "30": ("LatentUpscaleBy", {"samples": ["3", 0], "scale_by": 1.5, "upscale_method": "bicubic"}),
        "31": ("KSampler", {"seed": 2**40 + 5, "steps": 20, "cfg": 8.0, "sampler_name": "dpmpp_2m",
                            "scheduler": "karras", "denoise": 0.55, "model": ["4", 0], "positive": ["6", 0],
                            "negative": ["7", 0], "latent_image": ["30", 0]}),
        "8": ("VAEDecode", {"samples": ["31", 0], "vae": ["4", 2]}),
    })}, (64, 64))  # fmt: skip
    expected = {"hires": 1.5, "hires_strength": 0.55, "hires_by": "latents", "width": 64, "height": 128}
    assert {key: found.fields.get(key) for key in expected} == expected and not found.left


def test_b6_samplercustomadvanced_is_put_together_from_its_nodes():
    found = recognise({"prompt": graph(**{
        "3": ("SamplerCustomAdvanced", {"noise": ["40", 0], "guider": ["41", 0], "sampler": ["42", 0],
                                        "sigmas": ["43", 0], "latent_image": ["5", 0]}),
        "40": ("RandomNoise", {"noise_seed": 11}),
        "41": ("CFGGuider", {"cfg": 4.5, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0]}),
        "42": ("KSamplerSelect", {"sampler_name": "euler_ancestral"}),
        "43": ("BasicScheduler", {"scheduler": "simple", "steps": 12, "denoise": 1.0, "model": ["4", 0]}),
    })}, (64, 64))  # fmt: skip
    expected = {
        "seed": 11,
        "cfg": 4.5,
        "sampler": "euler_a",
        "schedule": "simple",
        "steps": 12,
        "negative": "watermark",
    }
    assert {key: found.fields.get(key) for key in expected} == expected and not found.left


def test_b6_of_a_graph_that_saves_two_pictures_the_one_of_this_size_is_read():
    two = json.loads(graph())
    two["30"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 256, "height": 64}}
    two["31"] = {
        "class_type": "KSampler",
        "inputs": {**two["3"]["inputs"], "seed": 5, "latent_image": ["30", 0]},
    }
    two["32"] = {"class_type": "VAEDecode", "inputs": {"samples": ["31", 0]}}
    two["33"] = {"class_type": "SaveImage", "inputs": {"images": ["32", 0]}}
    texts = {"prompt": json.dumps(two)}
    assert recognise(texts, (256, 64)).fields["seed"] == 5
    assert recognise(texts, (64, 128)).fields["seed"] == 2**40 + 5
    assert recognise(texts, (64, 64)).fields["seed"] == 2**40 + 5


def test_b6_a_value_of_a1111s_text_may_be_json_or_broken_json():
    text = SDCPP + ', SDCPP: {"sampling": {"steps": [1, 2]}}'
    assert not recognise({"parameters": text}, (64, 64)).left
    broken = SDCPP.replace("Seed: 42", "Skip layers: [1, 2, ], Seed: 42") + ', Hashes: {"a": "b, Steps: 9"}'
    found = recognise({"parameters": broken}, (64, 64))
    assert (found.fields["seed"], found.fields["steps"], list(found.left)) == (42, 20, ["Skip layers"])


def test_b6_the_samplers_of_which_a1111_takes_the_timesteps_have_no_schedule(sd, toy):
    text = A1111.replace("UniPC", "DDIM, Schedule type: Automatic")
    assert "schedule" not in recognise({"parameters": text}, (64, 64)).fields
    assert sd("again", png("x.png", {"parameters": A1111}), "-m", toy, "-s", 2).err.count("no effect") == 0


def test_b6_automatic_is_resolved_by_the_sampler():
    text = A1111.replace("UniPC", "DPM++ 2M, Schedule type: Automatic")
    assert recognise({"parameters": text}, (64, 64)).fields["schedule"] == "karras"


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_b6_again_takes_a_jpeg_or_webp_too(sd, toy, suffix):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + A1111.encode("utf-16-be")
    Image.new("RGB", (64, 64)).save(f"x.{suffix}", exif=exif.tobytes())
    ran = sd("again", f"x.{suffix}", "-m", toy, "-s", 1, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.lines[0])["request"]["seed"] == 235284042


def test_b6_our_own_text_alone_is_read_back(sd, toy):
    """A program that saves a picture again may keep `parameters` and drop `sd`."""
    first = sd("txt2img", "a cat\nSteps: 1", "-m", toy, "-s", 2, "--seed", 7, "--sampler", "euler_a:eta=0.5",
               "--schedule", "karras:rho=5", "--cfg", 3, "--json")  # fmt: skip
    drawn = json.loads(first.lines[0])
    png("x.png", {"parameters": Image.open(drawn["path"]).text["parameters"]})
    again = json.loads(sd("again", "x.png", "-m", toy, "--json").lines[0])
    for key in ("prompt", "seed", "steps", "sampler", "schedule", "cfg", "width", "height"):
        assert again["request"][key] == drawn["request"][key]
    assert Image.open(again["path"]).tobytes() == Image.open(drawn["path"]).tobytes()


@pytest.mark.parametrize(
    "texts", [{}, {"Title": "holiday"}, {"prompt": "{}"}, {"parameters": "hello"}, {"Comment": "{"}]
)
def test_b6_a_picture_that_says_nothing_is_refused_in_one_line(sd, texts):
    ran = sd("again", png("x.png", texts))
    assert (ran.code, len(ran.err.splitlines())) == (4, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=4), each, max_size=3), max_leaves=5,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(CASES)), st.data())
def test_b6_odd_values_are_left_and_never_a_traceback(name, data):
    texts = dict(CASES[name][0])
    key = data.draw(st.sampled_from(sorted(texts)))
    try:
        facts = json.loads(texts[key])
        place = facts.get("sui_image_params", facts)
        inner = data.draw(st.sampled_from(sorted(place) or [""]))
        node = place[inner]
        if isinstance(node, dict) and "inputs" in node and node["inputs"]:
            place, inner = node["inputs"], data.draw(st.sampled_from(sorted(node["inputs"])))
        place[inner] = data.draw(JSON)
        texts[key] = json.dumps(facts)
    except (ValueError, AttributeError, KeyError):
        cut = data.draw(st.integers(0, len(texts[key])))
        texts[key] = (
            texts[key][:cut]
            + data.draw(st.text(max_size=5))
            + texts[key][cut + data.draw(st.integers(0, 5)) :]
        )
    found = recognise(texts, (64, 64))
    if found is not None:
        assert isinstance(found.left, dict)


@pytest.mark.parametrize(("emphasis", "named"), [("no_norm", "No norm"), ("none", "None"), ("a1111", None)])
def test_b6_the_emphasis_is_written_as_a1111_does_and_read_again(emphasis, named):

    request = Request("a (cat:1.2)", seed=1, steps=4, cfg=7.0, sampler="euler", emphasis=emphasis)
    written = parameters(request, {})
    assert (f"Emphasis: {named}" in written) if named else "Emphasis" not in written
    read = recognise({"parameters": written}, (64, 64))
    assert read.fields.get("emphasis") == (emphasis if named else None)
