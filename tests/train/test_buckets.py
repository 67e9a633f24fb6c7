"""Buckets and batches: every picture is in one, whatever its proportions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.train.batches import Batches
from sdcli.train.buckets import bucket_of, buckets, scale_to, step_of

RESOLUTIONS = st.integers(8, 2048)
SIZES = st.tuples(st.integers(1, 8000), st.integers(1, 8000))


def of(resolution):
    return buckets(resolution, step_of(resolution))


@given(RESOLUTIONS)
def test_a_bucket_is_no_larger_than_the_square_and_its_sides_are_multiples_of_the_step(resolution):
    step = step_of(resolution)
    for width, height in of(resolution):
        assert width % step == height % step == 0
        assert 0 < width * height <= resolution**2
        assert max(width, height) <= 2 * min(width, height)


@given(RESOLUTIONS)
def test_buckets_come_in_pairs_that_are_turned_by_90_degrees(resolution):
    assert {(height, width) for width, height in of(resolution)} == set(of(resolution))


def test_the_buckets_of_512_are_these():
    assert of(512) == [
        (384, 640), (448, 576), (512, 512), (576, 448), (640, 384)
    ]  # fmt: skip


@given(st.integers(1, 5000), RESOLUTIONS)
def test_a_square_is_in_the_square_bucket(side, resolution):
    width, height = bucket_of((side, side), of(resolution))
    assert width == height == resolution // step_of(resolution) * step_of(resolution)


@given(SIZES, RESOLUTIONS)
def test_a_turned_picture_is_in_the_turned_bucket(size, resolution):
    found = bucket_of(size, of(resolution))
    assert bucket_of(size[::-1], of(resolution)) == found[::-1]


@given(SIZES, RESOLUTIONS)
def test_no_other_bucket_would_cut_off_less(size, resolution):
    def kept(bucket):
        return bucket[0] * bucket[1] / (size[0] * size[1] * scale_to(size, bucket) ** 2)

    found = bucket_of(size, of(resolution))
    assert kept(found) >= max(map(kept, of(resolution))) * (1 - 1e-6)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(1, 5), st.integers(0, 9))
def test_an_epoch_has_every_picture_once_and_a_batch_those_of_one_bucket(in_buckets, size, seed):
    batches = Batches(in_buckets, size, seed)
    for epoch in range(2):
        numbers = range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch)
        own = [batches[number] for number in numbers]
        assert sorted(i for batch in own for i in batch) == list(range(len(in_buckets)))
        assert all(len({in_buckets[i] for i in batch}) == 1 and len(batch) <= size for batch in own)


def test_a_batch_goes_by_its_number_whichever_were_asked_for_before():
    one, other = Batches("aabbbb", 2, 5), Batches("aabbbb", 2, 5)
    in_order = [one[number] for number in range(20)]
    assert [other[number] for number in reversed(range(20))] == in_order[::-1]


def test_epochs_and_seeds_have_other_orders():
    batches = Batches("a" * 30, 30, 0)
    assert len({batches[0], batches[1], Batches("a" * 30, 30, 1)[0]}) == 3


@pytest.mark.parametrize(("resolution", "step"), [(64, 8), (255, 8), (256, 64), (1024, 64)])
def test_small_resolutions_have_finer_buckets(resolution, step):
    assert step_of(resolution) == step
