"""C11: `sd upscale` of 65x65 pixels by 2 gave 128x128, its edges cut off without a word (StableSR#81)."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from sdcli.errors import UsageError
from sdcli.request.inputs import open_inputs
from sdcli.request.job import job_of
from sdcli.request.request import Request
from tests.pictures import half_mask, photo


def size_of(ran) -> tuple[int, int]:
    assert ran.code == 0, ran.err
    with Image.open(ran.lines[0]) as image:
        return image.size


@pytest.mark.parametrize("size", [(65, 65), (101, 75), (64, 67), (20, 31), (1, 1)])
@pytest.mark.parametrize("options", [(), ("--scale", 1.5), ("--scale", 3), ("--window", 64)])
def test_c11_a_picture_of_any_size_is_enlarged_to_that_size_times_the_scale(sd, size, options):
    photo(*size).save("in.png")
    scale = options[1] if options[:1] == ("--scale",) else 2
    ran = sd("upscale", "in.png", "-m", "test:sd1", "-s", 1, *options)
    assert size_of(ran) == (round(size[0] * scale), round(size[1] * scale))
    assert "drawn at" not in ran.err


@pytest.mark.parametrize("size", [(65, 65), (33, 20), (7, 9)])
def test_c11_an_x4_upscaler_enlarges_any_size_four_times(sd, size):
    photo(*size).save("in.png")
    assert size_of(sd("upscale", "in.png", "-m", "test:x4", "-s", 1)) == (4 * size[0], 4 * size[1])


@pytest.mark.parametrize("model", ["test:sd1", "test:x4"])
def test_c11_an_enlarged_picture_of_an_odd_size_is_made_again(sd, model):
    photo(65, 51).save("in.png")
    first = sd("upscale", "in.png", "-m", model, "-s", 1)
    again = sd("again", first.lines[0])
    assert again.code == 0, again.err
    assert Path(again.lines[0]).read_bytes() == Path(first.lines[0]).read_bytes()
    if model == "test:sd1":
        assert size_of(sd("again", first.lines[0], "--scale", 3)) == (195, 153)


def test_c11_a_size_that_is_asked_for_is_the_size_of_the_result(sd):
    photo(65, 65).save("in.png")
    assert size_of(sd("upscale", "in.png", "-m", "test:sd1", "-s", 1, "-W", 136, "-H", 136)) == (136, 136)
    ran = sd("upscale", "in.png", "--scale", 2, "-W", 136)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([1.25, 1.5, 2.0, 3.0, 4.0]))
def test_c11_the_enlarged_picture_lies_where_it_is_cut_out_again(tmp_path_factory, width, height, scale):
    """At strength 0 with a perfect VAE, the result would be the picture enlarged by Lanczos' filter."""
    path = tmp_path_factory.mktemp("c11") / "in.png"
    photo(width, height).save(path)
    request = Request("", image=str(path), scale=scale)
    inputs = open_inputs(request)
    sized = inputs.fill_in_size(request)
    size = round(width * scale), round(height * scale)
    assume(size != (sized.width, sized.height))
    decided = {"seed": 1, "steps": 1, "cfg": 1.0, "clip_skip": 1, "emphasis": "none"}
    plugins = {"sampler": "euler", "schedule": "karras", "guidance": "cfg"}
    images = inputs.at_size(job_of(sized.replace(**decided, **plugins)))
    assert images.image.size == (sized.width, sized.height)
    assert sized.width % 8 == sized.height % 8 == 0
    result, _ = images.finish(images.image)
    assert result.tobytes() == photo(width, height).resize(size, Image.Resampling.LANCZOS).tobytes()


@pytest.mark.parametrize("option", ["-W", "-H"])
def test_c11_a_size_in_words_that_is_no_multiple_of_8_stays_refused(sd, option):
    ran = sd("txt2img", "a cat", option, 65)
    assert ran.code == 2 and "the nearest are 64 and 72" in ran.err


@pytest.mark.parametrize(("size", "drawn"), [((101, 75), "96x72"), ((64, 71), "64x64")])
def test_c11_img2img_says_at_what_size_a_picture_of_an_odd_size_is_drawn(sd, size, drawn):
    photo(*size).save("in.png")
    call = ("img2img", "a cat", "-i", "in.png", "-m", "test:sd1", "-s", 1)
    ran = sd(*call)
    assert "x".join(map(str, size_of(ran))) == drawn
    assert f"in.png: is {size[0]}x{size[1]}, and drawn at {drawn}, in multiples of 8; --fit" in ran.err
    assert "drawn at" not in sd(*call, "-W", 64, "-H", 64).err
    photo(64, 72).save("in.png")
    assert "drawn at" not in sd(*call).err


def test_c11_an_inpainted_picture_of_an_odd_size_keeps_its_size(sd):
    photo(101, 75).save("in.png")
    half_mask(101, 75).save("m.png")
    ran = sd("inpaint", "a cat", "-i", "in.png", "--mask", "m.png", "-m", "test:sd1", "-s", 1)
    assert size_of(ran) == (101, 75) and "drawn at" not in ran.err
    with Image.open(ran.lines[0]) as image:
        assert (np.asarray(image)[:, :30] == np.asarray(photo(101, 75))[:, :30]).all()


def test_c11_a_picture_too_small_to_draw_over_is_refused_before_the_model_is_loaded(tmp_path):
    photo(63, 80).save(tmp_path / "in.png")
    with pytest.raises(UsageError, match="would be drawn at 56x80 pixels"):
        open_inputs(Request("a cat", image=str(tmp_path / "in.png")))
