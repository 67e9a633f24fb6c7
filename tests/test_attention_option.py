"""--attention: a heat map for each word beside the picture, and what it refuses before a model is loaded."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sdcli import Request, generate
from sdcli.errors import UsageError
from sdcli.models.cache import ModelCache
from sdcli.request.heat_map import COLOURS, heat_map


def draw(sd, *rest, model="test:sd1", prompt="a cat with a hat"):
    return sd("txt2img", prompt, "-m", model, "--steps", 2, "--seed", 1, *rest)


def test_a_heat_map_for_each_word_lies_beside_the_picture(sd, tmp_path):
    ran = draw(sd, "-o", "pictures/cat.png", "--attention", "cat,red hat", prompt="a cat, a red hat")
    assert ran.lines == ["pictures/cat.png"]
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["cat-attention-cat.png", "cat-attention-red-hat.png", "cat.png"]
    with Image.open(tmp_path / "pictures" / "cat-attention-red-hat.png") as image:
        assert image.text["attention"] == "red hat" and image.size == (64, 64)


def test_heat_maps_never_overwrite_and_json_names_them(sd):
    for number in ("", "-2"):
        ran = draw(sd, "-o", "x.png", "--attention", "cat", "--json")
        facts = json.loads(ran.out)
        assert facts["path"] == f"x{number}.png"
        assert facts["attention"] == {"cat": f"x{number}-attention-cat.png"}


def test_the_picture_is_the_same_file_with_and_without(sd, tmp_path):
    draw(sd, "-o", "plain.png")
    draw(sd, "-o", "mapped.png", "--attention", "cat")
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "mapped.png").read_bytes()


def test_without_metadata_the_heat_map_has_none_either(sd, tmp_path):
    draw(sd, "-o", "x.png", "--attention", "cat", "--no-metadata")
    with Image.open(tmp_path / "x-attention-cat.png") as image:
        assert image.text == {}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--attention", "dog"), "'dog' is not in the prompt; its words are: a, cat, with, hat"),
        (("--attention", "cat,"), "no word between two commas"),
        (("--attention", "cat", "-o", "-"), "beside the picture"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line_before_a_model_is_loaded(
    sd, monkeypatch, options, reason
):
    def load_model(*_):
        raise AssertionError("loaded")

    monkeypatch.setattr("sdcli.models.load.load_model", load_model)
    ran = draw(sd, *options)
    assert ran.code == 2 and len(ran.err.splitlines()) == 1 and reason in ran.err


def test_a_run_that_never_asks_for_the_prompt_is_refused():
    with pytest.raises(UsageError, match="no step of this run"):
        generate(Request("a cat", model="test:sd1", steps=2, cfg=0), attention=["cat"])


@pytest.mark.parametrize(
    ("prompt", "more"),
    [
        ("a (hat:1.3) and a cat", {}),
        ("a [cat:hat:0.5]", {}),
        ("a [cat|hat]", {}),
        ("a cat AND a hat :0.5", {}),
        ("a cat BREAK a hat", {}),
        ("a cat", {"region": ("a hat@0,0,0.5,1",)}),
        ("a cat", {"model": "test:sdxl", "prompt_2": "a red hat"}),
        ("a cat, a hat", {"emphasis": "comfyui"}),
        ("a cat [hat:1.5]", {"hires": 2.0}),
    ],
    ids=str,
)
def test_a_word_of_any_part_of_the_prompt_has_a_map_and_the_picture_keeps_its_bits(prompt, more):
    request = Request(prompt, **{"model": "test:sd1", "seed": 2, "steps": 4, **more})
    models = ModelCache()
    result = generate(request, models, attention=["cat", "hat"])
    assert [plane.shape for plane in result.attention.values()] == [result.picture.image.size] * 2
    assert torch.equal(result.latents, generate(request, models).latents)


def test_an_unknown_word_is_told_the_words_of_every_part_without_their_weights():
    request = Request("a (cat:1.3) AND [dog:hat:2]", model="test:sd1", steps=4, region=("trees@0,0,1,0.5",))
    with pytest.raises(UsageError, match=r"its words are: a, cat, dog, hat, trees$"):
        generate(request, attention=["bird"])


def test_a_blend_of_texts_has_no_maps_and_is_refused_by_name():
    with pytest.raises(UsageError, match="compel blends texts"):
        generate(Request("a cat++", model="test:sd1", steps=2, emphasis="compel"), attention=["cat"])


@pytest.mark.parametrize(
    "more",
    [
        {"hires": 2.0},
        {"window": 64, "width": 96, "height": 64},
        {"guidance": "pag"},
        {"networks": "diffusers"},
        {"sampler": "heun"},
        {"width": 72, "height": 120},
    ],
    ids=str,
)
def test_a_map_has_the_size_of_the_picture_whatever_draws_it(more):
    request = Request("a cat", model="test:sd1", seed=2, steps=2, **more)
    result = generate(request, attention=["cat"])
    assert result.attention["cat"].shape == result.picture.image.size[::-1]


def test_under_a_mask_the_map_lies_where_something_was_drawn():
    picture = Image.new("RGB", (128, 64), "grey")
    mask = Image.new("L", (128, 64), 0)
    mask.paste(255, (80, 16, 112, 48))
    request = Request(
        "a cat", model="test:sd1", seed=2, steps=2, image=picture, mask=mask, only_masked=True, padding=8
    )
    plane = generate(request, attention=["cat"]).attention["cat"]
    assert plane.shape == (64, 128)
    assert plane[32, 96] > 0 and plane[0, 0] == 0


# --- the heat map itself


def test_the_colours_go_from_the_first_to_the_last_and_get_lighter():
    lightness = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in COLOURS]
    assert lightness == sorted(lightness)
    black = Image.new("RGB", (64, 1))
    drawn = np.asarray(heat_map(black, np.linspace(0.2, 0.3, 64, dtype=np.float32)[None]), np.float64)[0]
    assert np.abs(drawn[[0, -1]] / 0.65 - np.array(COLOURS)[[0, -1]]).max() < 1
    assert np.all(np.diff(drawn @ [0.2126, 0.7152, 0.0722]) >= -1)


def test_the_picture_is_seen_through_an_even_plane():
    image = Image.new("RGB", (2, 1))
    image.putpixel((1, 0), (200, 100, 0))
    drawn = np.asarray(heat_map(image, np.full((1, 2), 0.5, np.float32)), np.float64)[0]
    assert np.abs((drawn[1] - drawn[0]) - np.array([70, 35, 0])).max() <= 1
