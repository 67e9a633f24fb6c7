"""The embedded model draws what the words say, each in its place: the heart of prompts, seen on a real model."""

import numpy as np
import pytest

from sdcli import Request, generate
from sdcli.models.cache import ModelCache


@pytest.fixture(scope="module")
def draw():
    models = ModelCache()

    def drawn(prompt, *, attention=(), **more):
        request = Request(prompt, **{"seed": 7, "steps": 8, "device": "cpu", **more})
        return generate(request, models=models, attention=attention)

    return drawn


def rgb(result):
    return np.asarray(result.picture.image, float)


def redness(picture):
    """How much redder than green what is drawn on white is, on average."""
    drawn = picture.min(-1) < 200
    return (picture[..., 0] - picture[..., 1])[drawn].mean()


@pytest.mark.parametrize("seed", [7, 8])
def test_of_two_things_each_has_its_colour_in_its_place(draw, seed):
    for prompt, sign in (("a red car next to a green apple", 1), ("a green apple next to a red car", -1)):
        left, right = (sign * redness(half) for half in np.split(rgb(draw(prompt, seed=seed)), 2, axis=1))
        assert left > 50 and right < -50


def test_the_weight_of_a_colour_is_seen(draw):
    less, more = (redness(rgb(draw(f"a (red:{weight}) tree"))) for weight in (0.5, 1.6))
    assert more > less + 30


def test_a_map_lies_where_its_thing_is_drawn(draw):
    maps = draw("a cat next to a tree", attention=["cat", "tree"]).attention
    across = np.arange(512)
    middles = {word: float((map.sum(0) * across).sum() / map.sum()) for word, map in maps.items()}
    assert middles["cat"] < 256 < middles["tree"]


def test_words_that_change_show_both(draw):
    first, later, changed = (rgb(draw(prompt)) for prompt in ("a cat", "a dog", "a [cat:dog:0.5]"))
    between = [np.square(changed - each).mean() for each in (first, later)]
    assert max(between) < np.square(first - later).mean() and min(between) > 0
