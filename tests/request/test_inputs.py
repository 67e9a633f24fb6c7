"""The images that a request names are opened, decide the size that is drawn, and go back into the result."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdcli.errors import ImageError, UsageError
from sdcli.request.inputs import InputImages, SizedImages, open_inputs
from sdcli.request.job import Job, job_of
from sdcli.request.request import Request
from tests.pictures import half_mask, photo
from tests.request.image_files import RED_IS_GREEN, encoded, mask_with_box


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder of each test: in.png (101x75), mask.png (the same size, white at the right), depth.png."""
    monkeypatch.chdir(tmp_path)
    photo(101, 75).save("in.png")
    half_mask(101, 75).save("mask.png")
    photo(101, 75, "L").save("depth.png")


def request(**options) -> Request:
    return Request("a cat", **options)


def size_drawn(**options) -> tuple[int | None, int | None]:
    asked = request(**options)
    sized = open_inputs(asked).fill_in_size(asked)
    return sized.width, sized.height


def sized_images(**options) -> SizedImages:
    asked = request(**options)
    inputs = open_inputs(asked)
    return inputs.at_size(closed(inputs.fill_in_size(asked)))


def closed(asked: Request) -> Job:
    """The job of a request; what a model would decide does not matter here."""
    decided = {"seed": 1, "steps": 1, "cfg": 1.0, "clip_skip": 1, "emphasis": "none"}
    plugins = {"sampler": "euler", "schedule": "karras", "guidance": "cfg"}
    size = {"width": asked.width or 64, "height": asked.height or 64}
    return job_of(asked.replace(**decided, **plugins, **size))


# Opening.


def test_a_request_without_images_opens_none():
    assert open_inputs(request()) == InputImages()


def test_facts_hold_the_sha256_of_every_file_that_is_opened():
    inputs = open_inputs(request(image="in.png", mask="mask.png", depth="depth.png"))
    files = {"image": "in.png", "mask": "mask.png", "depth": "depth.png"}
    assert inputs.facts == {
        role: hashlib.sha256(Path(path).read_bytes()).hexdigest() for role, path in files.items()
    }


def test_notes_name_the_file_that_they_are_about():
    Image.new("RGBA", (64, 64), (0, 0, 0, 9)).save("see-through.png")
    assert open_inputs(request(image="see-through.png")).notes == (
        "see-through.png: transparency over white",
    )


def test_a_dash_reads_the_picture_from_standard_input():
    stdin = io.BytesIO(Path("in.png").read_bytes())
    inputs = open_inputs(request(image="-"), stdin)
    assert inputs.picture.image.tobytes() == photo(101, 75).tobytes()
    assert inputs.picture.name == "standard input"


@pytest.mark.parametrize("role", ["image", "depth"])
def test_a_dash_where_there_is_no_standard_input_is_a_usage_error(role):
    with pytest.raises(UsageError, match=f"the {role} is standard input, which cannot be read here"):
        open_inputs(request(**{role: "-"}))


def test_the_result_has_the_colour_profile_of_the_picture_only_where_parts_of_it_are_kept():
    Path("profile.png").write_bytes(encoded(photo(101, 75), "PNG", icc_profile=RED_IS_GREEN))
    assert open_inputs(request(image="profile.png", mask="mask.png")).icc == RED_IS_GREEN
    assert open_inputs(request(image="profile.png")).icc is None


def test_outpainting_extends_the_picture_and_feathers_its_mask_into_it():
    inputs = open_inputs(request(image="in.png", margins="0,0,27,0", mask_blur=2.0))
    assert inputs.picture.image.size == inputs.mask.size == (128, 75)
    row = np.asarray(inputs.mask)[40]
    assert (row[101:] == 255).all()
    assert 0 < row[95] < 255
    assert (row[: 101 - 6 - 8] == 0).all()


# The size that is drawn.


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, (96, 72)),
        ({"scale": 2.0}, (208, 152)),
        ({"width": 128}, (128, 88)),
        ({"height": 96}, (128, 96)),
        ({"width": 128, "scale": 2.0}, (128, 88)),
        ({"width": 64, "height": 64}, (64, 64)),
    ],
    ids=str,
)
def test_a_picture_of_101x75_is_drawn_at(options, size):
    assert size_drawn(image="in.png", **options) == size


def test_a_side_that_floating_point_puts_just_below_a_multiple_of_8_is_not_rounded_down():
    assert 88 * (360 / 66) < 480
    photo(66, 88).save("tall.png")
    assert size_drawn(image="tall.png", width=360) == (360, 480)


def test_a_side_is_rounded_up_under_a_mask_so_that_no_kept_pixel_is_cut_off():
    assert size_drawn(image="in.png", mask="mask.png") == (104, 80)


def test_the_size_of_a_depth_map_counts_where_there_is_no_picture():
    photo(64, 80, "L").save("other.png")
    assert size_drawn(depth="other.png") == (64, 80)
    assert size_drawn(depth="other.png", image="in.png", fit="crop") == (96, 72)


def test_text_and_the_surroundings_of_a_mask_are_drawn_at_a_size_that_the_model_decides():
    assert size_drawn() == (None, None)
    assert size_drawn(image="in.png", mask="mask.png", only_masked=True) == (None, None)


@pytest.mark.parametrize(("side", "drawn"), [(63, 56), (5, 8)])
def test_a_picture_too_small_to_draw_is_a_usage_error_with_the_size(side, drawn):
    photo(80, side).save("small.png")
    with pytest.raises(UsageError, match=f"small.png: would be drawn at 80x{drawn} pixels, less than 64 a"):
        size_drawn(image="small.png")


# The images at that size.


def test_every_image_has_the_size_that_is_drawn():
    sized = sized_images(image="in.png", mask="mask.png", depth="depth.png", width=128, height=64)
    assert sized.image.size == sized.mask.size == sized.depth.size == (128, 64)


def test_a_picture_is_fitted_as_fit_says():
    with pytest.raises(ImageError, match="is 101x75, not 64x64; choose --fit"):
        sized_images(image="in.png", width=64, height=64, fit="error")


def test_a_masked_picture_is_extended_to_multiples_of_8_and_not_scaled():
    sized = sized_images(image="in.png", mask="mask.png")
    pixels = np.asarray(sized.image)
    assert sized.box == (0, 0, 104, 80)
    assert np.array_equal(pixels[:75, :101], np.asarray(photo(101, 75)))
    assert (pixels[75:, :101] == pixels[74, :101]).all() and (pixels[:, 101:] == pixels[:, 100:101]).all()


def test_a_masked_picture_drawn_in_other_proportions_is_in_the_middle_and_whole():
    assert sized_images(image="in.png", mask="mask.png", width=256, height=64).box == (-100, 0, 200, 75)
    assert sized_images(image="in.png", mask="mask.png", width=64, height=128).box == (0, -64, 101, 138)


def test_only_masked_draws_the_mask_and_its_padding():
    mask_with_box(101, 75, 40, 30, 50, 40).save("spot.png")
    options = {"only_masked": True, "padding": 8, "mask_blur": 0.0, "width": 64, "height": 64}
    sized = sized_images(image="in.png", mask="spot.png", **options)
    assert sized.box == (32, 22, 58, 48)
    assert sized.image.size == (64, 64)


@pytest.mark.parametrize("content", ["original", "noise", "empty"])
def test_the_start_image_is_the_picture_itself_unless_it_is_filled(content):
    sized = sized_images(image="in.png", mask="mask.png", masked_content=content)
    assert sized.shown is None
    assert sized.image.crop((0, 0, 101, 75)).tobytes() == photo(101, 75).tobytes()


def test_masked_content_fill_changes_the_start_image_and_keeps_the_one_before():
    sized = sized_images(image="in.png", mask="mask.png", masked_content="fill")
    assert sized.shown.crop((0, 0, 101, 75)).tobytes() == photo(101, 75).tobytes()
    assert sized.image.tobytes() != sized.shown.tobytes()


# The result.


def test_without_a_mask_the_result_is_what_was_drawn():
    drawn = photo(96, 72)
    assert sized_images(image="in.png").finish(drawn) == (drawn, {})
    assert SizedImages().finish(drawn) == (drawn, {})


@pytest.mark.parametrize(
    "options",
    [{}, {"width": 256, "height": 64}, {"only_masked": True, "width": 64, "height": 64}],
    ids=["whole", "other proportions", "only masked"],
)
def test_under_a_mask_the_result_has_the_size_of_the_picture_and_keeps_its_pixels(options):
    sized = sized_images(image="in.png", mask="mask.png", mask_blur=0.0, **options)
    result, facts = sized.finish(Image.new("RGB", sized.image.size, (0, 255, 0)))
    pixels, left = np.asarray(result), 101 // 2
    assert np.array_equal(pixels[:, :left], np.asarray(photo(101, 75))[:, :left])
    assert (pixels[:, left:] == (0, 255, 0)).all()
    assert facts == {"kept": {"pixels": 75 * left, "exact": True}}


def test_outside_the_box_that_only_masked_draws_every_pixel_is_kept():
    mask_with_box(101, 75, 40, 30, 50, 40).save("spot.png")
    options = {"only_masked": True, "padding": 8, "width": 64, "height": 64}
    sized = sized_images(image="in.png", mask="spot.png", **options)
    result, _ = sized.finish(Image.new("RGB", (64, 64)))
    changed = (np.asarray(result) != np.asarray(photo(101, 75))).any(-1)
    left, top, right, bottom = sized.box
    assert changed[top:bottom, left:right].any()
    changed[top:bottom, left:right] = False
    assert not changed.any()


def test_a_drawing_of_another_size_is_resized_to_its_box():
    sized = sized_images(image="in.png", mask="mask.png", mask_blur=0.0)
    result, _ = sized.finish(Image.new("RGB", (208, 160), (0, 255, 0)))
    assert result.size == (101, 75)
    assert result.getpixel((100, 74)) == (0, 255, 0)
