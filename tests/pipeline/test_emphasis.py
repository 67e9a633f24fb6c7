"""Emphasis: the formulas in closed form, and against stored answers of A1111's and ComfyUI's own code."""

import math

import numpy as np
import pytest
import torch

from sdcli.errors import UsageError
from sdcli.pipeline import emphasis
from tests.request.prompt.known import answers

NAMES = {"a1111": "Original", "no_norm": "No norm", "comfyui": "ComfyUI"}


def states(seed: int, chunks: int = 1, dtype=torch.float32) -> torch.Tensor:
    drawn = np.random.Generator(np.random.PCG64(seed)).standard_normal((chunks, 77, 8), dtype=np.float32)
    return (torch.from_numpy(drawn) + 0.25).to(dtype)


def weights(*rows: dict[int, float]) -> torch.Tensor:
    typed = torch.ones(len(rows), 77)
    for chunk, row in zip(typed, rows, strict=True):
        for token, weight in row.items():
            chunk[token] = weight
    return typed


def is_near(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return float((ours - theirs).norm() / theirs.norm()) < 1e-6


@pytest.mark.parametrize("name", emphasis.FORMULAS)
@pytest.mark.parametrize("known", answers("emphasis", "weights"))
def test_states_are_those_of_the_tools_own_code(known, name):
    z = emphasis.apply(name, states(77), weights(dict(known["weights"])), states(78))
    answer = known[NAMES[name]]
    assert is_near(z[0, 2], torch.tensor(answer["row2"]))
    assert math.isclose(float(z.double().sum()), answer["sum"], rel_tol=1e-6)
    assert math.isclose(float(z.double().norm()), answer["l2"], rel_tol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_norm_multiplies_each_token_by_its_weight(dtype):
    z, typed = states(1, 2, dtype), weights({3: 1.5}, {76: -2.0, 5: 0.0})
    assert is_near(emphasis.apply("no_norm", z, typed, z[:1]), z * typed[..., None].to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a1111_keeps_the_mean_of_each_chunk(dtype):
    z, typed = states(1, 2, dtype), weights({3: 1.5, 4: 0.3}, {20: -1.0})
    out = emphasis.apply("a1111", z, typed, z[:1])
    assert is_near(out.mean((1, 2)), z.mean((1, 2)))
    factors = out / (z * typed[..., None])
    assert is_near(factors, factors.mean((1, 2), keepdim=True).expand_as(factors))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_comfyui_stretches_the_distance_from_the_empty_prompt(dtype):
    z, empty, typed = states(1, 2, dtype), states(2, 1, dtype), weights({3: 1.5}, {20: -1.0, 6: 0.0})
    out = emphasis.apply("comfyui", z, typed, empty)
    assert is_near(out[0, 3] - empty[0, 3], 1.5 * (z[0, 3] - empty[0, 3]))
    assert is_near(out[1, 20] - empty[0, 20], empty[0, 20] - z[1, 20])
    assert is_near(out[1, 6], empty[0, 6])
    assert torch.equal(out[typed == 1], z[typed == 1])


@pytest.mark.parametrize("name", emphasis.FORMULAS)
def test_a_chunk_without_weights_keeps_its_bits(name):
    z = states(3, 3)
    assert emphasis.apply(name, z, weights({}, {}, {}), z[:1]) is z
    out = emphasis.apply(name, z, weights({}, {4: 1.2}, {}), z[:1])
    assert torch.equal(out[::2], z[::2]) and not torch.equal(out[1], z[1])


def test_none_ignores_weights():
    z = states(3)
    assert emphasis.apply("none", z, weights({4: 1.2}), z) is z


@pytest.mark.parametrize("name", ["none", "a1111", "no_norm", "comfyui"])
def test_the_empty_prompt_is_encoded_only_if_the_formula_needs_it(name):
    z, calls = states(3), []
    for typed in (weights({}), weights({4: 1.2})):
        emphasis.apply(name, z, typed, lambda: calls.append(1) or z)
    assert len(calls) == (1 if name == "comfyui" else 0)


def test_weights_that_leave_a_mean_of_0_are_a_usage_error():
    z = torch.ones(1, 77, 8)
    with pytest.raises(UsageError, match=r"--emphasis a1111: the weights .* or --emphasis no_norm"):
        emphasis.apply("a1111", z, weights({1: -76.0}), z)


@pytest.mark.parametrize("name", emphasis.FORMULAS)
@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_a_weight_that_is_no_number_is_a_usage_error(name, weight):
    with pytest.raises(UsageError, match=f"--emphasis {name}: "):
        emphasis.apply(name, states(1), weights({1: weight}), states(2))


def test_states_that_are_infinite_already_are_not_blamed_on_the_weights():
    z = torch.full((1, 77, 8), math.inf)
    assert not emphasis.apply("no_norm", z, weights({1: 1.5}), z).isfinite().any()
