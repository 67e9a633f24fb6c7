"""A file with how it is used: `FILE:weight=0.8:start=0.2`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.errors import UsageError
from sdcli.request.file_options import parse_file_options

KNOWN = ("image", "weight", "mode")


def parse(text):
    return parse_file_options("--control", text, KNOWN)


def test_a_file_alone_has_no_settings():
    assert parse("canny.safetensors").path == "canny.safetensors"
    assert parse("canny.safetensors").settings == {}


def test_settings_follow_the_file():
    found = parse("canny.safetensors:image=pose.png:weight=0.8")
    assert (found.path, dict(found.settings)) == (
        "canny.safetensors",
        {"image": "pose.png", "weight": "0.8"},
    )


def test_colons_in_paths_and_values_are_kept():
    found = parse(r"C:\nets\canny.safetensors:image=D:\poses\a:b.png:weight=1")
    assert found.path == r"C:\nets\canny.safetensors"
    assert found.settings["image"] == r"D:\poses\a:b.png"


def test_numbers_and_words_are_checked():
    found = parse("a:weight=0.5:mode=prompt")
    assert found.number("weight", 1, 0, 2) == 0.5
    assert found.choice("mode", "balanced", ("balanced", "prompt")) == "prompt"
    assert (parse("a").number("weight", 1), parse("a").choice("mode", "x", ("x",))) == (1, "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (":weight=1", "names no file"),
        ("a:wieght=1", "no setting is called 'wieght'; did you mean 'weight'?"),
        ("a:weight=1:weight=2", "weight is given twice"),
        ("a:weight=", "weight has no value"),
        ("a:weight=x", "weight='x' is not a number"),
        ("a:weight=nan", "weight='nan' is not a number"),
        ("a:weight=3", "weight=3 is outside 0...2"),
        ("a:mode=pormpt", "mode='pormpt' is unknown; did you mean 'prompt'?"),
    ],
)
def test_a_bad_setting_is_a_usage_error_that_names_the_option(text, message):
    with pytest.raises(UsageError) as error:
        found = parse(text)
        found.number("weight", 1, 0, 2)
        found.choice("mode", "balanced", ("balanced", "prompt"))
    assert message in str(error.value)
    assert str(error.value).startswith("--control ")


@given(st.text(max_size=60))
def test_no_text_ends_in_anything_but_a_usage_error(text):
    try:
        parse(text)
    except UsageError as error:
        assert "\n" not in str(error) or "\n" in text
