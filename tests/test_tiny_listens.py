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


def shares(picture):
    """Of the left and the right half, how much redder than green what stands there is, on average."""
    drawn = picture.min(-1) < 200
    redder = (picture[..., 0] - picture[..., 1]) * drawn
    middle = picture.shape[1] // 2
    return [
        redder[:, half].sum() / drawn[:, half].sum() for half in (slice(None, middle), slice(middle, None))
    ]


@pytest.mark.parametrize("seed", [7, 8])
def test_of_two_things_each_has_its_colour_in_its_place(draw, seed):
    left, right = shares(rgb(draw("a red car next to a green apple", seed=seed)))
    assert left > 50 and right < -50
    left, right = shares(rgb(draw("a green apple next to a red car", seed=seed)))
    assert left < -50 and right > 50


def test_a_map_lies_where_its_thing_is_drawn(draw):
    maps = draw("a cat next to a tree", attention=["cat", "tree"]).attention
    across = np.arange(512)
    middles = {word: float((map.sum(0) * across).sum() / map.sum()) for word, map in maps.items()}
    assert middles["cat"] < 256 < middles["tree"]


def test_words_that_change_show_both(draw):
    first, later, changed = (rgb(draw(prompt)) for prompt in ("a cat", "a dog", "a [cat:dog:0.5]"))
    between = [np.square(changed - each).mean() for each in (first, later)]
    assert max(between) < np.square(first - later).mean() and min(between) > 0
