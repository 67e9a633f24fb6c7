"""`sd annotate`: a picture of what is read off a picture."""

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


def test_depth_is_a_grey_picture_of_the_same_size_that_uses_its_whole_range(sd, photo):
    ran = sd("annotate", "depth", photo, "-m", "test:depth")
    assert (ran.code, ran.lines, ran.err) == (0, ["photo-depth.png"], "")
    with Image.open("photo-depth.png") as image:
        assert (image.mode, image.size) == ("I;16", (100, 60))
        values = np.array(image)
    assert (values.min(), values.max()) == (0, 65535)


def test_nothing_is_overwritten_and_the_same_command_gives_the_same_bytes(sd, photo):
    lines = [sd("annotate", "depth", photo, "-m", "test:depth", "-o", "maps/").lines[0] for _ in range(2)]
    assert lines == ["maps/photo-depth.png", "maps/photo-depth-2.png"]
    assert Path(lines[0]).read_bytes() == Path(lines[1]).read_bytes()


def test_pictures_come_and_go_through_pipes(sd, photo):
    ran = sd("annotate", "depth", "-", "-m", "test:depth", "-o", "-", stdin=photo.read_bytes())
    assert ran.code == 0, ran.err
    told = sd("annotate", "depth", photo, "-m", "test:depth", "-o", "map.png", "--json").lines[0]
    assert json.loads(told) == {"path": "map.png", "kind": "depth", "model": "test:depth"}
    assert Path("map.png").read_bytes() == ran.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
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
def test_what_cannot_be_is_one_line(sd, photo, arguments, code, said):
    ran = sd("annotate", *arguments)
    assert (ran.code, len(ran.err.splitlines())) == (code, 1)
    assert said in ran.err
