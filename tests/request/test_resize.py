"""Pictures and masks are fitted to another size in each of the ways of --fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sdcli.errors import ImageError, UsageError
from sdcli.request.resize import FITS, fit_image, fit_mask
from tests.request.image_files import mask_with_box, random_pixels

SIDES = st.integers(1, 60)
RESIZING_FITS = ("crop", "pad", "stretch")


@settings(deadline=None)
@given(
    SIDES, SIDES, SIDES, SIDES, st.sampled_from(RESIZING_FITS), st.sampled_from(["L", "LA", "RGB", "RGBA"])
)
def test_a_fitted_image_has_the_new_size_and_the_same_mode(width, height, new_width, new_height, fit, mode):
    image = Image.fromarray(random_pixels(height, width, 4)).convert(mode)
    fitted = fit_image(image, new_width, new_height, fit)
    assert (fitted.size, fitted.mode) == ((new_width, new_height), mode)


@pytest.mark.parametrize("fit", FITS)
def test_an_image_that_has_the_size_already_comes_back_itself(fit):
    image = Image.fromarray(random_pixels(10, 20, 3))
    assert fit_image(image, 20, 10, fit) is image


@settings(deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(RESIZING_FITS), st.integers(0, 255))
def test_an_image_of_one_colour_keeps_it(width, height, new_width, new_height, fit, red):
    fitted = fit_image(Image.new("RGB", (width, height), (red, 0, 255)), new_width, new_height, fit)
    assert fitted.getcolors() == [(new_width * new_height, (red, 0, 255))]


def stripes() -> Image.Image:
    """64x32 pixels: four upright stripes, 0, 50, 100 and 150."""
    return Image.fromarray(np.repeat(np.arange(4, dtype=np.uint8) * 50, 16)[None].repeat(32, 0))


@pytest.mark.parametrize(
    ("fit", "columns", "seen"),
    [
        ("crop", slice(4, None, 8), [50, 50, 100, 100]),  # the middle half
        ("stretch", slice(3, None, 8), [0, 50, 100, 150]),
        ("pad", slice(3, None, 8), [0, 50, 100, 150]),
    ],
)
def test_each_fit_shows_the_part_of_the_picture_that_it_promises(fit, columns, seen):
    middle_row = np.asarray(fit_image(stripes(), 32, 32, fit))[16, columns]
    assert np.abs(middle_row.astype(int) - seen).max() <= 12


def test_pad_keeps_the_proportions_and_stretch_does_not():
    square = Image.new("L", (64, 32), 255)
    square.paste(0, (16, 0, 48, 32))  # a black square in the middle
    assert (np.asarray(fit_image(square, 32, 32, "pad"))[:, 16] < 128).all()  # its edges are continued
    padded, stretched = (np.asarray(fit_mask(square, 32, 32, fit)) for fit in ("pad", "stretch"))
    assert (padded[16] < 128).sum() == 16 and (padded[8:24, 16] < 128).all() and not padded[:8].any()
    assert (stretched[16] < 128).sum() == 16 and (stretched[:, 16] < 128).all()


def test_pad_continues_the_edges_of_a_picture_and_makes_those_of_a_mask_black():
    picture, mask = Image.new("RGB", (8, 4), (9, 9, 9)), mask_with_box(8, 4)
    assert fit_image(picture, 8, 8, "pad").getpixel((0, 0)) == (9, 9, 9)
    assert np.asarray(fit_mask(mask, 8, 8, "pad"))[:, 0].tolist() == [0, 0, 255, 255, 255, 255, 0, 0]


def test_fit_error_refuses_another_size_with_both_sizes_and_the_choices():
    with pytest.raises(ImageError, match=r"^x: is 20x10, not 8x16; choose --fit crop, pad or stretch$"):
        fit_image(Image.new("RGB", (20, 10)), 8, 16, "error", "x")


def test_an_unknown_fit_is_a_usage_error_with_the_choices():
    with pytest.raises(UsageError, match=r"--fit 'cut' is not known; use crop, pad, stretch or error"):
        fit_image(mask_with_box(20, 10), 8, 16, "cut")


def test_colours_hidden_by_alpha_do_not_bleed_into_a_smaller_picture():
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 8, 16))
    small = np.asarray(fit_image(image, 5, 5, "stretch"))
    assert small[small[..., 3] > 0][:, 0].max() == 0
