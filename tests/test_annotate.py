"""`sd annotate`: a depth map of a picture."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photo(sd) -> Path:
    ramp = np.add.outer(np.arange(60), np.arange(100)).astype(np.uint8)
    Image.fromarray(np.stack([ramp, ramp.T.reshape(60, 100), 255 - ramp], -1)).save("photo.png")
    return Path("photo.png")


def test_a_depth_map_is_16_bit_grey_of_the_same_size_from_black_to_white(sd, photo):
    ran = sd("annotate", "depth", photo, "-m", "test:depth")
    assert (ran.code, ran.lines, ran.err) == (0, ["photo-depth.png"], "")
    with Image.open("photo-depth.png") as image:
        assert (image.mode, image.size) == ("I;16", (100, 60))
        values = np.array(image)
    assert (values.min(), values.max()) == (0, 65535)


def test_the_same_command_twice_gives_the_same_bytes_under_another_name(sd, photo):
    lines = [sd("annotate", "depth", photo, "-m", "test:depth", "-o", "maps/").lines[0] for _ in range(2)]
    assert lines == ["maps/photo-depth.png", "maps/photo-depth-2.png"]
    assert Path(lines[0]).read_bytes() == Path(lines[1]).read_bytes()


def test_a_picture_comes_from_standard_input_and_its_map_goes_to_standard_output(sd, photo):
    ran = sd("annotate", "depth", "-", "-m", "test:depth", "-o", "-", stdin=photo.read_bytes())
    assert ran.code == 0, ran.err
    sd("annotate", "depth", photo, "-m", "test:depth", "-o", "map.png")
    assert Path("map.png").read_bytes() == ran.out


def test_json_is_one_object_with_the_path_the_kind_and_the_model(sd, photo):
    lines = sd("annotate", "depth", photo, "-m", "test:depth", "-o", "map.png", "--json").lines
    assert [json.loads(line) for line in lines] == [
        {"path": "map.png", "kind": "depth", "model": "test:depth"}
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ("depth", "photo.png"),
            3,
            "tiny: no depth network in it; use a Stable Diffusion 2 depth checkpoint",
        ),
        (("dept", "photo.png"), 2, "no annotator is called 'dept'; did you mean 'depth'?"),
        (("depth", "none.png", "-m", "test:depth"), 4, "none.png"),
        (("depth", "photo.png", "-m", "test:depth", "-o", "x.jpg"), 2, "name it x.png"),
        (("depth", "photo.png", "-m", "test:depth", "-o", "-", "--json"), 2, "does not go with --json"),
        (("depth", "photo.png", "-m", "none"), 3, "none: no such model"),
    ],
)
def test_an_error_is_one_line_that_says_why(sd, photo, arguments, code, message):
    ran = sd("annotate", *arguments)
    assert (ran.code, len(ran.err.splitlines())) == (code, 1)
    assert message in ran.err
