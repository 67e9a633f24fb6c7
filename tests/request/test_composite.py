"""What was drawn is pasted into the original; what the mask keeps stays bit for bit, hidden colours and all."""

import numpy as np
import pytest
from PIL import Image

from sdcli.errors import ImageError
from sdcli.request.composite import composite
from sdcli.request.masks import prepare_mask
from tests.request.image_files import RED_IS_GREEN, mask_with_box, opened, random_picture, random_pixels

MODES = ["L", "LA", "RGB", "RGBA", "P"]


@pytest.mark.parametrize("mode", MODES)
def test_under_a_black_mask_the_result_is_the_original_bit_for_bit(mode):
    picture = random_picture(mode)
    drawn = Image.fromarray(random_pixels(10, 20, 3, seed=1))
    result = composite(picture, drawn, mask_with_box(20, 10, value=0))
    assert result.mode == picture.original.mode
    assert result.tobytes() == picture.original.tobytes()


@pytest.mark.parametrize("mode", MODES)
def test_under_a_white_mask_the_result_is_what_was_drawn_and_opaque(mode):
    picture = random_picture(mode)
    drawn = picture.image.transpose(Image.Transpose.ROTATE_180)
    result = composite(picture, drawn, mask_with_box(20, 10))
    assert result.mode == picture.original.mode
    in_srgb = opened(result, icc_profile=picture.icc)
    expected = drawn.convert("L") if mode in ("L", "LA") else drawn
    difference = np.abs(np.asarray(in_srgb.image, int) - np.asarray(expected.convert("RGB")))
    assert difference.max() <= (0 if picture.icc is None else 12)  # 8-bit linear grey is coarse in the dark
    assert in_srgb.alpha is None or in_srgb.alpha.getextrema() == (255, 255)


@pytest.mark.parametrize("mode", MODES)
def test_pixels_outside_the_mask_stay_bit_for_bit_and_those_inside_change(mode):
    picture = random_picture(mode)
    mask = prepare_mask(mask_with_box(20, 10, 8, 4, 11, 6), 20, 10, blur=1)
    result = np.asarray(composite(picture, Image.new("RGB", (20, 10)), mask))
    original, kept = np.asarray(picture.original), np.asarray(mask) == 0
    assert 0 < kept.sum() < kept.size
    assert np.array_equal(result[kept], original[kept])
    assert not np.array_equal(result[~kept], original[~kept])


@pytest.mark.parametrize(
    ("mode", "pixel"), [("L", 200), ("LA", (200, 90)), ("RGB", (200, 10, 90)), ("RGBA", (200, 10, 90, 90))]
)
def test_the_greys_of_a_mask_blend_evenly_from_the_original_to_what_was_drawn(mode, pixel):
    picture = opened(Image.new(mode, (256, 1), pixel))
    mask = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    result = composite(picture, Image.new("RGB", (256, 1), (50, 50, 50)), mask)
    steps = np.diff(np.asarray(result, int).reshape(256, -1), axis=0)
    for channel in steps.T:
        assert (channel <= 0).all() or (channel >= 0).all()
        assert np.abs(channel).max() <= 6


def test_a_colour_that_alpha_hides_does_not_bleed_into_a_blend():
    picture = opened(Image.new("RGBA", (1, 1), (255, 0, 0, 0)))
    result = composite(picture, Image.new("RGB", (1, 1), (0, 0, 255)), Image.new("L", (1, 1), 128))
    assert result.getpixel((0, 0)) == (0, 0, 255, 128)


def test_what_is_pasted_is_converted_to_the_colour_profile_of_the_picture():
    picture = opened(Image.new("RGB", (1, 1)), icc_profile=RED_IS_GREEN)
    result = composite(picture, Image.new("RGB", (1, 1), (255, 0, 0)), mask_with_box(1, 1))
    assert result.getpixel((0, 0)) == (0, 255, 0)


def test_a_mask_of_another_size_than_the_picture_is_refused():
    with pytest.raises(ImageError, match="the mask is 9x9, the picture 20x10; choose --fit"):
        composite(random_picture("RGB"), Image.new("RGB", (20, 10)), mask_with_box(9, 9))
