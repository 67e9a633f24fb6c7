"""The table of A1111's fields: what each becomes, and what is refused by its name."""

import base64
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sdcli.errors import SdError, UsageError
from sdcli.request.request import Loading, Request
from sdcli.serve.a1111 import lists
from sdcli.serve.a1111.fields import HARMLESS, REFUSED, values_of
from sdcli.serve.a1111.sent import Sent
from sdcli.serve.a1111.settings import SHOWN, Settings, title_of
from sdcli.serve.budget import Budget
from sdcli.serve.names import Served, UnknownModel


def values(body, is_img2img=False, settings=()):
    return values_of(Sent(body), dict(settings), Budget(), is_img2img)


def base64_png(width=64, height=64) -> str:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="module")
def served():
    return Served(["tiny"], Loading())


def test_an_empty_body_is_a_request_by_a1111s_conventions():
    assert values({}) == {"like": "a1111", "prompt": "", "count": 1}


def test_null_is_the_same_as_not_sent():
    names = (
        "prompt",
        "seed",
        "steps",
        "sampler_name",
        "eta",
        "styles",
        "override",
        "alwayson_scripts",
        *REFUSED,
        *HARMLESS,
    )
    assert values(dict.fromkeys(names)) == values({})


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"steps": "20", "cfg_scale": "7"}, {"steps": 20, "cfg": 7.0}),
        ({"steps": 20.0}, {"steps": 20}),
        ({"batch_size": 2, "n_iter": 3}, {"count": 6}),
        ({"sampler_index": "Euler"}, {"sampler": "euler", "schedule": "automatic"}),
        ({"sampler_index": "Euler", "sampler_name": "Heun"}, {"sampler": "heun"}),
        ({"sampler_index": "Euler", "sampler_name": ""}, {"sampler": "euler"}),
        ({"sampler_name": "DPM++ 2M Karras", "scheduler": "Exponential"}, {"schedule": "karras"}),
        ({"sampler_name": "Euler a", "scheduler": "automatic"}, {"schedule": "automatic"}),
        ({"scheduler": "SGM Uniform"}, {"schedule": "sgm_uniform"}),
        ({"sampler_name": "Euler", "eta": 1.0}, {"sampler": "euler"}),
        ({"sampler_name": "Euler a", "eta": 1.0}, {"sampler": "euler_a"}),
        ({"sampler_name": "DDIM", "eta": 1.0}, {"sampler": "ddim:eta=1"}),
        ({"sampler_name": "DDIM", "eta": 0}, {"sampler": "ddim"}),
        ({"sampler_name": "DPM adaptive", "eta": 1.0}, {"sampler": "dpm_adaptive"}),
        ({"sampler_name": "DPM adaptive", "eta": 0}, {"sampler": "dpm_adaptive:eta=0"}),
        ({"sampler_name": "DPM++ 2M SDE Heun", "s_noise": 1.02}, {"sampler": "dpmpp_2m_sde:heun=true,s_noise=1.02"}),
        ({"subseed": 5, "subseed_strength": 0}, {}),
        ({"subseed": 5, "subseed_strength": 0.5}, {"variation_seed": 5, "variation_strength": 0.5}),
        ({"seed_resize_from_w": 512, "seed_resize_from_h": -1}, {}),
        ({"styles": ["a", "b"]}, {"style": ["a", "b"]}),
        ({"enable_hr": False, "hr_upscaler": "Latent", "hr_second_pass_steps": 9, "denoising_strength": 3}, {}),
        ({"enable_hr": True, "hr_upscaler": "R-ESRGAN 4x+"}, {"hires_by": "RealESRGAN_x4plus", "hires": 2.0}),
        ({"enable_hr": True, "steps": 9, "hr_second_pass_steps": 9}, {"hires_strength": 0.75, "hires_by": "latents"}),
        ({"enable_hr": True, "hr_resize_x": 128, "width": 64, "height": 64}, {"hires": 2.0}),
        ({"alwayson_scripts": {}}, {}),
        ({"alwayson_scripts": {"ControlNet": {"args": []}, "ADetailer": {"args": [False]}}}, {}),
        ({"alwayson_scripts": {"ControlNet": {"args": [{"enabled": False, "model": "x"}]}}}, {}),
        ({"s_tmax": 0, "s_churn": 0, "save_images": True, "url": "http://x", "auth": ""}, {}),
        ({"like": "sdcli", "clip_skip": 2}, {"like": "sdcli", "clip_skip": 2}),
    ],
    ids=str,
)  # fmt: skip
def test_a_field_becomes_what_it_means(body, found):
    told = values(body)
    assert found.items() <= told.items()
    if not found:
        assert told == values({})


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"restore_faces": True}, "restore_faces"),
        ({"script_name": "x/y/z plot", "script_args": [1]}, "script_name"),
        ({"alwayson_scripts": {"ControlNet": {"args": [{"model": "x"}]}}}, "controlnet unit 0: model"),
        ({"alwayson_scripts": {"ADetailer": {"args": [True, {}]}}}, "ADetailer"),
        ({"refiner_checkpoint": "xl"}, "refiner_checkpoint"),
        ({"s_churn": 5}, "s_churn"),
        ({"s_min_uncond": 0.1}, "s_min_uncond"),
        ({"latent_mask": "x"}, "latent_mask"),
        ({"disable_extra_networks": True}, "disable_extra_networks"),
        ({"no_such_field": 1}, "no_such_field"),
        ({"steps": 20.5}, "steps"),
        ({"steps": True}, "steps"),
        ({"enable_hr": True, "width": 64, "height": 64, "hr_resize_x": 10**400}, "hr_resize_x"),
        ({"steps": "1..8"}, "steps"),
        ({"cfg_scale": "nan"}, "cfg_scale"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"styles": "a"}, "styles"),
        ({"tiling": "yes"}, "tiling"),
        ({"batch_size": 0}, "batch_size"),
        ({"eta": 0.5}, "eta"),
        ({"sampler_name": "DPM++ 2M v2"}, "DPM++ 2M v2"),
        ({"enable_hr": True, "hr_upscaler": "Latent"}, "hr_upscaler"),
        ({"enable_hr": True, "hr_second_pass_steps": 5, "steps": 9}, "hr_second_pass_steps"),
        ({"enable_hr": True, "hr_prompt": "another"}, "hr_prompt"),
        ({"enable_hr": True, "hr_sampler_name": "Euler"}, "hr_sampler_name"),
        ({"enable_hr": True, "hr_resize_x": 128, "hr_resize_y": 64, "width": 64, "height": 64}, "hr_resize_x"),
        ({"enable_hr": True, "hr_resize_x": 128, "hr_resize_y": 128}, "send width and height"),
        ({"count": 2}, "batch_size or n_iter"),
        ({"enable_hr": True, "firstphase_width": 64}, "firstphase_width"),
        ({"clip_skip": 2, "steps": 3, "override": 1}, "override"),
        ({"init_images": [""]}, "init_images"),
    ],
    ids=str,
)  # fmt: skip
def test_what_would_change_the_picture_and_is_not_done_is_refused_by_name(body, named):
    with pytest.raises(UsageError, match=named.replace("+", r"\+")):
        values(body)


def test_a_picture_may_come_with_or_without_the_prefix_of_a_data_url():
    data = base64_png()
    bare, prefixed = (
        values({"init_images": [each]}, True) for each in (data, f"data:image/png;base64,{data}")
    )
    assert bare == prefixed and bare["fit"] == "stretch" and bare["strength"] == 0.75


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "init_images"),
        ({"init_images": []}, "init_images"),
        ({"init_images": ["PNG", "PNG"]}, "init_images"),
        ({"init_images": ["/etc/passwd"]}, "init_images"),
        ({"init_images": ["http://127.0.0.1/a.png"]}, "init_images"),
        ({"init_images": ["PNG"], "resize_mode": 3}, "resize_mode"),
        ({"init_images": ["PNG"], "initial_noise_multiplier": 0.9}, "initial_noise_multiplier"),
        ({"init_images": ["PNG"], "mask": "PNG", "inpainting_fill": 4}, "inpainting_fill"),
        ({"init_images": ["PNG"], "mask": "PNG", "mask_blur_x": 4, "mask_blur_y": 5}, "mask_blur_x"),
        ({"init_images": ["PNG"], "mask": "PNG", "mask_round": False}, "mask_round"),
        ({"init_images": ["PNG"], "mask": "PNG", "inpaint_full_res": False, "width": 128}, "width"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_over_is_refused_by_name(body, named):
    def filled(value):
        return (
            [filled(each) for each in value]
            if isinstance(value, list)
            else {"PNG": base64_png()}.get(value, value)
        )

    body = {name: filled(value) if name in ("init_images", "mask") else value for name, value in body.items()}
    with pytest.raises(SdError, match=named):
        values(body, True)


def test_every_listed_sampler_and_schedule_is_understood_as_ours():
    for each in lists.samplers():
        found = values({"sampler_name": each["name"]})
        assert Request(sampler=found["sampler"]).sampler == Request(sampler=each["aliases"][0]).sampler
    for each in lists.schedulers():
        for word in (each["name"], each["label"]):
            assert values({"scheduler": word})["schedule"] == each["name"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_NAMES = st.sampled_from([
    "prompt", "seed", "steps", "sampler_name", "sampler_index", "scheduler", "eta", "s_noise", "subseed",
    "subseed_strength", "seed_resize_from_w", "styles", "tiling", "enable_hr", "hr_scale", "hr_resize_x", "hr_upscaler",
    "hr_second_pass_steps", "batch_size", "n_iter", "alwayson_scripts", "init_images", "mask", "mask_blur",
    "resize_mode", "width", "denoising_strength", *REFUSED,
])  # fmt: skip


@settings(max_examples=60)
@given(st.dictionaries(_NAMES, _JSON, max_size=6), st.booleans())
def test_any_json_is_understood_or_refused(body, is_img2img):
    try:
        values(body, is_img2img)
    except SdError as error:
        assert "\n" not in str(error)[:40]


def test_every_default_that_is_shown_may_be_posted_back(served):
    settings = Settings(served)
    settings.change(settings.shown())
    assert settings.shown() == Settings(served).shown()


def test_options_become_fields_and_a_bad_one_changes_none(served):
    settings = Settings(served)
    settings.change({"CLIP_stop_at_last_layers": 2, "randn_source": "NV"})
    assert settings.fields({}) == {"clip_skip": 2, "rng": "philox"}
    assert settings.fields({"randn_source": "CPU"})["rng"] == "torch"
    settings.change({"CLIP_stop_at_last_layers": "2"})
    assert settings.shown()["CLIP_stop_at_last_layers"] == 2
    for bad in (
        {"sd_vae": "x.safetensors"},
        {"emphasis": "Ignore"},
        {"no_such": 1},
        {"samples_format": "jpg"},
    ):
        with pytest.raises(UsageError, match=next(iter(bad))):
            settings.change({"CLIP_stop_at_last_layers": 1, **bad})
    assert settings.fields({})["clip_skip"] == 2


def test_a_model_is_found_by_title_name_and_hash(served):
    model = served.default
    title = title_of(model)
    for name in (title, "tiny", "tiny.safetensors", title[-11:-1]):
        assert Settings(served).fields({"sd_model_checkpoint": name}) == {"model": "tiny"}
    for name in ("tiny [0123456789]", "sdxl", "../tiny"):
        with pytest.raises(UnknownModel):
            Settings(served).fields({"sd_model_checkpoint": name})


def test_the_fields_of_options_are_those_of_a_request():
    from sdcli.serve.a1111.settings import FIELDS

    assert {ours for ours, _ in FIELDS.values()} <= Request.__dataclass_fields__.keys()
    assert FIELDS.keys() <= SHOWN.keys()
