"""Prepared requests: styles are added, variants are drawn by the seed, and what is drawn is what is recorded."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.errors import UsageError
from sdcli.request.other_tools.reading import OtherPicture
from sdcli.request.png_metadata import PngMetadata
from sdcli.request.prepare import prepared, retyped
from sdcli.request.request import Request
from tests.request.strategies import requests

VARIANTS = "a {red|blue} apple"


@pytest.fixture
def styles(tmp_path):
    """A file of styles."""
    path = tmp_path / "styles.csv"
    path.write_text('name,prompt,negative_prompt\nfilm,"{prompt}, film still",blurry\nold,"{worn|torn}",\n')
    return path


@pytest.fixture
def wildcards(tmp_path):
    """A folder of wildcards."""
    folder = tmp_path / "wildcards"
    folder.mkdir()
    (folder / "animal.txt").write_text("cat\ndog\n")
    return folder


def test_the_seed_decides_which_variant_is_drawn():
    drawn = [prepared(Request(VARIANTS, seed=seed)).prompt for seed in range(20)]
    assert set(drawn) == {"a red apple", "a blue apple"}
    assert drawn == [prepared(Request(VARIANTS, seed=seed)).prompt for seed in range(20)]


def test_each_picture_of_a_count_draws_what_its_own_seed_draws():
    asked = Request(VARIANTS, seed=3)
    for i in range(5):
        assert prepared(asked.nth(i)) == prepared(Request(VARIANTS, seed=3 + i))


def test_the_variations_of_a_picture_draw_the_same_words():
    asked = Request(VARIANTS, seed=3, variation_seed=1, variation_strength=0.1)
    assert {prepared(asked.nth(i)).prompt for i in range(9)} == {prepared(Request(VARIANTS, seed=3)).prompt}


def test_the_same_variants_are_drawn_alike_in_the_prompt_and_the_negative_prompt():
    for seed in range(9):
        drawn = prepared(Request("{a|b|c}", negative="no {a|b|c}", seed=seed))
        assert drawn.negative == f"no {drawn.prompt}"


def test_a_plain_request_is_itself():
    request = Request("a cat", seed=7)
    assert prepared(request) is request


def test_what_is_recorded_names_neither_styles_nor_wildcards(styles, wildcards):
    request = Request(
        "an __animal__",
        style=["film", "old"],
        styles_file=styles,
        wildcards=wildcards,
        negative="{x}",
        seed=1,
    )
    record = prepared(request).as_dict()
    assert record.keys() == {"prompt", "negative", "seed"}
    assert record["prompt"] in {
        f"an {animal}, film still, {old}" for animal in ("cat", "dog") for old in ("worn", "torn")
    }
    assert record["negative"] == "x, blurry"


@given(requests())
def test_a_prepared_request_stays_as_it_is(request):
    try:
        once = prepared(request.replace(style=(), wildcards=None).with_seed())
    except UsageError:
        return
    assert prepared(once) is once
    assert Request.from_dict(once.as_dict()) == once


@given(st.integers(0, 99))
def test_words_that_look_like_variants_once_drawn_are_not_drawn_again(seed):
    drawn = prepared(Request("{_|a}_b{_|c}_", seed=seed))
    assert prepared(drawn) is drawn
    assert (drawn.prompt == "__b__") == (drawn.variants is False)


@pytest.mark.parametrize("like", ["a1111", "comfyui", "diffusers", "compvis"])
def test_variants_are_words_in_the_conventions_of_other_tools_unless_asked_for(like):
    assert prepared(Request("{a|a}", seed=1, like=like)).prompt == "{a|a}"
    assert prepared(Request("{a|a}", seed=1, like=like, variants=True)).prompt == "a"


def test_variants_can_be_taken_as_words():
    request = Request("{a|b}", seed=1, variants=False)
    assert prepared(request) is request
    assert request.as_dict()["variants"] is False


def test_wildcards_are_refused_where_they_are_taken_as_words(wildcards):
    with pytest.raises(UsageError, match=r"^--like a1111 takes __name__ as words, .*add --variants"):
        prepared(Request("x", seed=1, like="a1111", wildcards=wildcards))
    with pytest.raises(UsageError, match=r"^--no-variants takes __name__ as words"):
        prepared(Request("x", seed=1, variants=False, wildcards=wildcards))


def test_styles_and_wildcards_are_those_of_the_settings_if_none_are_named(styles, wildcards, monkeypatch):
    monkeypatch.setenv("SDCLI_STYLES", str(styles))
    monkeypatch.setenv("SDCLI_WILDCARDS", str(wildcards))
    assert prepared(Request("one __animal__", style=["film"], seed=1)).prompt in {
        "one cat, film still",
        "one dog, film still",
    }


def test_a_style_without_a_styles_file_names_the_one_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("SDCLI_STYLES", str(tmp_path / "none.csv"))
    with pytest.raises(
        UsageError, match=r"--style 'film': .*none\.csv: there is no such file; .*--styles-file"
    ):
        prepared(Request("x", style=["film"], seed=1))


def test_a_python_program_reads_how_to_take_variants_as_words(python_names):
    with pytest.raises(UsageError, match="variants=False"):
        prepared(Request("{a", seed=1))


def test_pictures_of_version_0_1_keep_their_words():
    record = json.dumps({"request": {"prompt": VARIANTS, "seed": 7}})
    request = PngMetadata(64, 64, {"sd": record}).request("old.png")
    assert prepared(request).prompt == VARIANTS


def test_a_prompt_typed_anew_for_a_recorded_picture_is_read():
    recorded = Request("{a|a}", seed=1, variants=False)
    assert prepared(retyped(recorded, {"seed": 2})).prompt == "{a|a}"
    assert prepared(retyped(recorded, {"prompt": "{b|b}"})).prompt == "b"
    assert prepared(retyped(recorded, {"prompt": "{b|b}", "variants": False})).prompt == "{b|b}"
    literal_negative = Request("a", negative="{x|y}", seed=1, variants=False)
    assert prepared(retyped(literal_negative, {"prompt": "{b|b}"})).negative == "{x|y}"


def test_pictures_of_other_tools_keep_their_words():
    picture = OtherPicture("NovelAI", {"prompt": "{{a}} girl", "seed": 1})
    assert prepared(picture.request()).prompt == "{{a}} girl"
    assert prepared(picture.request(prompt="{b|b}")).prompt == "b"
