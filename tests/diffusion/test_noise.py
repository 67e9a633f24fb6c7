"""Noise comes from one stream per picture and has its known values; an estimate that is not finite stops the run."""

import math

import numpy as np
import pytest
import torch

from sdcli.diffusion.finite import check_finite
from sdcli.diffusion.noise import ComfyStream, Stream, centred_on, slerp
from sdcli.diffusion.philox import Philox, philox
from sdcli.errors import NotFinite


def test_the_noise_of_seed_0_is_the_known_one():
    noise = Stream(0, (1, 4, 64, 64))(1, 0).flatten()
    assert noise[:3].tolist() == pytest.approx([-1.12583983, -1.15236020, -0.25057858])
    short = Stream(0, (3,))(1, 0)  # torch draws fewer than 16 values in another way
    assert short.tolist() == pytest.approx([1.54099607, -0.29342890, -2.17878938])


def test_drawing_noise_leaves_torchs_global_generator_alone():
    before = torch.random.get_rng_state()
    Stream(7, (1, 4, 8, 8))(1, 0)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_stops_the_run_with_its_noise_level(value):
    estimate = torch.zeros(1, 4, 8, 8)
    estimate[0, 2, 5, 5] = value
    with pytest.raises(NotFinite, match=r"noise level 2\.5 is not finite; try --dtype float32"):
        check_finite(lambda x, sigma: estimate)(torch.zeros(1, 4, 8, 8), 2.5)


def test_a_late_check_names_the_level_of_the_estimate_that_it_is_late_for():
    estimates = iter([torch.tensor(math.nan), torch.zeros(()), torch.zeros(())])
    checked = check_finite(lambda x, sigma: next(estimates), late=2)
    assert [checked(torch.zeros(()), sigma).isnan().item() for sigma in (9.0, 5.0)] == [True, False]
    with pytest.raises(NotFinite, match="noise level 9 is not finite"):
        checked(torch.zeros(()), 1.0)


def test_a_finite_estimate_passes_the_check_as_the_same_tensor():
    estimate = torch.full((1, 4, 8, 8), 3e38)  # the sum of its values is not finite
    assert check_finite(lambda x, sigma: estimate)(torch.zeros(1), 2.5) is estimate


KNOWN_ANSWERS = {  # of Random123 for Philox 4x32-10: counter, key, bits
    "zeros": ([0] * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    "ones": ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    "pi": (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
}


@pytest.mark.parametrize("case", KNOWN_ANSWERS)
def test_philox_has_its_known_answers(case):
    counter, key, bits = KNOWN_ANSWERS[case]
    result = philox(np.array(counter, np.uint32)[:, None], key)[:, 0]
    assert " ".join(f"{word:08x}" for word in result) == bits


def test_the_cuda_noise_of_seed_0_is_the_known_one():
    known = [-0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564]
    known += [-0.62285122, -0.32838709, -1.07454231, -0.36314407, -1.67105067, 2.26550497]
    assert Philox(0, (3, 4))(1, 0).flatten().tolist() == pytest.approx(known, abs=2e-7)


def test_each_draw_of_cuda_noise_is_new_and_the_same_for_the_same_seed():
    noise = Philox(7, (1, 4, 16, 16))
    first, second = noise(1, 0), noise(1, 0)
    assert first.dtype == torch.float32
    assert not torch.equal(first, second)
    again = Philox(7, (1, 4, 16, 16))
    assert torch.equal(again(1, 0), first)
    assert torch.equal(again(1, 0), second)
    assert abs(float(first.mean())) < 0.1
    assert float(first.std()) == pytest.approx(1, abs=0.05)


def test_comfyui_draws_the_first_noise_on_the_cpu_and_the_rest_on_the_gpu():
    shape = (1, 4, 8, 8)
    noise = ComfyStream(3, shape)
    assert torch.equal(noise(1, 0), Stream(3, shape)(1, 0))
    gpu = Philox(3, shape)
    assert torch.equal(noise(1, 0), gpu(1, 0))
    assert torch.equal(noise(1, 0), gpu(1, 0))


def test_what_lies_between_two_noises_is_unit_noise():
    first, second = (Stream(seed, (1, 4, 64, 64))(1, 0) for seed in (1, 2))
    assert torch.allclose(slerp(first, second, 0), first, atol=1e-6)
    assert torch.allclose(slerp(first, second, 1), second, atol=1e-6)
    for share in (0.1, 0.5, 0.9):
        assert float(slerp(first, second, share).std()) == pytest.approx(1, abs=0.02)
    assert torch.allclose(slerp(first, first, 0.3), first, atol=1e-6)


@pytest.mark.parametrize("small", [(4, 6), (8, 6), (12, 10), (4, 10), (8, 8)])
def test_noise_of_another_size_is_put_in_the_middle(small):
    noise, background = torch.ones(1, 4, *small), torch.zeros(1, 4, 8, 8)
    result = centred_on(noise, background)
    height, width = (min(side, 8) for side in small)
    down, right = (8 - height) // 2, (8 - width) // 2
    assert float(result.sum()) == 4 * height * width
    assert bool(result[..., down : down + height, right : right + width].all())
    assert not background.any()


def test_noise_that_is_larger_keeps_its_own_middle():
    noise = torch.arange(4 * 8, dtype=torch.float32).reshape(1, 1, 4, 8)
    result = centred_on(noise, torch.zeros(1, 1, 4, 4))
    assert torch.equal(result, noise[..., 2:6])
