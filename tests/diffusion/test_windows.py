"""Windows cover a plane, overlap enough, and join without a seam."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from sdcli.diffusion.windows import blend, windows

sides = st.integers(1, 70)


@given(sides, sides, st.integers(8, 32), st.integers(0, 6))
def test_they_cover_everything_and_share_what_is_asked(height, width, side, overlap):
    found = windows(height, width, side, overlap)
    covered = torch.zeros(height, width)
    for rows, columns in found:
        assert rows.stop - rows.start == min(side, height) and columns.stop - columns.start == min(
            side, width
        )
        assert rows.start >= 0 and rows.stop <= height and columns.start >= 0 and columns.stop <= width
        covered[rows, columns] += 1
    assert covered.min() >= 1
    across = sorted({columns.start for _, columns in found})
    assert all(before + side - after >= overlap for before, after in pairwise(across))


@given(sides, sides, st.integers(8, 32))
def test_what_does_not_depend_on_its_place_joins_to_itself(height, width, side):
    x = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)
    found = windows(height, width, side, side // 4)
    assert torch.allclose(blend((height, width), found, lambda window: x[..., *window]), x)


def test_a_factor_makes_the_whole_so_much_larger():
    x = torch.rand(1, 3, 20, 30)
    grown = lambda window: x[..., *window].repeat_interleave(8, -1).repeat_interleave(8, -2)  # noqa: E731
    whole = blend((20, 30), windows(20, 30, 16, 4), grown, 8)
    assert torch.allclose(whole, x.repeat_interleave(8, -1).repeat_interleave(8, -2))
