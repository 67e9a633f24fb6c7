"""The request is checked at birth; labels of other tools are understood; a PNG carries it there and back."""

import dataclasses
import io
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdcli import registry
from sdcli.errors import ImageError, SdError, UsageError
from sdcli.request import aliases
from sdcli.request.fields import as_dict, check_fields, option, option_of
from sdcli.request.picture import Picture, parameters
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.request import Request
from tests.request.strategies import requests


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None)
@given(requests())
def test_a_request_goes_through_json_and_back(request):
    assert Request.from_dict(json.loads(json.dumps(request.as_dict()))) == request


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None)
@given(requests())
def test_a_request_goes_through_a_png_and_back(request):
    png = Picture(Image.new("RGB", (8, 8)), request, {"torch": "2"}).png()
    told = read_png_metadata(io.BytesIO(png), "x.png")
    assert told.request("x.png") == request
    assert told.facts("x.png")["torch"] == "2"


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": "20"}, {"steps": 1001}, {"steps": True}, {"cfg": float("nan")}, {"cfg": float("inf")},
        {"seed": 1.5}, {"seed": 2**32}, {"width": 63}, {"width": 100}, {"prompt": 3}, {"prompt": "\ud800"},
        {"prompt": "a\0b"}, {"prompt": "x" * 20_001}, {"model": None}, {"device": "cuda:x"}, {"device": "cuda:²"},
        {"unknown": 1}, {"sampler": "nothing"}, {"guidance": "nothing"},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_meant_is_a_usage_error(bad):
    with pytest.raises(UsageError):
        Request.from_dict({"prompt": "a cat", **bad})


def test_every_field_declares_its_help_and_type():
    for each in dataclasses.fields(Request):
        assert option_of(each).help.endswith(".")
        assert option_of(each).type in (int, float, str, bool)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("DPM++ 2M Karras", ("dpmpp_2m", "karras")),
        ("DPM++ 2M", ("dpmpp_2m", None)),
        ("Euler a", ("euler_a", None)),
        ("euler_ancestral", ("euler_a", None)),
        ("Euler a Karras", ("euler_a", "karras")),
        ("Heun normal", ("heun", "uniform")),
        ("DDIM", ("ddim", None)),
        ("euler_a:eta=0.5", ("euler_a:eta=0.5", None)),
        ("DPM++ 2M SDE Heun Exponential", ("dpmpp_2m_sde:heun=true", "exponential")),
        ("DPM++ 2M SDE Heun:eta=0.5", ("dpmpp_2m_sde:heun=true,eta=0.5", None)),
        ("DPM++ 2M SGM Uniform", ("dpmpp_2m", "sgm_uniform")),
        ("DPM++ 2M Align Your Steps", ("dpmpp_2m", "align_your_steps")),
        ("DPM++ 3M SDE Karras", ("dpmpp_3m_sde", "karras")),
        ("DPM2 a Karras", ("dpm2_a", "karras")),
        ("DPM fast", ("dpm_fast", None)),
        ("UniPC", ("unipc", None)),
        ("uni_pc_bh2", ("unipc:bh2=true", None)),
        ("DDIM CFG++", ("euler_cfg_pp", None)),
        ("dpm_2_ancestral", ("dpm2_a", None)),
        ("EulerAncestralDiscreteScheduler", ("euler_a", None)),
        ("EulerDiscreteScheduler", ("euler", None)),
        ("DDIMScheduler", ("ddim", None)),
        ("DPMSolverMultistepScheduler", ("dpmpp_2m", None)),
        ("KDPM2DiscreteScheduler", ("dpm2", None)),
        ("UniPCMultistep", ("unipc:order=2,bh2=true", None)),
        ("LMSDiscrete", ("lms", None)),
    ],
)
def test_the_labels_people_know_are_understood(label, expected):
    assert aliases.parse(label) == expected


A1111_SAMPLERS = """DPM++ 2M, DPM++ SDE, DPM++ 2M SDE, DPM++ 2M SDE Heun, DPM++ 2S a, DPM++ 3M SDE, Euler a, Euler,
LMS, Heun, DPM2, DPM2 a, DPM fast, DPM adaptive, Restart, DDIM, DDIM CFG++, PLMS, UniPC, LCM"""
A1111_SCHEDULES = """Automatic, Uniform, Karras, Exponential, Polyexponential, SGM Uniform, KL Optimal,
Align Your Steps, Simple, Normal, DDIM, Beta"""
DIFFUSERS = """DDIM, DDPM, PNDM, LMSDiscrete, EulerDiscrete, EulerAncestralDiscrete, HeunDiscrete, KDPM2Discrete,
KDPM2AncestralDiscrete, DPMSolverMultistep, DPMSolverSinglestep, DPMSolverSDE, DEISMultistep, UniPCMultistep, SASolver,
LCM, TCD, IPNDM, EDMEuler, EDMDPMSolverMultistep"""


def words(text: str) -> list[str]:
    return [" ".join(each.split()) for each in text.split(",")]


def test_every_sampler_and_schedule_of_a1111_and_every_scheduler_of_diffusers_is_understood():
    for label in words(A1111_SAMPLERS):
        assert Request("x", sampler=label).schedule is None
    for label in words(A1111_SCHEDULES):
        assert Request("x", schedule=label).sampler is None
    for name in words(DIFFUSERS):
        Request("x", sampler=f"{name}Scheduler")
    assert Request("x", schedule="DDIM").schedule == "ddim_uniform"


def test_every_name_a_label_stands_for_is_a_plugin():
    for spec in [*aliases.A1111, *aliases._SAME.values(), *aliases._AS_SCHEDULE.values()]:
        kind = "schedules" if spec in registry.names("schedules") else "samplers"
        assert registry.find(kind, spec)


def test_every_label_we_write_is_one_we_read():
    for name, label in aliases.A1111.items():
        assert aliases.plain(label) == name


def test_a_label_gives_the_schedule_unless_one_is_asked_for():
    assert Request("x", sampler="DPM++ 2M Karras").schedule == "karras"
    assert Request("x", sampler="DPM++ 2M Karras", schedule="leading").schedule == "leading"


def test_the_parameters_text_reads_as_a1111_writes_it():
    request = Request("a cat, sitting", negative="a dog", seed=7, steps=20, cfg=6, sampler="dpmpp_2m",
                      schedule="karras", width=512, height=256, clip_skip=1, model="models/my, model")  # fmt: skip
    lines = parameters(request, {"model": {"sha256": "0123456789abcdef"}}).splitlines()
    assert lines[:2] == ["a cat, sitting", "Negative prompt: a dog"]
    assert lines[2].startswith(
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6, Seed: 7, Size: 512x256, "
        'Model hash: 0123456789, Model: "my, model", Clip skip: 1, RNG: CPU, Version: sdcli '
    )


def test_a_variation_is_told_as_a1111_tells_it():
    request = Request(
        "x", seed=7, variation_seed=8, variation_strength=0.25, seed_size="512x768", rng="philox"
    )
    told = parameters(request, {})
    for pair in (
        "Variation seed: 8",
        "Variation seed strength: 0.25",
        "Seed resize from: 512x768",
        "RNG: NV",
    ):
        assert f", {pair}, " in told


def png(sd: str) -> io.BytesIO:
    info, file = PngInfo(), io.BytesIO()
    info.add_text("sd", sd)
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    return io.BytesIO(file.getvalue())


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"request": 3}', '{"request": {"steps": 0}}', '{"request": {"x": 1}}',
             "[" * 10_000, '{"request": []}'],
)  # fmt: skip
def test_an_altered_text_in_a_png_is_an_image_error(text):
    with pytest.raises(ImageError, match=r"x\.png: "):
        read_png_metadata(png(text), "x.png").request("x.png")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_png_is_an_image_error_or_a_picture(data):
    whole = bytearray(Picture(Image.new("RGB", (8, 8)), Request("a cat", seed=7)).png())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        read_png_metadata(io.BytesIO(cut), "x.png").request("x.png")
    except SdError as error:
        assert error.code == 4


@pytest.mark.parametrize(
    "asked",
    [
        {"variation_seed": 3},
        {"variation_strength": 0.5},
        {"rng": "cuda"},
        {"seed_size": "512"},
        {"seed_size": "511x512"},
        {"seed_size": "8x8"},
    ],
)
def test_a_noise_that_cannot_be_drawn_is_a_usage_error(asked):
    with pytest.raises(UsageError):
        Request("a cat", **asked)


def test_a_seed_size_has_one_spelling():
    assert Request("a cat", seed_size=" 512 X 768").seed_size == "512x768"


@dataclasses.dataclass(frozen=True)
class Listed:
    """A request-like value with a field that may be given several times."""

    names: tuple[str, ...] = option((), "--name", type=str, help="A name.", many=True)

    def __post_init__(self) -> None:
        check_fields(self)


def test_a_field_may_be_a_list_that_goes_through_json_and_back():
    listed = Listed(names=["a", "b"])
    assert listed.names == ("a", "b")
    assert as_dict(listed) == {"names": ["a", "b"]}
    assert Listed(**json.loads(json.dumps(as_dict(listed)))) == listed
    assert as_dict(Listed()) == {}


@pytest.mark.parametrize("bad", ["a", 3, [3], ["a\0"]])
def test_a_list_field_refuses_what_is_no_list_of_its_type(bad):
    with pytest.raises(UsageError, match="--name"):
        Listed(names=bad)


def test_an_option_that_may_be_given_several_times_arrives_as_one_list():
    import click
    from click.testing import CliRunner

    from sdcli.commands import _options

    command = _options._click_option(dataclasses.fields(Listed)[0])(
        click.Command("x", callback=lambda **v: print(v))
    )
    assert "('a', 'b')" in CliRunner().invoke(command, ["--name", "a", "--name", "b"]).output
