"""Masks select what is repainted; what they do not select stays bit for bit, hidden colours and all."""

import io
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sdcli.errors import ImageError, UsageError
from sdcli.request.composite import composite
from sdcli.request.images import OpenedImage, open_picture
from sdcli.request.masks import prepare_mask, read_mask, region
from sdcli.request.outpaint import outpaint
from sdcli.request.resize import FITS, fit, fit_mask
from tests.request.made import LINEAR_GREY, RED_IS_GREEN, saved

SIDES = st.integers(1, 60)
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def opened(image: Image.Image, **options) -> OpenedImage:
    return open_picture(io.BytesIO(saved(image, "PNG", **options)), "x")


def of_mode(mode: str, width: int = 20, height: int = 10) -> OpenedImage:
    """Noise in a mode, hidden colours under alpha 0 and all."""
    image = Image.fromarray(noise(height, width, 4))
    if mode == "P":
        image = image.convert("RGB").quantize(7)
        return opened(image, transparency=bytes([255, 0, 9]))
    alpha = image.getchannel("A").point(lambda v: v if v > 80 else 0)
    if mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(alpha)
    return opened(image.convert(mode), icc_profile=LINEAR_GREY if mode[0] == "L" else RED_IS_GREEN)


def square(width: int, height: int, *box: int, white: int = 255) -> Image.Image:
    mask = Image.new("L", (width, height))
    mask.paste(white, box or (0, 0, width, height))
    return mask


# Reading.


@pytest.mark.parametrize(
    ("mode", "values", "mask"),
    [
        ("1", [0, 255], [0, 255]),
        ("L", [0, 7, 255], [0, 7, 255]),
        ("LA", [(255, 255), (255, 0), (255, 128), (0, 255)], [255, 0, 128, 0]),
        ("RGB", [BLACK, WHITE, (0, 255, 0)], [0, 255, 150]),
        ("RGBA", [(*WHITE, 255), (*WHITE, 0), (*BLACK, 255)], [255, 0, 0]),
    ],
)
def test_white_repaints_and_what_is_transparent_does_not(mode, values, mask):
    image = Image.new(mode, (len(values), 1))
    image.putdata(values)
    read = read_mask(io.BytesIO(saved(image, "PNG")), "x")
    assert (read.mode, list(read.tobytes())) == ("L", mask)
    read = read_mask(io.BytesIO(saved(image, "PNG")), "x", invert=True)
    assert list(read.tobytes()) == [255 - each for each in mask]


def test_a_mask_from_alpha_repaints_what_is_transparent():
    picture = of_mode("RGBA")
    data = io.BytesIO(saved(picture.original, "PNG"))
    for source in (picture, data):
        mask = read_mask(source, "x", from_alpha=True)
        assert np.array_equal(np.asarray(mask), 255 - np.asarray(picture.alpha))
    with pytest.raises(ImageError, match=r"x: has no transparency to take a mask from; give one with --mask"):
        read_mask(of_mode("RGB"), from_alpha=True)


def test_a_masks_greys_are_taken_as_they_are_whatever_its_profile():
    image = Image.new("L", (1, 1), 128)
    assert read_mask(io.BytesIO(saved(image, "PNG", icc_profile=LINEAR_GREY)), "x").getpixel((0, 0)) == 128


def test_a_mask_that_is_no_picture_is_named():
    with pytest.raises(ImageError, match=r"m\.png: is text"):
        read_mask(io.BytesIO(b"white"), "m.png")


# Fitting.


@settings(deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(FITS[:3]), st.sampled_from(["L", "LA", "RGB", "RGBA"]))
def test_what_is_fitted_has_the_size_and_mode(width, height, to_width, to_height, how, mode):
    image = Image.fromarray(noise(height, width, 4)).convert(mode)
    fitted = fit(image, to_width, to_height, how)
    assert (fitted.size, fitted.mode) == ((to_width, to_height), mode)
    assert (fitted is image) == (image.size == fitted.size)


@settings(deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(FITS[:3]), st.integers(0, 255))
def test_one_colour_stays_one_colour(width, height, to_width, to_height, how, value):
    fitted = fit(Image.new("RGB", (width, height), (value, 0, 255)), to_width, to_height, how)
    assert fitted.getcolors() == [(to_width * to_height, (value, 0, 255))]


@pytest.mark.parametrize(
    ("how", "expected"), [("crop", "1122"), ("stretch", "01122333"[::2]), ("pad", "0123")], ids=FITS[:3]
)
def test_each_fit_keeps_what_it_says(how, expected):
    stripes = Image.fromarray(np.repeat(np.arange(4, dtype=np.uint8) * 50, 16)[None].repeat(32, 0))  # 64x32
    fitted = np.asarray(fit(stripes, 32, 32, how))
    seen = fitted[16, 4::8] if how == "crop" else fitted[16, 3::8]
    assert np.abs(seen.astype(int) - [int(each) * 50 for each in expected]).max() <= 12


def test_pad_draws_out_the_edges_of_a_picture_and_blackens_those_of_a_mask():
    picture, mask = Image.new("RGB", (8, 4), (9, 9, 9)), square(8, 4)
    assert fit(picture, 8, 8, "pad").getpixel((0, 0)) == (9, 9, 9)
    assert np.asarray(fit_mask(mask, 8, 8, "pad"))[:, 0].tolist() == [0, 0, 255, 255, 255, 255, 0, 0]


def test_other_sizes_are_refused_with_both_and_the_choices():
    with pytest.raises(ImageError, match=r"^x: is 20x10, not 8x16; choose --fit crop, pad or stretch$"):
        of_mode("RGB").fitted(8, 16, "error")
    with pytest.raises(
        ImageError, match=r"^the mask: is 20x10, not 8x16; choose --fit crop, pad or stretch$"
    ):
        prepare_mask(square(20, 10), 8, 16)
    with pytest.raises(UsageError, match=r"--fit 'cut' is not known; use crop, pad, stretch or error"):
        fit(square(20, 10), 8, 16, "cut")


def test_a_fitted_picture_keeps_its_parts_together():
    for mode in ("L", "LA", "RGB", "RGBA"):
        fitted = of_mode(mode).fitted(16, 16, "crop")
        assert fitted.image.size == fitted.original.size == (16, 16)
        assert fitted.original.mode == mode
        assert (fitted.alpha is not None) == (mode[-1] == "A")


def test_hidden_colours_do_not_bleed_into_a_smaller_picture():
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 8, 16))
    small = np.asarray(opened(image).fitted(5, 5, "stretch").original)
    assert small[small[..., 3] > 0][:, 0].max() == 0


# Growing, blurring.


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_a_mask_grows_by_a_disc(width, height, radius, seed):
    chance = np.random.default_rng(seed)
    pixels = chance.integers(0, 256, (height, width), np.uint8) * (chance.random((height, width)) < 0.05)
    grown = np.asarray(prepare_mask(Image.fromarray(pixels.astype(np.uint8)), width, height, grow=radius))
    expected = np.zeros_like(grown)
    y, x = np.mgrid[:height, :width]
    for at_y, at_x in zip(*np.nonzero(pixels), strict=True):
        disc = (y - at_y) ** 2 + (x - at_x) ** 2 <= radius**2
        expected[disc] = np.maximum(expected[disc], pixels[at_y, at_x])
    assert np.array_equal(grown, expected)


def test_a_mask_shrinks_from_what_it_leaves_and_not_from_the_edge_of_the_picture():
    mask = prepare_mask(square(30, 30, 0, 0, 20, 30), 30, 30, grow=-5)
    assert np.array_equal(np.asarray(mask), np.asarray(square(30, 30, 0, 0, 15, 30)))
    assert prepare_mask(square(30, 30), 30, 30, grow=-100).getextrema() == (255, 255)


@given(st.sampled_from([0, 255]), st.integers(-40, 40), st.floats(0, 20), SIDES)
@settings(deadline=None)
def test_all_black_and_all_white_stay_so(value, grow, blur, size):
    assert (
        prepare_mask(square(size, 30, white=value), size, 30, grow=grow, blur=blur).getextrema()
        == (value,) * 2
    )


def test_a_blurred_mask_falls_from_white_to_black_and_ends():
    edge = np.asarray(prepare_mask(square(100, 9, 0, 0, 50, 9), 100, 9, blur=5))[4].astype(int)
    assert (np.diff(edge) <= 0).all()
    assert edge[:30].min() == 255 and edge[70:].max() == 0
    assert abs(edge[49] + edge[50] - 255) <= 1


def test_a_large_mask_grows_quickly():
    mask = square(1024, 1024, 300, 300, 500, 500)
    start = time.process_time()
    prepare_mask(mask, 1024, 1024, grow=64, blur=16)
    assert time.process_time() - start < 1


# The region to draw.


@st.composite
def masks_with_a_box(draw):
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return square(
        width, height, left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    )


@settings(max_examples=200, deadline=None)
@given(masks_with_a_box(), st.integers(0, 200), st.integers(8, 128), st.integers(8, 128))
def test_a_region_holds_the_mask_and_its_padding_within_the_picture_and_has_the_ratio(
    mask, padding, width, height
):
    left, top, right, bottom = region(mask, padding, width, height)
    inner = mask.getbbox()
    assert (
        0 <= left <= max(0, inner[0] - padding) and min(mask.width, inner[2] + padding) <= right <= mask.width
    )
    assert (
        0 <= top <= max(0, inner[1] - padding)
        and min(mask.height, inner[3] + padding) <= bottom <= mask.height
    )
    too_wide = (right - left) - (bottom - top) * width / height
    too_high = (bottom - top) - (right - left) * height / width
    by_a_pixel = min(abs(too_wide), abs(too_high)) <= 1
    assert by_a_pixel or (bottom - top == mask.height if too_wide > 0 else right - left == mask.width)


def test_a_region_is_no_larger_than_it_must_be():
    assert region(square(100, 100, 40, 40, 60, 60), 8, 64, 64) == (32, 32, 68, 68)
    assert region(square(100, 100, 40, 40, 60, 60), 0, 128, 64) == (30, 40, 70, 60)
    assert region(square(100, 100, 0, 0, 20, 20), 0, 128, 64) == (0, 0, 40, 20)


def test_a_mask_that_selects_nothing_has_no_region():
    with pytest.raises(ImageError, match="the mask selects nothing"):
        region(square(9, 9, white=0), 32, 64, 64)


# Pasting back.

MODES = ["L", "LA", "RGB", "RGBA", "P"]


@pytest.mark.parametrize("box", [None, (3, 2, 15, 9)])
@pytest.mark.parametrize("mode", MODES)
def test_all_black_gives_the_input_back_exactly(mode, box):
    picture = of_mode(mode)
    pasted = composite(picture, Image.fromarray(noise(64, 64, 3, seed=1)), square(20, 10, white=0), box)
    assert pasted.mode == picture.original.mode
    assert pasted.tobytes() == picture.original.tobytes()


@pytest.mark.parametrize("mode", MODES)
def test_all_white_gives_what_was_drawn_and_is_opaque(mode):
    picture = of_mode(mode)
    drawn = picture.image.transpose(Image.Transpose.ROTATE_180)
    pasted = composite(picture, drawn, square(20, 10))
    assert pasted.mode == picture.original.mode
    again = opened(pasted, icc_profile=picture.icc)  # sRGB once more
    expected = drawn.convert("L") if mode[0] == "L" else drawn
    difference = np.abs(np.asarray(again.image, int) - np.asarray(expected.convert("RGB")))
    assert difference.max() <= (0 if picture.icc is None else 12)  # linear 8-bit grey is coarse where dark
    assert again.alpha is None or again.alpha.getextrema() == (255, 255)


@pytest.mark.parametrize("mode", MODES)
def test_what_a_mask_leaves_stays_bit_for_bit(mode):
    picture = of_mode(mode)
    mask = prepare_mask(square(20, 10, 8, 4, 11, 6), 20, 10, blur=1)
    pasted, before = (
        np.asarray(each) for each in (composite(picture, Image.new("RGB", (20, 10)), mask), picture.original)
    )
    kept = np.asarray(mask) == 0
    assert 0 < kept.sum() < kept.size
    assert np.array_equal(pasted[kept], before[kept])
    assert not np.array_equal(pasted[~kept], before[~kept])


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_greys_blend_evenly_from_one_to_the_other(mode):
    before = {"L": 200, "LA": (200, 90), "RGB": (200, 10, 90), "RGBA": (200, 10, 90, 90)}[mode]
    picture = opened(Image.new(mode, (256, 1), before))
    mask = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    pasted = np.atleast_3d(
        np.asarray(composite(picture, Image.new("RGB", (256, 1), (50, 50, 50)), mask), int)
    )[0]
    steps = np.diff(pasted.reshape(256, -1), axis=0)
    for band in steps.T:
        assert (band <= 0).all() or (band >= 0).all()
        assert np.abs(band).max() <= 6


def test_a_half_transparent_pixel_blends_by_what_can_be_seen_of_it():
    picture = opened(Image.new("RGBA", (1, 1), (255, 0, 0, 0)))
    pasted = composite(picture, Image.new("RGB", (1, 1), (0, 0, 255)), Image.new("L", (1, 1), 128))
    assert pasted.getpixel((0, 0)) == (0, 0, 255, 128)  # nothing of the hidden red


def test_a_box_is_all_that_is_drawn_into():
    picture = of_mode("RGB")
    pasted = np.asarray(composite(picture, Image.new("RGB", (64, 64)), square(20, 10), (4, 2, 9, 8)))
    inside = np.zeros((10, 20), bool)
    inside[2:8, 4:9] = True
    assert np.array_equal(pasted[~inside], np.asarray(picture.original)[~inside])
    assert (pasted[inside] == (0, 0, 0)).all()


def test_what_is_pasted_is_in_the_profile_of_the_picture():
    picture = opened(Image.new("RGB", (1, 1)), icc_profile=RED_IS_GREEN)
    assert composite(picture, Image.new("RGB", (1, 1), (255, 0, 0)), square(1, 1)).getpixel((0, 0)) == (
        0,
        255,
        0,
    )


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ImageError, match="the mask is 9x9, the picture 20x10; choose --fit"):
        composite(of_mode("RGB"), Image.new("RGB", (20, 10)), square(9, 9))


# Enlarging.


@settings(deadline=None, max_examples=40)
@given(SIDES, SIDES, st.tuples(*[st.integers(0, 90)] * 4).filter(any), st.sampled_from(MODES))
def test_an_enlarged_picture_holds_the_picture_and_its_mask_the_rest(width, height, sides, mode):
    left, top, right, bottom = sides
    picture = of_mode(mode, width, height)
    larger, mask = outpaint(picture, *sides)
    box = (left, top, left + width, top + height)
    assert (
        larger.image.size
        == larger.original.size
        == mask.size
        == (left + width + right, top + height + bottom)
    )
    assert larger.image.crop(box).tobytes() == picture.image.tobytes()
    assert larger.original.crop(box).tobytes() == picture.original.tobytes()
    assert larger.original.mode == picture.original.mode
    new = np.asarray(mask) == 255
    assert new.sum() == mask.width * mask.height - width * height
    assert not np.asarray(mask)[~new].any()
    if larger.alpha:
        assert larger.alpha.tobytes() == larger.original.getchannel("A").tobytes()
        assert (np.asarray(larger.alpha)[new] == 255).all()


def test_the_surroundings_lead_on_from_the_edge_and_from_nothing_within():
    image = Image.new("RGB", (60, 60), WHITE)
    image.paste((255, 0, 0), (5, 5, 55, 55))
    assert outpaint(opened(image), 100, 100, 100, 100)[0].image.getpixel((0, 130)) == WHITE
    halves = Image.new("RGB", (60, 60), WHITE)
    halves.paste(BLACK, (0, 0, 60, 30))
    column = np.asarray(outpaint(opened(halves), 40, 0, 0, 0)[0].image)[:, 0, 0].astype(int)
    assert (np.diff(column) >= 0).all() and column[0] < 90 and column[-1] > 165


def test_a_feather_can_be_laid_inwards():
    _, mask = outpaint(of_mode("RGB", 64, 64), 64, 0, 0, 0)
    soft = np.asarray(prepare_mask(mask, 128, 64, grow=12, blur=4))
    assert (soft[:, :64] == 255).all()
    assert (soft[:, 64 + 26 :] == 0).all()


@pytest.mark.parametrize("sides", [(0, 0, 0, 0), (-8, 0, 0, 16)])
def test_nothing_to_add_is_a_usage_error(sides):
    with pytest.raises(UsageError, match="--left 128"):
        outpaint(of_mode("RGB"), *sides)


def test_a_canvas_too_large_is_refused_before_it_is_made():
    with pytest.raises(ImageError, match="more than can be drawn"):
        outpaint(of_mode("RGB"), 100_000, 100_000, 0, 0)
