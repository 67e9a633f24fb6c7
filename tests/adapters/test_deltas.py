"""What LoRA-like files add to a weight: closed forms, and what LyCORIS itself makes of the same tensors."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sdcli.adapters import deltas
from sdcli.adapters.deltas.oft import cayley
from sdcli.checkpoints import lora_kinds

GOLDEN = load_file(Path(__file__).parent.parent / "golden/adapters/lycoris.safetensors")
CASES = sorted(key.removesuffix(".delta") for key in GOLDEN if key.endswith(".delta"))


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("case", CASES)
def test_the_change_is_what_lycoris_makes_of_the_same_tensors(case):
    layer = case.rpartition(".")[2]
    prefix = f"{case}.tensor."
    tensors = {}
    for key, tensor in GOLDEN.items():
        if key.startswith(prefix):
            _, suffix = lora_kinds.split_key(f"module.{key.removeprefix(prefix)}")
            tensors[suffix] = tensor
    kind = kind_of(tensors)
    found = deltas.delta(
        kind, {name: tensor.float() for name, tensor in tensors.items()}, GOLDEN[f"base.{layer}"]
    )
    assert (
        relative(found, GOLDEN[f"{case}.delta"]) < 5e-6
    )  # the golden change is a difference of two weights in float32


def kind_of(tensors: dict[str, Tensor]) -> str:
    (kind,) = lora_kinds._kinds(tensors)
    return "boft" if kind == "oft" and tensors["oft_blocks"].dim() == 4 else kind


# --- closed forms


def test_a_lora_without_alpha_is_up_times_down():
    up, down = normal(1, 6, 2), normal(2, 2, 5)
    assert torch.allclose(deltas.delta("lora", {"up": up, "down": down}, torch.zeros(6, 5)), up @ down)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_alpha_over_rank_scales_and_an_alpha_of_0_is_0(alpha):
    tensors = {"up": normal(1, 6, 2), "down": normal(2, 2, 5), "alpha": torch.tensor([alpha])}
    wanted = alpha / 2 * tensors["up"] @ tensors["down"]
    assert torch.allclose(deltas.delta("lora", tensors, torch.zeros(6, 5)), wanted)


def test_a_scale_stands_in_for_alpha_over_rank():
    tensors = {
        "up": normal(1, 6, 2),
        "down": normal(2, 2, 5),
        "alpha": torch.tensor(8.0),
        "scale": torch.tensor(0.25),
    }
    wanted = 0.25 * tensors["up"] @ tensors["down"]
    assert torch.allclose(deltas.delta("lora", tensors, torch.zeros(6, 5)), wanted)


@pytest.mark.parametrize(("trained", "applied"), [((6, 5), (6, 5, 1, 1)), ((6, 5, 1, 1), (6, 5))])
def test_a_lora_of_a_linear_layer_fits_a_1x1_convolution_and_back(trained, applied):
    tail = [1] * (len(trained) - 2)
    tensors = {"up": normal(1, 6, 2, *tail), "down": normal(2, 2, 5, *tail)}
    found = deltas.delta("lora", tensors, torch.zeros(applied))
    assert found.shape == applied
    assert torch.allclose(found.flatten(1), tensors["up"].flatten(1) @ tensors["down"].flatten(1))


def test_a_loha_is_the_element_wise_product_of_two_products_times_alpha_over_rank_once():
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    tensors = {name: normal(i, *((6, 2) if name.endswith("a") else (2, 5))) for i, name in enumerate(names)}
    wanted = (tensors["hada_w1_a"] @ tensors["hada_w1_b"]) * (tensors["hada_w2_a"] @ tensors["hada_w2_b"])
    found = deltas.delta("loha", {**tensors, "alpha": torch.tensor(1.0)}, torch.zeros(6, 5))
    assert torch.allclose(found, wanted / 2)


def test_a_core_of_ones_at_the_diagonal_makes_a_tucker_loha_a_plain_one():
    a, b = normal(1, 2, 6), normal(2, 2, 5)
    core = torch.eye(2)[:, :, None, None]
    tucker = {f"hada_{name}": tensor for name, tensor in
              (("w1_a", a), ("w1_b", b), ("w2_a", a), ("w2_b", b), ("t1", core), ("t2", core))}  # fmt: skip
    found = deltas.delta("loha", tucker, torch.zeros(6, 5, 1, 1))
    assert torch.allclose(found[..., 0, 0], (a.T @ b) ** 2, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 20), (6, 5, 2, 2)])
def test_a_lokr_is_the_kronecker_product_over_outputs_and_inputs(shape):
    w1, w2 = normal(1, 2, 5), normal(2, 3, *((4,) if len(shape) == 2 else (1, 2, 2)))
    found = deltas.delta(
        "lokr", {"lokr_w1": w1, "lokr_w2": w2, "alpha": torch.tensor(7.0)}, torch.zeros(shape)
    )
    for o in range(6):
        for i in range(shape[1]):
            inner = w2.shape[1]
            assert torch.allclose(found[o, i], w1[o // 3, i // inner] * w2[o % 3, i % inner])


@pytest.mark.parametrize("on_input", [0, 1])
def test_ia3_multiplies_the_weight_by_a_factor_for_each_output_or_input(on_input):
    base, factors = normal(1, 4, 3), normal(2, (4, 3)[on_input])
    found = deltas.delta("ia3", {"weight": factors, "on_input": torch.tensor([on_input])}, base)
    assert torch.allclose(found, base * (factors if on_input else factors[:, None]))


def test_cayleys_map_gives_rotations():
    q = normal(1, 3, 4, 4)
    rotation = cayley(q - q.transpose(1, 2))
    assert torch.allclose(rotation @ rotation.transpose(1, 2), torch.eye(4).expand(3, 4, 4), atol=1e-5)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize(("kind", "blocks"), [("oft", (4, 4, 4)), ("boft", (2, 4, 4, 4))])
def test_a_rotation_of_outputs_keeps_the_length_of_every_column(kind, blocks):
    base = normal(1, 16, 5)
    turned = base + deltas.delta(kind, {"oft_blocks": normal(2, *blocks)}, base)
    assert torch.allclose(turned.norm(dim=0), base.norm(dim=0), atol=1e-4)
    assert not torch.allclose(turned, base, atol=0.1)


def test_blocks_of_zeros_turn_nothing():
    base = normal(1, 16, 5)
    for kind, blocks in (("oft", (4, 4, 4)), ("boft", (2, 4, 4, 4))):
        assert torch.allclose(
            deltas.delta(kind, {"oft_blocks": torch.zeros(blocks)}, base), base * 0, atol=1e-6
        )
    assert torch.equal(deltas.delta("oft_input", {"oft_R": torch.zeros(1, 10)}, base), base * 0)


def test_a_constraint_bounds_the_angle():
    base = normal(1, 12, 5)
    tensors = {"oft_blocks": normal(2, 3, 4, 4), "alpha": torch.tensor(1e-4)}
    change = deltas.delta("oft", tensors, base)
    assert change.norm() < 2 * 1e-4 * 12 * base.norm()  # |R - I| is at most 2 |Q| in norm


def test_onetrainers_rotation_of_inputs_is_cayleys_for_small_angles():
    base, triangles = normal(1, 5, 8), normal(2, 2, 6) * 0.01
    q = torch.zeros(2, 4, 4)
    rows, columns = torch.triu_indices(4, 4, 1)
    q[:, rows, columns] = triangles
    rotation = cayley(q - q.transpose(1, 2))
    wanted = torch.einsum("nij,onj->oni", rotation, base.reshape(5, 2, 4)).reshape(5, 8)
    found = base + deltas.delta("oft_input", {"oft_R": triangles}, base)
    assert torch.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(("shape", "axis"), [((6, 1), 0), ((1, 5), 1)])
def test_after_a_dora_each_output_or_input_has_the_length_that_it_says(shape, axis):
    base = normal(1, 6, 5)
    lengths = normal(2, *shape).abs() + 0.5
    tensors = {"up": normal(3, 6, 2), "down": normal(4, 2, 5), "dora_scale": lengths}
    changed = base + deltas.delta("lora", tensors, base)
    assert torch.allclose(changed.norm(dim=1 - axis), lengths.flatten(), atol=1e-5)


def test_pefts_magnitude_is_of_outputs_though_a_convolution_stores_it_along_the_second_axis():
    base = normal(1, 5, 5, 3, 3)
    lengths = normal(2, 1, 5, 1, 1).abs() + 0.5
    tensors = {"up": normal(3, 5, 2, 1, 1), "down": normal(4, 2, 5, 3, 3), "magnitude": lengths}
    changed = base + deltas.delta("lora", tensors, base)
    assert torch.allclose(changed.flatten(1).norm(dim=1), lengths.flatten(), atol=1e-5)


def test_the_first_ranks_of_a_lora_keep_the_scale_of_all():
    tensors = {"up": normal(1, 6, 4), "down": normal(2, 4, 5), "alpha": torch.tensor(2.0)}
    found = deltas.delta("lora", deltas.first_ranks(tensors, 2), torch.zeros(6, 5))
    assert torch.allclose(found, 0.5 * tensors["up"][:, :2] @ tensors["down"][:2])


def test_the_narrow_factors_of_a_plain_lora_have_its_change_as_their_product():
    tensors = {"up": normal(1, 6, 4), "down": normal(2, 4, 5), "alpha": torch.tensor(2.0)}
    down, up = deltas.low_rank("lora", tensors)
    assert torch.allclose(up @ down, deltas.delta("lora", tensors, torch.zeros(6, 5)))
    assert deltas.low_rank("lora", {**tensors, "dora_scale": torch.ones(6)}) is None
