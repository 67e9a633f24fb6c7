"""A picture is extended beyond its edges; it stays as it is, and the mask selects the new part."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sdcli.errors import ImageError, UsageError
from sdcli.request.masks import prepare_mask
from sdcli.request.outpaint import outpaint
from tests.request.image_files import opened, random_picture

SIDES = st.integers(1, 60)
MARGINS = st.tuples(*[st.integers(0, 90)] * 4).filter(any)
MODES = st.sampled_from(["L", "LA", "RGB", "RGBA", "P"])
BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)


@settings(deadline=None, max_examples=40)
@given(SIDES, SIDES, MARGINS, MODES)
def test_an_extended_picture_has_the_margins_and_holds_the_picture_bit_for_bit(width, height, margins, mode):
    left, top, right, bottom = margins
    picture = random_picture(mode, width, height)
    extended, _ = outpaint(picture, *margins)
    size, box = (left + width + right, top + height + bottom), (left, top, left + width, top + height)
    assert extended.image.size == extended.original.size == size
    assert extended.image.crop(box).tobytes() == picture.image.tobytes()
    assert extended.original.crop(box).tobytes() == picture.original.tobytes()
    assert extended.original.mode == picture.original.mode


@settings(deadline=None, max_examples=40)
@given(SIDES, SIDES, MARGINS, MODES)
def test_the_mask_of_an_extended_picture_is_white_where_it_is_new_and_black_elsewhere(
    width, height, margins, mode
):
    left, top, right, bottom = margins
    _, mask = outpaint(random_picture(mode, width, height), *margins)
    expected = np.full((top + height + bottom, left + width + right), 255)
    expected[top : top + height, left : left + width] = 0
    assert np.array_equal(np.asarray(mask), expected)


@settings(deadline=None, max_examples=40)
@given(SIDES, SIDES, MARGINS, st.sampled_from(["LA", "RGBA", "P"]))
def test_the_new_part_of_a_transparent_picture_is_opaque(width, height, margins, mode):
    extended, mask = outpaint(random_picture(mode, width, height), *margins)
    assert extended.alpha.tobytes() == extended.original.getchannel("A").tobytes()
    assert (np.asarray(extended.alpha)[np.asarray(mask) == 255] == 255).all()


def test_the_new_part_takes_its_colours_from_the_edges_and_not_from_the_inside():
    image = Image.new("RGB", (60, 60), WHITE)
    image.paste(RED, (5, 5, 55, 55))
    assert outpaint(opened(image), 100, 100, 100, 100)[0].image.getpixel((0, 130)) == WHITE


def test_the_new_part_blurs_the_edge_that_it_continues():
    halves = Image.new("RGB", (60, 60), WHITE)
    halves.paste(BLACK, (0, 0, 60, 30))
    column = np.asarray(outpaint(opened(halves), 40, 0, 0, 0)[0].image)[:, 0, 0].astype(int)
    assert (np.diff(column) >= 0).all() and column[0] < 90 and column[-1] > 165


def test_a_mask_grown_by_three_blurs_is_feathered_inside_the_picture_only():
    _, mask = outpaint(random_picture("RGB", 64, 64), 64, 0, 0, 0)
    feathered = np.asarray(prepare_mask(mask, 128, 64, grow=12, blur=4))
    assert (feathered[:, :64] == 255).all()
    assert (feathered[:, 64 + 26 :] == 0).all()


@pytest.mark.parametrize("margins", [(0, 0, 0, 0), (-8, 0, 0, 16)])
def test_margins_that_add_nothing_or_are_negative_are_a_usage_error(margins):
    with pytest.raises(UsageError, match="--left 128"):
        outpaint(random_picture("RGB"), *margins)


def test_an_extended_picture_that_is_too_large_is_refused_before_it_is_made():
    with pytest.raises(ImageError, match="more than can be drawn"):
        outpaint(random_picture("RGB"), 100_000, 100_000, 0, 0)
