"""A1111's API: its client webuiapi, and the command line's bytes."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

webuiapi = pytest.importorskip("webuiapi")

SMALL = {"width": 64, "height": 64, "steps": 2, "seed": 7}
TYPED = ("--seed", 7, "--steps", 2, "--width", 64, "--height", 64, "--cfg", 7, "--like", "a1111")
EULER_A = ("--sampler", "Euler a", "--schedule", "automatic")


@pytest.fixture
def api(server):
    """A1111's client; the model is switched back afterwards."""
    api = webuiapi.WebUIApi(port=server.port)
    yield api
    api.session.post(f"{api.baseurl}/options", json={"sd_model_checkpoint": "tiny"})
    api.session.close()


def files_of(answer) -> list[bytes]:
    return [base64.b64decode(image) for image in answer.json["images"]]


def drawn(sd, tmp_path, *arguments, stdin=b"") -> list[bytes]:
    """The files that the command line saves."""
    ran = sd(*arguments, "-q", stdin=stdin)
    assert ran.code == 0, ran.err
    return [(tmp_path / line).read_bytes() for line in ran.lines]


def photo(mode="RGB", size=(64, 64)) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    ).convert(mode)


def half_mask(path=None, size=(64, 64)) -> Image.Image:
    """White at the right, black at the left."""
    mask = Image.new("L", size)
    mask.paste(255, (size[0] // 2, 0, *size))
    if path:
        mask.save(path)
    return mask


def png(image) -> bytes:
    """The bytes that the client sends for this picture."""
    return base64.b64decode(webuiapi.webuiapi.raw_b64_img(image))


def test_pictures_of_a_batch_are_those_of_the_command_line(api, sd, tmp_path):
    answer = api.txt2img(prompt="a red apple", negative_prompt="a leaf", batch_size=2, n_iter=2, **SMALL)
    typed = ("txt2img", "a red apple", "-n", "a leaf", *TYPED, *EULER_A, "--count", 4)
    assert files_of(answer) == drawn(sd, tmp_path, *typed)
    assert answer.info["all_seeds"] == [7, 8, 9, 10] and answer.info["batch_size"] == 2


@pytest.mark.parametrize(
    ("sent", "typed"),
    [
        ({"sampler_name": "DPM++ 2M Karras"}, ["--sampler", "dpmpp_2m", "--schedule", "karras"]),
        ({"sampler_name": "DPM++ 2M", "scheduler": "Karras"}, ["--sampler", "dpmpp_2m", "--schedule", "karras"]),
        ({"sampler_name": "DPM++ 2M SDE"}, ["--sampler", "dpmpp_2m_sde", "--schedule", "exponential"]),
        ({"sampler_name": "Euler", "scheduler": "Automatic"}, ["--sampler", "euler", "--schedule", "uniform"]),
        ({"sampler_name": "DDIM"}, ["--sampler", "ddim:eta=1", "--schedule", "automatic"]),
        ({"sampler_name": "Euler a", "eta": 0.5}, ["--sampler", "euler_a:eta=0.5", "--schedule", "uniform"]),
        ({"tiling": True}, [*EULER_A, "--tile", "both"]),
        ({"subseed": 5, "subseed_strength": 0.3}, [*EULER_A, "--variation-seed", 5, "--variation-strength", 0.3]),
        ({"seed_resize_from_w": 128, "seed_resize_from_h": 64}, [*EULER_A, "--seed-size", "128x64"]),
        ({"override_settings": {"CLIP_stop_at_last_layers": 2}}, [*EULER_A, "--clip-skip", 2]),
        ({"override_settings": {"eta_noise_seed_delta": 31337}}, [*EULER_A, "--eta-noise-seed-delta", 31337]),
        ({"override_settings": {"randn_source": "GPU"}}, [*EULER_A, "--rng", "philox"]),
        ({"override_settings": {"sd_model_checkpoint": "test:sd1"}}, [*EULER_A, "-m", "test:sd1"]),
        ({"override_settings": {"emphasis": "No norm", "sd_vae": "Automatic"}}, [*EULER_A, "--emphasis", "no_norm"]),
        (
            {"enable_hr": True, "hr_upscaler": "Lanczos", "denoising_strength": 0.5},
            [*EULER_A, "--hires", 2, "--hires-strength", 0.5],
        ),
        (
            {"enable_hr": True, "hr_upscaler": "Latent (bicubic)", "hr_resize_x": 96, "hr_resize_y": 96},
            [*EULER_A, "--hires", 1.5, "--hires-strength", 0.7, "--hires-by", "latents"],
        ),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_client_sends_is_what_the_command_line_draws(api, sd, tmp_path, sent, typed):
    answer = api.txt2img(prompt="a cat, (on a mat:1.2)", **{**SMALL, **sent})
    assert files_of(answer) == drawn(sd, tmp_path, "txt2img", "a cat, (on a mat:1.2)", *TYPED, *typed)


@pytest.mark.parametrize(("mode", "fit"), [(0, "stretch"), (1, "crop"), (2, "pad")])
def test_img2img_is_that_of_the_command_line(api, sd, tmp_path, mode, fit):
    image = photo(size=(96, 64))
    answer = api.img2img(images=[image], prompt="a cat", resize_mode=mode, denoising_strength=0.5, **SMALL)
    typed = (*TYPED, *EULER_A, "-i", "-", "--strength", 0.5, "--fit", fit)
    assert files_of(answer) == drawn(sd, tmp_path, "img2img", "a cat", *typed, stdin=png(image))


@pytest.mark.parametrize(
    ("sent", "typed"),
    [
        ({}, ["--only-masked", "--padding", 0, "--masked-content", "fill"]),
        ({"inpainting_fill": 1, "inpaint_full_res": False}, ["--masked-content", "original"]),
        ({"inpainting_fill": 2, "inpaint_full_res_padding": 8, "mask_blur": 2},
         ["--only-masked", "--padding", 8, "--masked-content", "noise", "--mask-blur", 2]),
        ({"inpainting_fill": 3, "inpainting_mask_invert": 1},
         ["--only-masked", "--padding", 0, "--masked-content", "empty", "--invert-mask"]),
    ],
    ids=str,
)  # fmt: skip
def test_inpainting_paints_as_the_command_line_does(api, sd, tmp_path, sent, typed):
    image, mask = photo(), half_mask(tmp_path / "mask.png")
    answer = api.img2img(images=[image], mask_image=mask, prompt="a cat", **SMALL, **sent)
    typed = (
        *TYPED,
        *EULER_A,
        "-i",
        "-",
        "--mask",
        "mask.png",
        "--strength",
        0.75,
        "--fit",
        "stretch",
        *typed,
    )
    ours = Image.open(io.BytesIO(drawn(sd, tmp_path, "inpaint", "a cat", *typed, stdin=png(image))[0]))
    assert (np.asarray(answer.image) == np.asarray(ours)).all()  # the name of the mask's file is recorded too


def test_info_and_png_info_tell_what_was_drawn(api):
    answer = api.txt2img(prompt="a cat", negative_prompt="a dog", styles=[], **{**SMALL, "seed": -1})
    info = answer.info
    assert info["sampler_name"] == "Euler a" and (info["width"], info["height"], info["steps"]) == (64, 64, 2)
    assert info["seed"] == info["all_seeds"][0] >= 0 and info["sd_model_name"] == "tiny"
    assert answer.image.info["parameters"] == info["infotexts"][0]
    told = api.png_info(answer.image)
    assert told.info == info["infotexts"][0] and f"Seed: {info['seed']}" in told.info
    assert told.parameters["Negative prompt"] == "a dog" and told.json["items"]["parameters"] == told.info
    again = api.txt2img(prompt="a cat", negative_prompt="a dog", **{**SMALL, "seed": info["seed"]})
    assert files_of(again) == files_of(answer)
    assert answer.parameters["cfg_scale"] == 7.0


def test_a_switched_model_draws_what_follows(api, sd, tmp_path):
    title = next(name for name in api.util_get_model_names() if name.startswith("test:sd1"))
    api.util_set_model(title)
    assert api.util_get_current_model() == title
    answer = api.txt2img(prompt="a cat", **SMALL)
    assert files_of(answer) == drawn(sd, tmp_path, "txt2img", "a cat", *TYPED, *EULER_A, "-m", "test:sd1")
    model = next(each for each in api.get_sd_models() if each["title"] == title)
    assert answer.info["sd_model_hash"] == model["hash"] == model["sha256"][:10]


def test_the_client_gets_json_from_all_lists(api):
    assert {each["name"] for each in api.get_samplers()} >= {"Euler a", "DPM++ 2M", "DDIM"}
    assert {each["label"] for each in api.get_schedulers()} >= {"Automatic", "Karras", "Uniform"}
    assert [each["name"] for each in api.get_upscalers()][:2] == ["None", "Lanczos"]
    for lists in (api.get_sd_vae, api.get_loras, api.get_hypernetworks, api.get_face_restorers,
                  api.get_realesrgan_models, api.get_prompt_styles):  # fmt: skip
        assert isinstance(lists(), list)
    assert api.get_embeddings().keys() == {"loaded", "skipped"}
    assert api.get_memory()["ram"]["total"] > 0
    assert api.refresh_checkpoints() is None
    assert api.get_scripts() == {"txt2img": [], "img2img": []}
    assert not {"gradio_auth", "api_auth", "data_dir"} & api.get_cmd_flags().keys()
    api.util_wait_for_ready()


@pytest.mark.slow
def test_every_listed_sampler_and_schedule_draws(api):
    for each in api.get_samplers():
        assert len(api.txt2img(prompt="", sampler_name=each["name"], **{**SMALL, "steps": 3}).images) == 1
    for each in api.get_schedulers():
        for word in {each["name"], each["label"]}:
            assert api.txt2img(prompt="", sampler_name="Euler", scheduler=word, **SMALL).images


def test_a_picture_is_enlarged(api):
    image = photo()
    for name, filter in (("Lanczos", Image.Resampling.LANCZOS), ("Nearest", Image.Resampling.NEAREST)):
        large = api.extra_single_image(image, upscaler_1=name, upscaling_resize=1.5).image
        assert (np.asarray(large) == np.asarray(image.resize((96, 96), filter))).all()
    assert (np.asarray(api.extra_single_image(image).image) == np.asarray(image)).all()


def test_refusals_name_the_field(api):
    with pytest.raises(RuntimeError) as caught:
        api.txt2img(prompt="a cat", restore_faces=True, **SMALL)
    status, text = caught.value.args
    assert status == 422 and json.loads(text)["detail"].startswith("restore_faces: ")
