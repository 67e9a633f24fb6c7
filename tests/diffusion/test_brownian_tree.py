"""The Brownian tree is torchsde's, bit for bit, and k-diffusion's noise sampler made of it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcli.diffusion.brownian_tree import BrownianTree
from sdcli.diffusion.philox import Philox

torchsde = pytest.importorskip("torchsde")
pytestmark = pytest.mark.filterwarnings(
    "ignore:Should have t"
)  # of torchsde: levels are rounded past its ends
SHAPE = (1, 4, 6, 6)
LOW, HIGH = (float(torch.tensor(level)) for level in (0.0291671582, 14.6146411896))
LEVELS = st.floats(LOW, HIGH, width=32)
SEEDS = st.integers(0, 2**64 - 1)


def torch_draw(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def judge(seed, low=LOW, high=HIGH):
    return torchsde.BrownianTree(torch.tensor(low), torch.zeros(SHAPE), torch.tensor(high), entropy=seed)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.lists(st.tuples(LEVELS, LEVELS), min_size=1, max_size=5))
def test_increments_are_those_of_torchsde_bit_for_bit_in_any_order(seed, pairs):
    tree, theirs = BrownianTree(seed, [HIGH, LOW, 0.0], torch_draw), judge(seed)
    for start, end in map(sorted, pairs):
        assert torch.equal(tree.increment(start, end), theirs(torch.tensor(start), torch.tensor(end)))


@pytest.mark.parametrize("width", [1e-6, 3e-6, 1e-5, 1e-3])
def test_increments_over_the_narrowest_intervals_are_those_of_torchsde(width):
    tree, theirs = BrownianTree(3, [HIGH, LOW], torch_draw), judge(3)
    for start in (LOW, 0.1, 0.5, 1.2345678, 9.0):
        ends = torch.tensor(start), torch.tensor(start + width)
        assert torch.equal(tree.increment(*map(float, ends)), theirs(*ends))


def test_levels_outside_the_range_count_as_its_ends():
    tree = BrownianTree(3, [9.0, 1.0], torch_draw)
    assert torch.equal(tree.increment(0.5, 10.0), tree.increment(1.0, 9.0))
    assert not tree.increment(9.5, 10.0).any()


@pytest.mark.parametrize(("sigma", "lower"), [(14.614641, 9.1), (9.1, 5.2), (1.3, 0.03), (0.05, 0.04)])
def test_noise_has_the_sign_and_scale_of_k_diffusion(sigma, lower):
    """BatchedBrownianTree negates W where the levels fall; BrownianTreeNoiseSampler divides by sqrt(|t1 - t0|)."""
    high, low = torch.tensor(sigma), torch.tensor(lower)
    expected = judge(7)(low, high) * -1 / (low - high).abs().sqrt()
    assert torch.equal(BrownianTree(7, [HIGH, LOW, 0.0], torch_draw)(sigma, lower), expected)


def test_a_tree_with_leaves_of_philox_is_a1111s(monkeypatch):
    """sd_samplers_common.replace_torchsde_browinan: each draw is that of a generator of its own, by Noise source NV."""
    monkeypatch.setattr(
        torchsde._brownian.brownian_interval,
        "_randn",
        lambda size, dtype, device, seed: Philox(int(seed), tuple(size))(0, 0),
    )
    tree = BrownianTree(7, [HIGH, LOW], lambda seed: Philox(seed, SHAPE)(0, 0))
    assert torch.equal(tree.increment(1.0, 9.0), judge(7)(torch.tensor(1.0), torch.tensor(9.0)))
