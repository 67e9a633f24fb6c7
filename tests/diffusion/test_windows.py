"""Windows cover a plane, overlap as asked, and blend without a seam."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdcli.diffusion.windows import blend, blend_bands, windows

sides = st.integers(1, 70)


@given(sides, sides, st.integers(8, 32), st.integers(0, 6))
def test_windows_cover_the_plane_and_share_the_overlap(height, width, side, overlap):
    cover = windows(height, width, side, overlap)
    covered = torch.zeros(height, width)
    for rows, columns in cover:
        assert rows.stop - rows.start == min(side, height) and columns.stop - columns.start == min(
            side, width
        )
        assert rows.start >= 0 and rows.stop <= height and columns.start >= 0 and columns.stop <= width
        covered[rows, columns] += 1
    assert covered.min() >= 1
    for axis in (0, 1):
        starts = sorted({window[axis].start for window in cover})
        assert all(start + side - following >= overlap for start, following in pairwise(starts))


@given(sides, sides, st.integers(8, 32))
def test_the_windows_of_a_plane_blend_back_to_the_plane(height, width, side):
    x = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)
    cover = windows(height, width, side, side // 4)
    assert torch.allclose(blend((height, width), cover, lambda window: x[..., *window]), x)


def test_windows_enlarged_by_a_factor_blend_to_the_enlarged_plane():
    x = torch.rand(1, 3, 20, 30)

    def enlarge(plane):
        return plane.repeat_interleave(8, -1).repeat_interleave(8, -2)

    blended = blend((20, 30), windows(20, 30, 16, 4), lambda window: enlarge(x[..., *window]), 8)
    assert torch.allclose(blended, enlarge(x))


def test_where_two_windows_overlap_each_counts_most_near_its_middle():
    """One window gives 0, the other 1: from the one's side to the other's the blend rises steadily."""
    blended = blend(
        (4, 12), windows(4, 12, 8, 4), lambda window: torch.full((1, 4, 8), float(window[1].start > 0))
    )
    row = blended[0, 0]
    assert row[:4].tolist() == [0] * 4
    assert row[8:].tolist() == [1] * 4
    assert row[4:8].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])


@given(sides, sides, st.integers(8, 32), st.integers(1, 3))
def test_bands_are_what_blend_gives_bit_for_bit(height, width, side, factor):
    x = torch.rand(1, 3, height * factor, width * factor, generator=torch.Generator().manual_seed(1))

    def compute(window):
        rows, columns = (slice(each.start * factor, each.stop * factor) for each in window)
        return x[..., rows, columns]

    cover = windows(height, width, side, side // 4)
    rows, columns = (list(dict.fromkeys((w[i].start, w[i].stop) for w in cover)) for i in (0, 1))
    spans = [[slice(*each) for each in axis] for axis in (rows, columns)]
    bands = list(blend_bands((height, width), *spans, compute, factor))
    assert torch.equal(torch.cat(bands, -2), blend((height, width), cover, compute, factor))
    assert all(band.shape[-2] <= side * factor for band in bands)
