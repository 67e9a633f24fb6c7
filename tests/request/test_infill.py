"""The masked part of a picture is filled with the colours around it."""

import numpy as np
from PIL import Image

from sdcli.request.infill import infill
from tests.request.image_files import mask_with_box, random_pixels


def test_pixels_outside_the_mask_are_not_changed():
    image = Image.fromarray(random_pixels(50, 60, 3))
    mask = mask_with_box(60, 50, 20, 10, 40, 30)
    kept = np.asarray(mask) == 0
    assert np.array_equal(np.asarray(infill(image, mask))[kept], np.asarray(image)[kept])


def test_a_hole_in_one_colour_is_filled_with_it():
    image = Image.new("RGB", (64, 64), (40, 120, 200))
    image.paste((255, 0, 0), (16, 16, 48, 48))
    filled = np.asarray(infill(image, mask_with_box(64, 64, 16, 16, 48, 48)), int)
    assert (
        np.abs(filled - (40, 120, 200)).max() <= 12
    )  # premultiplied 8-bit colours are coarse where little is kept


def test_each_side_of_a_hole_takes_the_colour_next_to_it():
    image = Image.new("RGB", (64, 64), (0, 0, 0))
    image.paste((255, 255, 255), (32, 0, 64, 64))
    row = np.asarray(infill(image, mask_with_box(64, 64, 16, 16, 48, 48)))[32, :, 0].astype(int)
    assert row[17] < 30 and row[46] > 225
    assert (np.diff(row[16:48]) >= -1).all()


def test_an_image_of_which_nothing_is_kept_comes_back_itself():
    image = Image.fromarray(random_pixels(20, 20, 3))
    assert infill(image, mask_with_box(20, 20)) is image
