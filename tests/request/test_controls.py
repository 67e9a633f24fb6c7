"""`--control FILE:image=pose.png:weight=0.8`: what is typed, read and refused before any file is opened."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.errors import UsageError
from sdcli.request import a1111_text, controls
from sdcli.request.controls import ControlUse
from sdcli.request.other_tools.recognise import recognise
from sdcli.request.picture import parameters
from sdcli.request.request import Request


def test_a_file_and_its_picture_have_defaults():
    assert controls.parse("net.safetensors:image=a.png") == ControlUse("net.safetensors", "a.png")


def test_all_settings_are_read():
    text = "C:\\net.safetensors:image=D:\\a.png:weight=0.8:start=0.1:end=0.6:mode=prompt:type=canny:pool=no:fit=pad"
    assert controls.parse(text) == ControlUse(
        "C:\\net.safetensors", "D:\\a.png", 0.8, 0.1, 0.6, "prompt", "canny", pool=False, fit="pad"
    )


@pytest.mark.parametrize(
    "typed",
    [
        "annotate=canny:low=50:high=150",
        "annotate=canny:low=50,high=150",
        "low=50:annotate=canny:high=150",
        "annotate=canny,low=50,high=150",
    ],
)
def test_an_annotator_takes_its_options_behind_it(typed):
    assert controls.parse(f"net:image=a.png:{typed}").annotate == "canny:low=50,high=150"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (":image=a.png", "names no file"),
        ("net:image=a.png:wieght=1", "no setting is called 'wieght'; did you mean 'weight'?"),
        ("net:image=a.png:weight=much", "weight='much' is not a number"),
        ("net:image=a.png:weight=-1", "weight=-1 is outside 0...10"),
        ("net:image=a.png:end=1.5", "end=1.5 is outside 0...1"),
        ("net:image=a.png:start=0.8:end=0.2", "starts at 0.8 and ends at 0.2, before that"),
        ("net:image=a.png:mode=ballanced", "did you mean 'balanced'?"),
        ("net:image=a.png:annotate=cany", "no annotator is called 'cany'; did you mean 'canny'?"),
        ("net:image=a.png:annotate=canny:low=much", "is not a float"),
        ("net:image=a.png:annotate=canny,weight=2", "canny has no option 'weight'"),
        ("net:image=a.png:annotate=grey:low=1", "no setting is called 'low'"),
        ("net:image=a.png:fit=paad", "did you mean 'pad'?"),
        ("net:image=a.png:pool=perhaps", "pool='perhaps' is unknown"),
        ("net:image=-", "cannot be standard input"),
        ("net:image=a.png:masked=yes", "there is no mask; give one with --mask"),
        ("net", "names no picture; write image=pose.png behind it"),
    ],
)
def test_what_is_typed_wrong_is_refused_when_the_request_is_made(text, message):
    with pytest.raises(UsageError) as error:
        Request("a cat", control=(text,))
    assert message in str(error.value)


def test_a_control_without_a_picture_takes_the_one_to_start_from():
    assert Request("a cat", image="in.png", control=("net",)).control == ("net",)


@given(st.text(max_size=60))
def test_no_text_ends_in_anything_but_a_usage_error(text):
    try:
        controls.parse(text)
    except UsageError:
        return


def test_every_field_of_a_control_is_one_that_can_be_typed():
    assert {each.name for each in dataclasses.fields(ControlUse)} - {"path"} == set(controls.OWN_SETTINGS)


RECORD = {"controls": {"canny": {"file": "canny.safetensors", "sha256": "0123456789abcdef" * 4}}}


def test_a_picture_tells_its_controls_in_a1111s_words():
    control = "nets/canny.safetensors:image=a.png:weight=0.8:end=0.6:mode=control:annotate=canny"
    text = parameters(Request("a cat", seed=1, steps=4, control=(control,)), RECORD)
    assert (
        'ControlNet 0: "Module: canny, Model: canny [01234567], Weight: 0.8, Resize Mode: Crop and Resize, '
        "Guidance Start: 0, Guidance End: 0.6, Pixel Perfect: True, Control Mode: ControlNet is more important"
    ) in text


def test_a_picture_of_a1111_with_a_control_names_it_as_not_taken_over():
    text = parameters(
        Request(
            "a cat",
            seed=1,
            steps=4,
            sampler="euler",
            width=64,
            height=64,
            control=("canny.safetensors:image=a.png",),
        ),
        RECORD,
    ).replace("Version: sdcli", "Version: v1")
    found = recognise({"parameters": text}, (64, 64))
    assert "Model: canny [01234567]" in found.left["ControlNet 0"]
    assert "name it and the net with --control" in found.left["ControlNet 0"]


def test_names_with_commas_do_not_spoil_the_pairs():
    record = {"controls": {"a, b: c": {"file": "a, b: c.safetensors", "sha256": "0" * 64}}}
    pairs = a1111_text.control_pairs(("a, b: c.safetensors:image=x.png",), None, record["controls"])
    assert "Model: a b c [00000000]" in pairs["ControlNet 0"]
