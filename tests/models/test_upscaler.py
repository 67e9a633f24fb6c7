"""Upscalers' networks: closed forms, the papers' formulas, another implementation's numbers, and tiles."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from sdcli.checkpoints.upscaler_file import read_header
from sdcli.errors import ModelError, NotFinite
from sdcli.models import upscaler
from sdcli.models.architectures.swinir import shifted_mask
from sdcli.models.device import Placement
from sdcli.pipeline.enlarge import enlarge_bands, enlarge_image, enlarge_planes, tiles
from tests import pictures, upscaler_files

CPU = Placement(torch.device("cpu"), torch.float32)
GOLDEN = Path(__file__).parent.parent / "golden" / "upscalers.safetensors"


def loaded(tmp_path, tensors):
    return upscaler.load(read_header(upscaler_files.write(tmp_path / "net.safetensors", tensors)), CPU)


def noise(height, width, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random((1, 3, height, width), dtype=np.float32))


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(9, 13), (70, 101)])
def test_a_compact_network_without_weights_gives_each_pixel_as_a_square(tmp_path, scale, size):
    photo = pictures.photo(*size)
    enlarged = enlarge_image(photo, None, loaded(tmp_path, upscaler_files.nearest(scale)), CPU, tile=64)
    squares = photo.resize((size[0] * scale, size[1] * scale), Image.Resampling.NEAREST)
    assert enlarged.tobytes() == squares.tobytes()


@pytest.mark.parametrize("upconvs", [0, 1, 2])
def test_an_esrgan_that_hands_on_its_input_gives_each_pixel_as_a_square(tmp_path, upconvs):
    tensors = {name: np.zeros_like(t) for name, t in upscaler_files.rrdb(1, 4, 2, upconvs).items()}
    for name in ("conv_first", *(f"conv_up{i + 1}" for i in range(upconvs)), "conv_hr", "conv_last"):
        for channel in range(3):  # positive values pass the leaky ReLUs unchanged
            tensors[f"{name}.weight"][channel, channel, 1, 1] = 1
    pixels, scale = noise(70, 45), 2**upconvs
    enlarged = enlarge_planes(pixels, loaded(tmp_path, tensors), CPU, tile=64)
    torch.testing.assert_close(enlarged, F.interpolate(pixels, scale_factor=scale), rtol=0, atol=1e-6)


def convolved(x, tensors, name):
    weight, bias = (torch.from_numpy(tensors[f"{name}.{each}"]) for each in ("weight", "bias"))
    return F.conv2d(x, weight, bias, padding=1)


def lrelu(x):
    return torch.where(x > 0, x, x * 0.2)


def rrdb_by_the_paper(x, tensors, blocks, upconvs):
    """Wang et al. 2018, sections 3.1 and 4.1: dense blocks in residual blocks, both scaled by 0.2."""
    first = y = convolved(x, tensors, "conv_first")
    for block in range(blocks):
        outer = y
        for dense in (1, 2, 3):
            features = [y]
            for i in range(1, 5):
                features.append(
                    lrelu(convolved(torch.cat(features, 1), tensors, f"body.{block}.rdb{dense}.conv{i}"))
                )
            y = y + 0.2 * convolved(torch.cat(features, 1), tensors, f"body.{block}.rdb{dense}.conv5")
        y = outer + 0.2 * y
    y = first + convolved(y, tensors, "conv_body")
    for i in range(upconvs):
        y = y.repeat_interleave(2, -1).repeat_interleave(2, -2)
        y = lrelu(convolved(y, tensors, f"conv_up{i + 1}"))
    return convolved(lrelu(convolved(y, tensors, "conv_hr")), tensors, "conv_last")


def squares_in_channels(x, side):
    """(n, c, h * side, w * side) -> (n, c * side², h, w), as a loop."""
    parts = [
        x[:, c, row::side, column::side] for c in range(3) for row in range(side) for column in range(side)
    ]
    return torch.stack(parts, 1)


@pytest.mark.parametrize(("upconvs", "unshuffle"), [(2, 1), (3, 1), (4, 1), (2, 2), (2, 4)])
def test_esrgan_is_the_papers_formula(tmp_path, upconvs, unshuffle):
    tensors, pixels = upscaler_files.rrdb(upconvs=upconvs, unshuffle=unshuffle), noise(12, 8)
    by_paper = rrdb_by_the_paper(squares_in_channels(pixels, unshuffle), tensors, 2, upconvs)
    torch.testing.assert_close(
        enlarge_planes(pixels, loaded(tmp_path, tensors), CPU), by_paper, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_compact_network_is_the_papers_formula(tmp_path, scale):
    tensors, pixels = upscaler_files.compact(scale=scale), noise(7, 9)
    y = pixels
    for i in (0, 2, 4):
        y = convolved(y, tensors, f"body.{i}")
        y = torch.where(y > 0, y, y * torch.from_numpy(tensors[f"body.{i + 1}.weight"])[:, None, None])
    y = convolved(y, tensors, "body.6").reshape(3, scale, scale, 7, 9).permute(0, 3, 1, 4, 2)
    by_paper = y.reshape(1, 3, 7 * scale, 9 * scale)
    by_paper = by_paper + pixels.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    torch.testing.assert_close(
        enlarge_planes(pixels, loaded(tmp_path, tensors), CPU), by_paper, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        ("rrdb_x1", upscaler_files.rrdb(growth=32, unshuffle=4)),
        ("rrdb_x2", upscaler_files.rrdb(growth=32, unshuffle=2)),
        ("rrdb_x4", upscaler_files.rrdb(growth=32)),
        ("rrdb_x8", upscaler_files.rrdb(growth=32, upconvs=3)),
        ("compact_x2", upscaler_files.compact(scale=2)),
        ("compact_x4", upscaler_files.compact(scale=4)),
        *upscaler_files.SWINIRS.items(),
    ],
)
def test_networks_give_what_spandrel_gives(tmp_path, name, tensors):
    golden = load_file(GOLDEN)
    enlarged = enlarge_planes(golden["input"], loaded(tmp_path, tensors), CPU)
    torch.testing.assert_close(enlarged, golden[name], rtol=1e-4, atol=1e-5)


def heads_of(x, tensors, name, index):
    """Rows `index` of a linear layer's result."""
    weight, bias = (torch.from_numpy(tensors[f"{name}.{each}"]) for each in ("weight", "bias"))
    return x @ weight[index].T + bias[index]


def test_the_attention_of_a_window_is_the_papers_equation_4(tmp_path):
    """Liang et al. 2021: softmax(q kT / sqrt(d) + B) v for each head, B by the distance of two pixels, in loops."""
    tensors, side = upscaler_files.swinir(window=2, width=4), 2
    attention = loaded(tmp_path, tensors).layers[0].residual_group.blocks[0].attn
    name = "layers.0.residual_group.blocks.0.attn"
    x, table = noise(4, 4)[0, :1], torch.from_numpy(tensors[f"{name}.relative_position_bias_table"])
    parts = []
    for head in range(2):
        q, k, v = (
            heads_of(x[0], tensors, f"{name}.qkv", slice(part * 4 + head * 2, part * 4 + head * 2 + 2))
            for part in range(3)
        )
        scores = q @ k.T / 2**0.5
        for one in range(4):
            for other in range(4):
                down, across = one // side - other // side, one % side - other % side
                scores[one, other] += table[(down + 1) * 3 + across + 1, head]
        parts.append(scores.softmax(-1) @ v)
    expected = heads_of(torch.cat(parts, -1), tensors, f"{name}.proj", slice(None))
    torch.testing.assert_close(attention(x, None)[0], expected, rtol=1e-4, atol=1e-5)


def test_shifted_windows_hide_what_the_shift_wraps_round():
    """Two pixels see each other if both, or neither, come from the plane's first rows, and from its first columns."""
    mask, rows = shifted_mask(8, 12, 4), torch.arange(8).roll(-2)
    for window in range(2):
        for column in range(3):
            seen = mask[window * 3 + column, 0] == 0
            columns = torch.arange(12).roll(-2)[column * 4 : column * 4 + 4]
            places = [(int(r) < 2, int(c) < 2) for r in rows[window * 4 : window * 4 + 4] for c in columns]
            assert seen.tolist() == [[one == other for other in places] for one in places]


@pytest.mark.parametrize("name", upscaler_files.SWINIRS)
def test_tiles_of_a_transformer_keep_to_its_windows(tmp_path, name):
    """Its pixels see farther than the margin, but faintly."""
    network, pixels = loaded(tmp_path, upscaler_files.SWINIRS[name]), noise(91, 130)
    whole = enlarge_planes(pixels, network, CPU, tile=256)
    tiled = enlarge_planes(pixels, network, CPU, tile=96)
    assert tiled.shape == whole.shape == (1, 3, 91 * network.factor, 130 * network.factor)
    assert (tiled - whole).abs().mean() < 1e-3 * whole.std()


@pytest.mark.parametrize("renamed", [upscaler_files.as_old, upscaler_files.as_trunk])
@pytest.mark.parametrize("upconvs", [0, 1, 2, 3, 4])
def test_the_three_ways_to_name_an_esrgan_give_the_same_bits(tmp_path, renamed, upconvs):
    tensors, pixels = upscaler_files.rrdb(upconvs=upconvs), noise(9, 7)
    one, other = (enlarge_planes(pixels, loaded(tmp_path, each), CPU) for each in (tensors, renamed(tensors)))
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    "tensors",
    [
        upscaler_files.compact(),
        upscaler_files.rrdb(blocks=1),
        upscaler_files.rrdb(blocks=1, upconvs=1, unshuffle=1),
    ],
)
def test_tiles_whose_margin_covers_what_a_pixel_sees_give_the_whole_picture(tmp_path, tensors):
    """A pixel of one block sees 19 pixels far, of a compact network with four convolutions 4; the margin is 24."""
    network, pixels = loaded(tmp_path, tensors), noise(90, 75)
    whole = enlarge_planes(pixels, network, CPU, tile=128)
    torch.testing.assert_close(enlarge_planes(pixels, network, CPU, tile=64), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("unshuffle", [2, 4])
def test_tiles_keep_to_the_squares_of_pixels_that_a_network_takes(tmp_path, unshuffle):
    network, pixels = loaded(tmp_path, upscaler_files.rrdb(blocks=1, unshuffle=unshuffle)), noise(91, 75)
    whole = enlarge_planes(pixels, network, CPU, tile=128)
    tiled = enlarge_planes(pixels, network, CPU, tile=64)
    assert tiled.shape == (1, 3, 91 * 4 // unshuffle, 75 * 4 // unshuffle)
    assert (tiled - whole).abs().max() < 0.01  # its pixels see 38 or 76 pixels far, farther than the margin


@pytest.mark.parametrize("tensors", [upscaler_files.compact(), upscaler_files.swinir()])
@pytest.mark.parametrize("tile", [64, 72, 100])
def test_no_tile_is_larger_than_asked(tmp_path, tensors, tile):
    network, seen = loaded(tmp_path, tensors), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-2:]))
    enlarge_planes(noise(200, 130), network, CPU, tile=tile)
    assert len(seen) > 1
    assert max(max(shape) for shape in seen) <= tile


def test_tiles_are_no_larger_than_their_number_needs():
    """512 pixels in tiles of 256 with margins take three, of 176 each; what fits one tile is not cut."""
    assert [(rows.start, rows.stop) for rows, _ in tiles((512, 256), 1, 256)] == [
        (0, 176),
        (168, 344),
        (336, 512),
    ]
    assert tiles((256, 200), 1, 256) == [(slice(0, 256), slice(0, 200))]


@pytest.mark.parametrize("unshuffle", [1, 2, 4])
def test_bytes_in_bands_are_enlarged_as_the_whole_plane_of_numbers_is(tmp_path, unshuffle):
    network, photo = (
        loaded(tmp_path, upscaler_files.rrdb(blocks=1, unshuffle=unshuffle)),
        pictures.photo(91, 75),
    )
    pixels = torch.from_numpy(np.array(photo.convert("RGB"))).permute(2, 0, 1)[None]
    bands = list(enlarge_bands(pixels, network, CPU, tile=64))
    whole = enlarge_planes(pixels / 255, network, CPU, tile=64)
    assert torch.equal(torch.cat(bands, -2), whole) and len(bands) > 1
    as_bytes = (whole[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert np.array_equal(np.array(enlarge_image(photo, None, network, CPU, tile=64)), as_bytes)


@pytest.mark.parametrize("unshuffle", [1, 2, 4])
def test_tiles_cover_every_length_and_overlap(unshuffle):
    for tile in (64, 72, 256):
        for length in range(1, 700, 7):
            spans = [rows for rows, _ in tiles((length, 1), unshuffle, tile)]
            assert (spans[0].start, spans[-1].stop) == (0, length)
            margins = 2 * (24 // unshuffle) * (len(spans) > 1)
            assert max(span.stop - span.start for span in spans) + margins <= max(tile // unshuffle, 1)
            for one, other in itertools.pairwise(spans):
                assert other.start <= one.stop - 8 // unshuffle


def test_a_pixel_is_enlarged(tmp_path):
    for tensors, scale in (
        (upscaler_files.rrdb(unshuffle=2), 2),
        (upscaler_files.compact(), 4),
        (upscaler_files.swinir(), 4),
    ):
        assert enlarge_image(pictures.photo(1, 1), None, loaded(tmp_path, tensors), CPU).size == (
            scale,
            scale,
        )


def test_weights_that_are_not_finite_are_refused(tmp_path):
    tensors = upscaler_files.compact()
    tensors["body.2.bias"][0] = np.nan
    with pytest.raises(ModelError, match="not finite"):
        loaded(tmp_path, tensors)


def test_a_result_that_is_not_finite_is_refused(tmp_path):
    tensors = upscaler_files.compact()
    for name in tensors:
        tensors[name] = np.full_like(tensors[name], 1e30)
    with pytest.raises(NotFinite, match="float32"):
        enlarge_planes(noise(4, 4), loaded(tmp_path, tensors), CPU)
