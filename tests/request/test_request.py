"""The request is checked at birth; labels of other tools are understood; a PNG carries it there and back."""

import dataclasses
import io
import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdcli.errors import ImageError, SdError, UsageError
from sdcli.request.fields import as_dict, check_fields, checked, option, option_of
from sdcli.request.picture import Picture, parameters
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.request import INDEPENDENT, Request
from tests.request.strategies import FIELDS, requests


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None)
@given(requests())
def test_a_request_goes_through_json_and_back(request):
    assert Request.from_dict(json.loads(json.dumps(request.as_dict()))) == request


@pytest.mark.parametrize("declared", dataclasses.fields(Request), ids=lambda declared: declared.name)
def test_a_default_passes_its_own_check(declared):
    value = checked(declared, declared.default)
    assert (value, type(value)) == (declared.default, type(declared.default))


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None)
@given(requests(), st.fixed_dictionaries({}, optional={name: FIELDS[name] for name in sorted(INDEPENDENT)}))
def test_changing_independent_fields_is_making_the_request_with_them(request, changes):
    try:
        expected = dataclasses.replace(request, **changes)
    except UsageError as error:
        with pytest.raises(UsageError, match=re.escape(str(error))):
            request.replace(**changes)
    else:
        assert request.replace(**changes) == expected


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None)
@given(requests())
def test_a_request_goes_through_a_png_and_back(request):
    png = Picture(Image.new("RGB", (8, 8)), request, {"torch": "2"}).png()
    told = read_png_metadata(io.BytesIO(png), "x.png")
    unrecorded = {
        each.name: each.default for each in dataclasses.fields(Request) if not option_of(each).recorded
    }
    assert told.request("x.png") == request.replace(**unrecorded)
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


def test_the_parameters_text_reads_as_a1111_writes_it():
    request = Request("a cat, sitting", negative="a dog", seed=7, steps=20, cfg=6, sampler="dpmpp_2m",
                      schedule="karras", width=512, height=256, clip_skip=1, model="models/my, model")  # fmt: skip
    lines = parameters(request, {"model": {"sha256": "0123456789abcdef"}}).splitlines()
    assert lines[:2] == ["a cat, sitting", "Negative prompt: a dog"]
    assert lines[2].startswith(
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6, Seed: 7, Size: 512x256, "
        'Model hash: 0123456789, Model: "my, model", RNG: CPU, Version: sdcli '
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
