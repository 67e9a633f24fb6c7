"""Masks are read from pictures, grown and blurred; the region around them is found."""

import io
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from sdcli.errors import ImageError
from sdcli.request.masks import mask_from_alpha, masked_region, open_mask, prepare_mask
from tests.request.image_files import LINEAR_GREY, encoded, mask_with_box, random_picture
from tests.speed import allowed

SIDES = st.integers(1, 60)
BLACK, WHITE = (0, 0, 0), (255, 255, 255)

# Reading.


@pytest.mark.parametrize(
    ("mode", "pixels", "mask"),
    [
        ("1", [0, 255], [0, 255]),
        ("L", [0, 7, 255], [0, 7, 255]),
        ("LA", [(255, 255), (255, 0), (255, 55), (0, 255)], [0, 255, 200, 0]),
        ("RGB", [BLACK, WHITE, (0, 255, 0)], [0, 255, 150]),
        ("RGBA", [(*WHITE, 255), (*WHITE, 0), (*BLACK, 255)], [0, 255, 0]),
        ("RGBA", [(*WHITE, 255), (*BLACK, 255)], [255, 0]),
        ("RGBA", [(*WHITE, 255), (*BLACK, 200)], [255, 0]),
        ("L", [0, 1, 31], [0, 255, 255]),
        ("L", [0, 1, 32], [0, 1, 32]),
    ],
)
def test_white_pixels_are_repainted_unless_there_are_holes_or_labels(mode, pixels, mask):
    image = Image.new(mode, (len(pixels), 1))
    image.putdata(pixels)
    read = open_mask(io.BytesIO(encoded(image, "PNG")), "x").image
    assert read.mode == "L"
    assert list(read.tobytes()) == mask


def test_a_mask_from_alpha_repaints_what_is_transparent():
    picture = random_picture("RGBA")
    assert np.array_equal(np.asarray(mask_from_alpha(picture)), 255 - np.asarray(picture.alpha))


def test_a_mask_from_alpha_needs_a_picture_with_alpha():
    with pytest.raises(ImageError, match=r"x: has no transparency to take a mask from; give one with --mask"):
        mask_from_alpha(random_picture("RGB"))


def test_a_mask_is_read_without_its_colour_profile():
    file = io.BytesIO(encoded(Image.new("L", (1, 1), 128), "PNG", icc_profile=LINEAR_GREY))
    assert open_mask(file, "x").image.getpixel((0, 0)) == 128


def test_the_error_for_a_mask_that_is_no_image_names_it():
    with pytest.raises(ImageError, match=r"m\.png: is text"):
        open_mask(io.BytesIO(b"white"), "m.png")


# Growing and blurring.


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_a_mask_grows_by_a_disc(width, height, radius, seed):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width), np.uint8) * (random.random((height, width)) < 0.05)
    assume(pixels.any())
    grown = np.asarray(prepare_mask(Image.fromarray(pixels.astype(np.uint8)), width, height, grow=radius))
    expected = np.zeros_like(grown)
    y, x = np.mgrid[:height, :width]
    for centre_y, centre_x in zip(*np.nonzero(pixels), strict=True):
        disc = (y - centre_y) ** 2 + (x - centre_x) ** 2 <= radius**2
        expected[disc] = np.maximum(expected[disc], pixels[centre_y, centre_x])
    assert np.array_equal(grown, expected)


def test_a_mask_does_not_shrink_away_from_the_edges_of_the_picture():
    mask = prepare_mask(mask_with_box(30, 30, 0, 0, 20, 30), 30, 30, grow=-5)
    assert np.array_equal(np.asarray(mask), np.asarray(mask_with_box(30, 30, 0, 0, 15, 30)))
    assert prepare_mask(mask_with_box(30, 30), 30, 30, grow=-100).getextrema() == (255, 255)


@settings(deadline=None)
@given(st.integers(-40, 40), st.floats(0, 20), SIDES)
def test_an_all_white_mask_stays_so(grow, blur, width):
    mask = prepare_mask(mask_with_box(width, 30), width, 30, grow=grow, blur=blur)
    assert mask.getextrema() == (255, 255)


@pytest.mark.parametrize("options", [{}, {"grow": 9}, {"blur": 4.0}])
def test_an_all_black_mask_is_refused(options):
    with pytest.raises(ImageError, match="the mask selects nothing: all of it is black"):
        prepare_mask(mask_with_box(9, 9, value=0), 9, 9, **options)


def test_a_blurred_edge_falls_from_white_to_black_around_where_it_was():
    row = np.asarray(prepare_mask(mask_with_box(100, 9, 0, 0, 50, 9), 100, 9, blur=5))[4].astype(int)
    assert (np.diff(row) <= 0).all()
    assert row[:30].min() == 255 and row[70:].max() == 0
    assert abs(row[49] + row[50] - 255) <= 1


def test_a_large_mask_grows_in_less_than_a_second():
    mask = mask_with_box(1024, 1024, 300, 300, 500, 500)
    start = time.process_time()
    prepare_mask(mask, 1024, 1024, grow=64, blur=16)
    assert time.process_time() - start < allowed(1)


def test_a_mask_of_another_size_is_refused_by_default():
    with pytest.raises(
        ImageError, match=r"^the mask: is 20x10, not 8x16; choose --fit crop, pad or stretch$"
    ):
        prepare_mask(mask_with_box(20, 10), 8, 16)


# The region to draw.


@st.composite
def masks_with_a_box(draw):
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    return mask_with_box(width, height, left, top, right, bottom)


@settings(max_examples=200, deadline=None)
@given(masks_with_a_box(), st.integers(0, 200))
def test_the_masked_region_holds_the_mask_and_its_padding_within_the_picture(mask, padding):
    left, top, right, bottom = masked_region(mask, padding, 64, 64)
    masked = mask.getbbox()
    assert 0 <= left <= max(0, masked[0] - padding)
    assert 0 <= top <= max(0, masked[1] - padding)
    assert min(mask.width, masked[2] + padding) <= right <= mask.width
    assert min(mask.height, masked[3] + padding) <= bottom <= mask.height


@settings(max_examples=200, deadline=None)
@given(masks_with_a_box(), st.integers(0, 200), st.integers(8, 128), st.integers(8, 128))
def test_the_masked_region_has_the_proportions_to_draw_at_unless_the_picture_ends(
    mask, padding, width, height
):
    left, top, right, bottom = masked_region(mask, padding, width, height)
    masked = mask.getbbox()
    assert left <= masked[0] and top <= masked[1] and masked[2] <= right and masked[3] <= bottom
    excess_width = (right - left) - (bottom - top) * width / height
    excess_height = (bottom - top) - (right - left) * height / width
    in_proportion = min(abs(excess_width), abs(excess_height)) <= 1
    picture_ends = bottom - top == mask.height if excess_width > 0 else right - left == mask.width
    assert in_proportion or picture_ends


def test_the_masked_region_is_no_larger_than_it_must_be():
    middle, corner = mask_with_box(100, 100, 40, 40, 60, 60), mask_with_box(100, 100, 0, 0, 20, 20)
    assert masked_region(middle, 8, 64, 64) == (32, 32, 68, 68)
    assert masked_region(middle, 0, 128, 64) == (30, 40, 70, 60)
    assert masked_region(corner, 0, 128, 64) == (0, 0, 40, 20)
