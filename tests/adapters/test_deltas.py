"""Deltas: what each kind of LoRA-like file does to a weight, by closed forms and by the numbers of other codes."""

import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from sdcli.adapters.deltas import bias_delta, delta, low_rank
from sdcli.checkpoints.header import Entry
from sdcli.checkpoints.lora_kinds import check, has_low_rank_form
from sdcli.checkpoints.lora_suffixes import split_key
from sdcli.errors import ModelError
from tests.checkpoints.loras import FILE, VALID, entries

TOY = load_file(Path(__file__).parents[1] / "golden" / "adapters" / "toy.safetensors")
CASES = [key.removesuffix(".delta") for key in TOY if key.endswith(".delta")]
LOOSER = {  # the codes that gave the numbers limit a norm in float32, where it cancels
    "oft-kohya": 1e-5, "oft-rescale": 2e-6,
}  # fmt: skip


def random(*shape, seed=0, scale=1.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def one(value):
    return torch.tensor(float(value))


def orthogonal(size):
    return torch.linalg.qr(random(size, size)).Q


def skew(*shape, seed=0):
    """Blocks of an OFT, whose rotations turn by an angle of some size."""
    return random(*shape, seed=seed, scale=0.2)


def lora_of(out=6, inner=5, r=2, kernel=()):
    return {"up": random(out, r, *[1] * len(kernel)), "down": random(r, inner, *kernel, seed=1)}


# --- the numbers of other codes


@pytest.mark.parametrize("case", CASES)
def test_a_delta_is_that_of_the_codes_which_train_the_kind(case):
    kind, module = case.split(".")
    base = TOY[f"base.{module}"]
    named = {
        split_key(key)[1]: TOY[key] for key in TOY if key.startswith(case) and not key.endswith(".delta")
    }
    entries = {name: Entry("F32", tuple(t.shape), 0, 0, Path("a"), name) for name, t in named.items()}
    found = delta(check(Path("a"), module, entries, base.shape), named, base)
    assert found.dtype == torch.float32
    assert relative(found, TOY[f"{case}.delta"]) < LOOSER.get(kind, 1e-6)


SIZES = st.lists(st.sampled_from([1, 2, 3, 4, 6, 16, 24]), max_size=4)


@given(st.sampled_from(VALID), st.data())
def test_whatever_passes_the_check_can_be_merged(case, data):
    _, shapes, base = case
    changed = data.draw(st.dictionaries(st.sampled_from(sorted(shapes)), SIZES, max_size=2))
    try:
        kind = check(FILE, "m", entries(shapes | changed), base)
    except ModelError:
        return
    tensors = {name: torch.ones(tuple(shape)) for name, shape in (shapes | changed).items()}
    if "bias_size" in tensors:
        tensors["bias_size"] = torch.tensor(base)
    if "on_input" in tensors:
        tensors["on_input"] = torch.tensor(int(tensors["weight"].numel() != base[0]))
    assert delta(kind, tensors, random(*base)).shape == base
    bias = bias_delta(tensors)
    assert bias is None or bias.shape == base[:1]
    if has_low_rank_form(kind, tensors):
        assert low_rank(tensors, base)[0].dim() == len(base)


# --- the scale


@pytest.mark.parametrize(("extra", "scale"), [
    ({}, 1), ({"alpha": 3}, 1.5), ({"alpha": 0}, 0), ({"alpha": 3, "scale": 0.25}, 0.25),
    ({"alpha": 3, "scalar": 2}, 3), ({"scale": 0.25, "scalar": 2}, 0.5),
])  # fmt: skip
def test_the_scale_is_alpha_over_rank_and_1_without_alpha(extra, scale):
    pair = lora_of(r=2)
    found = delta("lora", pair | {name: one(value) for name, value in extra.items()}, random(6, 5))
    assert torch.allclose(found, scale * pair["up"] @ pair["down"])


def test_alpha_may_be_stored_as_a_whole_number_in_one_dimension():
    pair = lora_of(r=2)
    found = delta("lora", pair | {"alpha": torch.tensor([4])}, random(6, 5))
    assert torch.allclose(found, 2 * pair["up"] @ pair["down"])


def test_a_float16_file_is_multiplied_in_float32():
    pair = {name: tensor.half() for name, tensor in lora_of(64, 64, 32).items()}
    exact = pair["up"].double() @ pair["down"].double()
    found = delta("lora", pair, random(64, 64).bfloat16())
    assert relative(found.double(), exact) < 1e-6


def test_nothing_that_a_delta_is_made_from_is_changed():
    tensors = lora_of() | {"dora_scale": random(6, 1)}
    base = random(6, 5)
    before = {name: tensor.clone() for name, tensor in (tensors | {"base": base}).items()}
    delta("lora", tensors, base)
    delta("full", {"diff": base}, base).zero_()
    assert all(tensor.equal(before[name]) for name, tensor in (tensors | {"base": base}).items())


# --- LoRA


def test_a_lora_for_a_linear_layer_fits_a_1x1_convolution_and_back():
    linear, convolution = lora_of(), lora_of(kernel=(1, 1))
    for tensors in (linear, convolution):
        flat = delta("lora", tensors, random(6, 5))
        assert flat.equal(linear["up"] @ linear["down"])
        assert delta("lora", tensors, random(6, 5, 1, 1)).equal(flat[:, :, None, None])


@pytest.mark.parametrize("mid", [None, random(2, 2, 3, 3, seed=5)])
def test_a_convolutions_lora_acts_as_its_small_convolutions_do(mid):
    tensors = lora_of(kernel=(1, 1) if mid is not None else (3, 3)) | {"alpha": one(3)}
    tensors |= {} if mid is None else {"mid": mid}
    x = random(1, 5, 8, 8, seed=3)
    down, up, middle, scale = low_rank(tensors, (6, 5, 3, 3))
    y = F.conv2d(x, down, padding=1) if middle is None else F.conv2d(F.conv2d(x, down), middle, padding=1)
    merged = F.conv2d(x, delta("lora", tensors, random(6, 5, 3, 3)), padding=1)
    assert relative(scale * F.conv2d(y, up), merged) < 1e-6


@pytest.mark.parametrize("kernel", [(), (1, 1)])
def test_the_small_layers_have_as_many_axes_as_the_weight(kernel):
    down, up, mid, scale = low_rank(lora_of(kernel=kernel), (6, 5, 1, 1))
    assert (down.shape, up.shape, mid, scale) == ((2, 5, 1, 1), (6, 2, 1, 1), None, 1.0)
    down, up, mid, scale = low_rank(lora_of(kernel=kernel), (6, 5))
    assert (down.shape, up.shape) == ((2, 5), (6, 2))


def test_a_sparse_bias_is_added_and_scaled():
    sparse = {
        "bias_indices": torch.tensor([[0, 5], [2, 4]], dtype=torch.int16),
        "bias_values": torch.tensor([1.0, -2.0]),
        "bias_size": torch.tensor([6, 5]),
    }
    tensors = lora_of(r=2) | {"alpha": one(1)}
    added = delta("lora", tensors | sparse, random(6, 5)) - delta("lora", tensors, random(6, 5))
    expected = torch.zeros(6, 5)
    expected[0, 2], expected[5, 4] = 0.5, -1.0
    assert torch.allclose(added, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("indices", "size"), [([[0], [5]], [6, 5]), ([[-1], [0]], [6, 5]), ([[0], [0]], [6, 6])]
)
def test_a_sparse_bias_that_points_outside_of_the_weight_is_refused(indices, size):
    sparse = {
        "bias_indices": torch.tensor(indices),
        "bias_values": one(1)[None],
        "bias_size": torch.tensor(size),
    }
    with pytest.raises(ModelError, match="sparse bias does not fit"):
        delta("lora", lora_of() | sparse, random(6, 5))


# --- LoHa, LoKr, GLoRA


def test_a_loha_of_two_equal_halves_is_the_square_of_a_lora():
    pair = lora_of()
    halves = {f"hada_w{i}_{end}": pair[name] for i in "12" for end, name in (("a", "up"), ("b", "down"))}
    assert torch.allclose(delta("loha", halves, random(6, 5)), (pair["up"] @ pair["down"]) ** 2)


def test_a_lokr_is_the_kronecker_product_and_alpha_has_no_meaning_if_both_factors_are_whole():
    first, second = random(2, 3), random(4, 5, seed=1)
    found = delta("lokr", {"lokr_w1": first, "lokr_w2": second, "alpha": one(7)}, random(8, 15))
    assert found.equal(torch.kron(first, second))


def test_a_lokrs_rank_is_that_of_the_factor_in_parts():
    pair, whole = lora_of(4, 5, 2), random(2, 3)
    tensors = {"lokr_w1": whole, "lokr_w2_a": pair["up"], "lokr_w2_b": pair["down"], "alpha": one(4)}
    assert torch.allclose(
        delta("lokr", tensors, random(8, 15)), torch.kron(whole, 2 * pair["up"] @ pair["down"])
    )
    swapped = {"lokr_w2": whole, "lokr_w1_a": pair["up"], "lokr_w1_b": pair["down"], "alpha": one(4)}
    assert torch.allclose(
        delta("lokr", swapped, random(8, 15)), torch.kron(2 * pair["up"] @ pair["down"], whole)
    )


def test_a_lokr_of_a_convolution_is_one_kronecker_product_for_each_place_of_the_kernel():
    first, second = random(2, 3), random(4, 5, 3, 3, seed=1)
    found = delta("lokr", {"lokr_w1": first, "lokr_w2": second}, random(8, 15, 3, 3))
    for y, x in itertools.product(range(3), range(3)):
        assert found[..., y, x].equal(torch.kron(first, second[..., y, x]))


def glora_of(out=6, inner=5, r=2):
    shapes = {"a1": (inner, r), "a2": (r, inner), "b1": (out, r), "b2": (r, inner)}
    return {name: random(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}


@pytest.mark.parametrize("kernel", [(), (1, 1), (3, 3)])
def test_a_glora_multiplies_the_weight_over_its_inputs(kernel):
    tensors, base = (
        glora_of() | {"b1": torch.zeros(6, 2), "b2": torch.zeros(2, 5, *kernel)},
        random(6, 5, *kernel),
    )
    expected = torch.einsum("oi...,ip->op...", base, tensors["a1"] @ tensors["a2"])
    assert relative(delta("glora", tensors, base), expected) < 1e-6


def test_a_glora_in_the_layout_of_lycoris_1_is_the_same_the_other_way_round():
    new, base = glora_of() | {"alpha": one(1)}, random(6, 5)
    old = {"a1": new["a2"], "a2": new["a1"], "b1": new["b2"], "b2": new["b1"], "alpha": one(1)}
    assert delta("glora", old, base).equal(delta("glora", new, base))


def test_a_glora_in_tucker_form_has_the_core_of_a_lora():
    core = random(2, 2, 3, 3, seed=9)
    tensors = glora_of() | {"a1": torch.zeros(5, 2), "bm": core}
    same = {"up": tensors["b1"], "mid": core, "down": tensors["b2"]}
    base = random(6, 5, 3, 3)
    assert torch.allclose(delta("glora", tensors, base), delta("lora", same, base))


# --- kinds without a rank


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3, 3)])
def test_ia3_multiplies_each_output_or_each_input(shape):
    base = random(*shape)
    outputs, inputs = random(6), random(1, 5, 1, 1)
    found = delta("ia3", {"weight": outputs, "on_input": torch.tensor(0)}, base)
    assert found.equal(base * outputs.view(-1, *[1] * (len(shape) - 1)))
    found = delta("ia3", {"weight": inputs, "on_input": torch.tensor(1)}, base)
    assert found.equal(base * inputs.view(1, -1, *[1] * (len(shape) - 2)))


def test_ia3_for_the_other_side_of_a_layer_is_refused():
    with pytest.raises(ModelError, match="6 factors for 5 inputs"):
        delta("ia3", {"weight": random(6), "on_input": torch.tensor(1)}, random(6, 5))


def test_a_whole_difference_is_added_and_so_is_that_of_the_bias():
    tensors = {"diff": random(6, 5).half(), "diff_b": random(6, seed=1).half()}
    assert delta("full", tensors, random(6, 5)).equal(tensors["diff"].float())
    assert bias_delta(tensors).equal(tensors["diff_b"].float())


def test_a_difference_of_the_bias_alone_leaves_the_weight():
    unchanged = delta("full", {"diff_b": random(6)}, random(6, 5).half())
    assert unchanged.equal(torch.zeros(6, 5))
    assert bias_delta(lora_of()) is None


def test_a_norm_has_a_difference_for_its_weight_and_its_bias():
    tensors = {"w_norm": random(6), "b_norm": random(6, seed=1)}
    assert delta("norm", tensors, random(6)).equal(tensors["w_norm"])
    assert bias_delta(tensors).equal(tensors["b_norm"])


# --- rotations


ROTATIONS = [("oft", (3, 4, 4)), ("boft", (2, 2, 6, 6))]


@pytest.mark.parametrize(("kind", "shape"), ROTATIONS)
def test_a_rotation_of_the_outputs_keeps_all_lengths_and_angles_of_inputs(kind, shape):
    base = random(12, 5, 3, 3)
    turned = (base + delta(kind, {"oft_blocks": skew(*shape)}, base)).flatten(1)
    assert relative(turned, base.flatten(1)) > 0.1
    assert relative(turned.T @ turned, base.flatten(1).T @ base.flatten(1)) < 1e-6


@pytest.mark.parametrize(("kind", "shape"), ROTATIONS)
def test_symmetric_blocks_turn_nothing(kind, shape):
    blocks = skew(*shape)
    assert not delta(kind, {"oft_blocks": blocks + blocks.mT}, random(12, 5)).any()


@pytest.mark.parametrize(("kind", "shape"), ROTATIONS)
def test_the_factors_of_a_rotation_apply_to_the_turned_weight(kind, shape):
    base, factors, blocks = random(12, 5), random(12, 1, seed=1), skew(*shape)
    turned = base + delta(kind, {"oft_blocks": blocks}, base)
    both = base + delta(kind, {"oft_blocks": blocks, "rescale": factors}, base)
    assert torch.allclose(both, factors * turned, atol=1e-6)


@pytest.mark.parametrize(("kind", "shape"), ROTATIONS)
def test_alpha_limits_the_norm_of_all_blocks_together(kind, shape):
    base, blocks = random(12, 5), skew(*shape)
    norm = float((blocks - blocks.mT).norm())
    free = delta(kind, {"oft_blocks": blocks}, base)
    for alpha in (0.0, 1.01 * norm / 12):
        assert delta(kind, {"oft_blocks": blocks, "alpha": one(alpha)}, base).equal(free)
    limited = delta(kind, {"oft_blocks": blocks, "alpha": one(0.25 * norm / 12)}, base)
    assert torch.allclose(limited, delta(kind, {"oft_blocks": blocks / 4}, base), atol=1e-6)


def test_a_small_turn_is_exact_although_it_is_a_small_difference():
    base, blocks = random(12, 5), skew(3, 4, 4) * 1e-4
    q = (blocks - blocks.mT).double()
    rotation = torch.block_diag(
        *(torch.linalg.inv(torch.eye(4) - each) @ (torch.eye(4) + each) for each in q)
    )
    exact = (rotation - torch.eye(12)).T @ base.double()
    assert relative(delta("oft", {"oft_blocks": blocks}, base).double(), exact) < 1e-6


def test_oft_of_old_lycoris_holds_the_rotations_themselves():
    base, rotation = random(12, 5), torch.stack([orthogonal(4)] * 3)
    turned = base + delta("oft_diag", {"oft_diag": rotation, "alpha": one(0.001)}, base)
    assert torch.allclose(turned, torch.block_diag(*rotation).T @ base, atol=1e-6)


def test_one_stage_of_boft_pairs_neighbouring_halves_of_a_block():
    base, blocks = random(8, 5), skew(1, 2, 4, 4)
    order = [0, 2, 1, 3, 4, 6, 5, 7]
    q = blocks[0] - blocks[0].mT
    rotation = torch.block_diag(
        *((torch.eye(4) + each) @ torch.linalg.inv(torch.eye(4) - each) for each in q)
    )
    turned = base + delta("boft", {"oft_blocks": blocks}, base)
    assert torch.allclose(turned[order], rotation @ base[order], atol=1e-6)


def series(values, size):
    """R of a triangle of values, by the series that OneTrainer and peft use."""
    q = torch.zeros(size, size)
    q[tuple(torch.triu_indices(size, size, 1))] = values
    q = q - q.T
    return torch.eye(size) + 2 * q + 2 * q @ q + 2 * q @ q @ q + q @ q @ q @ q


def test_oft_on_inputs_turns_blocks_of_inputs():
    base, triangles = random(6, 8), random(2, 6, scale=0.1)
    rotation = torch.block_diag(*(series(values, 4) for values in triangles))
    turned = base + delta("oft_inputs", {"oft_R": triangles}, base)
    assert torch.allclose(turned, base @ rotation.T, atol=1e-6)


def test_oft_on_the_inputs_of_a_convolution_turns_the_other_way_over_its_kernel_too():
    base, triangles = random(6, 4, 3, 3), random(9, 6, scale=0.1)
    rotation = torch.block_diag(*(series(values, 4) for values in triangles))
    turned = base + delta("oft_inputs", {"oft_R": triangles}, base)
    assert torch.allclose(turned.flatten(1), base.flatten(1) @ rotation, atol=1e-6)


def test_oft_on_inputs_may_share_one_rotation_and_scale_its_values():
    base, triangle = random(6, 8), random(1, 6, scale=0.1)
    shared = delta("oft_inputs", {"oft_R": triangle}, base)
    assert torch.allclose(shared, delta("oft_inputs", {"oft_R": triangle.repeat(2, 1)}, base), atol=1e-6)
    flagged = {"oft_R": triangle * 2 * 3**0.5, "scaled_oft": torch.tensor(True)}
    assert torch.allclose(delta("oft_inputs", flagged, base), shared, atol=1e-6)


# --- DoRA


@pytest.mark.parametrize("kernel", [(), (3, 3)])
def test_dora_gives_each_output_or_each_input_the_length_that_the_file_says(kernel):
    base, ones = random(6, 5, *kernel), [1] * len(kernel)
    outputs, inputs = random(6, 1, *ones).abs(), random(1, 5, *ones).abs()
    made = base + delta("lora", lora_of(kernel=kernel) | {"dora_scale": outputs}, base)
    assert torch.allclose(made.flatten(1).norm(dim=1), outputs.flatten())
    made = base + delta("lora", lora_of(kernel=kernel) | {"dora_scale": inputs}, base)
    assert torch.allclose(made.transpose(0, 1).flatten(1).norm(dim=1), inputs.flatten())


def test_pefts_magnitudes_are_one_per_output_even_where_they_look_like_one_per_input():
    base, lengths = random(6, 6, 3, 3), random(1, 6, 1, 1).abs()
    made = base + delta("lora", lora_of(inner=6, kernel=(3, 3)) | {"magnitude": lengths}, base)
    assert torch.allclose(made.flatten(1).norm(dim=1), lengths.flatten())


def test_dora_keeps_the_direction_of_the_changed_weight():
    base, pair = random(6, 5), lora_of() | {"alpha": one(3)}
    plain = base + delta("lora", pair, base)
    made = base + delta("lora", pair | {"dora_scale": random(6, 1).abs()}, base)
    assert torch.allclose(F.normalize(made, dim=1), F.normalize(plain, dim=1), atol=1e-6)


def test_dora_with_the_lengths_of_the_changed_weight_is_the_plain_kind():
    base = random(8, 15)
    tensors = {"lokr_w1": random(2, 3), "lokr_w2": random(4, 5)}
    plain = delta("lokr", tensors, base)
    lengths = (base + plain).norm(dim=1, keepdim=True)
    assert relative(delta("lokr", tensors | {"dora_scale": lengths}, base), plain) < 1e-6


def test_dora_leaves_a_row_of_zeros_as_it_is():
    base = torch.zeros(6, 5)
    tensors = lora_of() | {"up": torch.zeros(6, 2), "dora_scale": torch.ones(6, 1)}
    assert not delta("lora", tensors, base).any()
