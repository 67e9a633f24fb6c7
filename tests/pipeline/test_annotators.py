"""Annotators that need no network, on pictures whose maps are known."""

import inspect
import math

import numpy as np
import pytest
from PIL import Image

from sdcli import registry
from sdcli.errors import UsageError
from sdcli.pipeline.annotators._edges import blurred, connected

WITHOUT_NETWORK = [name for name in registry.names("annotators") if name != "depth"]


def annotated(spec, pixels):
    image = registry.find("annotators", spec)(
        Image.fromarray(np.asarray(pixels, dtype=np.uint8)), "tiny", "cpu"
    )
    return np.asarray(image)


def disc(radius, side=64, inside=255):
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.where(np.hypot(x, y) < radius, inside, 0)


@pytest.mark.parametrize("name", WITHOUT_NETWORK)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_map_has_the_size_of_its_picture_and_8_bits(name, mode):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)).convert(
        mode
    )
    map_ = registry.find("annotators", name)(image, "tiny", "cpu")
    assert map_.size == (64, 40)
    assert map_.mode in ("L", "RGB")


@pytest.mark.parametrize("name", registry.names("annotators"))
def test_an_annotator_tells_the_user_what_it_makes(name):
    assert 10 <= len(registry.describe("annotators", name).summary) <= 130
    assert inspect.signature(registry.find("annotators", name)).parameters


@pytest.mark.parametrize("flipped", [False, True])
def test_canny_draws_a_step_as_one_line_of_one_pixel(flipped):
    step = np.zeros((20, 30))
    step[:, 15:] = 255
    step = step.T if flipped else step
    edges = annotated("canny", step)
    edges = edges.T if flipped else edges
    assert (edges[:, 14] == 255).all()
    assert np.delete(edges, 14, axis=1).max() == 0


def test_canny_draws_a_disc_as_a_closed_circle_on_its_rim():
    edges = annotated("canny:blur=1", disc(20)) > 0
    y, x = np.nonzero(edges)
    distance = np.hypot(y - 31.5, x - 31.5)
    assert abs(distance - 20).max() < 1.5
    assert 4 * math.sqrt(2) * 20 < edges.sum() < 8 * 20  # with all steps diagonal, and with none
    outside = np.pad(~edges, 1, constant_values=True)
    flood = np.zeros_like(outside)
    flood[0, 0] = True
    for _ in range(outside.size):  # by sides alone, which no diagonal of a closed line lets through
        grown = flood.copy()
        grown[1:] |= flood[:-1]
        grown[:-1] |= flood[1:]
        grown[:, 1:] |= flood[:, :-1]
        grown[:, :-1] |= flood[:, 1:]
        grown &= outside
        if (grown == flood).all():
            break
        flood = grown
    assert not flood[32, 32]


def test_canny_goes_on_from_a_strong_edge_along_a_weak_one_and_draws_no_weak_one_alone():
    pixels = np.zeros((40, 40))
    pixels[:, 20:] = np.linspace(60, 35, 40)[:, None]  # 4 * 60 = 240 is above high, 4 * 35 = 140 is not
    assert annotated("canny", pixels)[:, 19:21].any(axis=1).all()
    pixels[:, 20:] = 35
    assert not annotated("canny", pixels).any()


def test_canny_takes_the_strongest_channel():
    """Red falls where green rises, by which grey would stay the same."""
    pixels = np.zeros((16, 16, 3))
    pixels[:, :8, 0], pixels[:, 8:, 1] = 200, 102
    assert annotated("canny", pixels)[:, 7].all()


def test_low_must_not_be_above_high():
    with pytest.raises(UsageError, match="low=300 is above high=200"):
        annotated("canny:low=300", disc(5))


def test_the_blur_is_a_gaussian():
    point = np.zeros((41, 41, 1), np.float32)
    point[20, 20] = 1
    y, x = np.mgrid[:41, :41] - 20
    expected = np.exp(-(x**2 + y**2) / (2 * 2.0**2)) / (2 * math.pi * 2.0**2)
    assert abs(blurred(point, 2.0)[..., 0] - expected).max() < 1e-4
    assert np.allclose(blurred(np.full((9, 9, 3), 7, np.float32), 5.0), 7, atol=1e-4)


def test_a_long_weak_path_is_followed_to_its_end():
    weak = np.zeros((101, 101), bool)
    weak[::2] = True
    weak[1::4, -1] = weak[3::4, 0] = True
    strong = np.zeros_like(weak)
    strong[0, 0] = True
    assert (connected(strong, weak) == weak).all()


def test_lineart_draws_dark_lines_white_and_paper_black():
    paper = np.full((64, 64), 255)
    paper[30:33] = 0
    lines = annotated("lineart", paper)
    assert lines[31].min() > 120
    assert lines[:15].max() == 0


def test_scribble_is_black_and_white_and_thicker_with_a_lower_threshold():
    drawn = [
        annotated(f"scribble:threshold={threshold}", 255 - disc(20, inside=255)) for threshold in (32, 8)
    ]
    assert set(np.unique(drawn[0])) == {0, 255}
    assert drawn[0].sum() < drawn[1].sum()


def test_tile_is_the_picture_itself_and_loses_detail_when_it_shrinks():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert (annotated("tile", noise) == noise).all()
    assert annotated("tile:shrink=8", noise).std() < noise.std() / 4


def test_invert_and_grey_are_what_they_say():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert (annotated("invert", pixels) == 255 - pixels).all()
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    assert abs(annotated("grey", pixels) - luma).max() <= 1


def test_colour_is_a_grid_of_plain_cells():
    noise = np.random.default_rng(0).integers(0, 256, (128, 192, 3), dtype=np.uint8)
    grid = annotated("colour", noise)
    cells = grid.reshape(2, 64, 3, 64, 3)
    assert (cells == cells[:, :1, :, :1]).all()
    assert len(np.unique(grid.reshape(-1, 3), axis=0)) == 6
