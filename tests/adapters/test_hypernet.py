"""Hypernetworks: keys and values from a changed context, as A1111 computes them, and nothing left behind."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sdcli.adapters.hypernet import hypernet, networks
from sdcli.checkpoints.hypernet_file import ACTIVATIONS, read_header
from sdcli.models.architectures.attention import Attention
from tests import adapter_files, full_size

GOLDEN = load_file(Path(__file__).parent.parent / "golden" / "adapters" / "hypernet.safetensors")
DEEP = {
    "structure": (1, 2, 2, 1),
    "activation": "swish",
    "dropout": (0, 0.3, 0.3, 0),
}
FILES = {
    "h-relu": {},
    "h-linear": {"structure": (1, 1), "activation": "linear"},
    "h-swish-deep": DEEP,
    "h-softsign-out": {"structure": (1, 1.5, 1.5, 1), "activation": "softsign", "activate_output": True},
}


class Layer(nn.Module):
    """The self-attention and the cross-attention of one transformer block of the published width."""

    def __init__(self):
        super().__init__()
        self.attn1, self.attn2 = Attention(320, 8), Attention(320, 8, 768)
        for name, weight in self.state_dict().items():
            key = f"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.{name}"
            weight.copy_(torch.from_numpy(full_size.values(key, list(weight.shape)).astype("float32")))

    def forward(self):
        return {
            "attn1": self.attn1(GOLDEN["x"])[..., ::4],
            "attn2": self.attn2(GOLDEN["x"], GOLDEN["context"])[..., ::4],
        }


@pytest.fixture(scope="module")
@torch.no_grad()
def layer():
    return Layer().requires_grad_(False)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """name -> hypernetwork for the widths 320 and 768."""
    folder = tmp_path_factory.mktemp("hypernets")
    return {
        name: read_header(adapter_files.hypernet(folder / f"{name}.safetensors", (320, 768), **options))
        for name, options in FILES.items()
    }


def apart(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


# --- closed form


class Projections(nn.Module):
    """Keys and values of a context of width 2, as they are."""

    def __init__(self):
        super().__init__()
        self.to_k, self.to_v, self.to_q = (nn.Linear(2, 2, bias=False) for _ in range(3))
        for each in (self.to_k, self.to_v, self.to_q):
            nn.init.eye_(each.weight)
        self.requires_grad_(False)


def doubling(path, keys, values):
    """A hypernetwork of one linear layer that multiplies keys' contexts and values' contexts."""
    eye = torch.eye(2).numpy()
    tensors = {
        f"2.{half}.linear.0.{key}": value
        for half, factor in ((0, keys), (1, values))
        for key, value in (("weight", eye * factor), ("bias", eye[0] * 0))
    }
    metadata = {"layer_structure": "[1, 1]", "activation_func": '"linear"'}
    return read_header(adapter_files.write(path, tensors, metadata))


def test_keys_and_values_come_from_the_context_plus_strength_times_its_image(tmp_path):
    module, c = Projections(), torch.tensor([[[1.0, -2.0]]])
    file = doubling(tmp_path / "a.safetensors", 3.0, 10.0)
    with hypernet(file, 0.5)("unet", module):
        assert torch.equal(module.to_k(c), c * (1 + 0.5 * 3))
        assert torch.equal(module.to_v(c), c * (1 + 0.5 * 10))
        assert torch.equal(module.to_q(c), c)
    assert torch.equal(module.to_k(c), c)


def test_several_act_one_after_the_other_on_their_own_streams(tmp_path):
    module, c = Projections(), torch.tensor([[[1.0, -2.0]]])
    first = hypernet(doubling(tmp_path / "a.safetensors", 1.0, 3.0))
    second = hypernet(doubling(tmp_path / "b.safetensors", 2.0, 0.0), 0.5)
    with first("unet", module), second("unet", module):
        assert torch.equal(module.to_k(c), c * (1 + 1) * (1 + 0.5 * 2))
        assert torch.equal(module.to_v(c), c * (1 + 3))


def test_only_contexts_of_its_widths_in_the_unet_are_changed(tmp_path, files):
    module, c = Projections(), torch.ones(1, 1, 2)
    with (
        hypernet(files["h-relu"])("unet", module),
        hypernet(doubling(tmp_path / "a.safetensors", 1, 1))("vae", module),
    ):
        assert torch.equal(module.to_k(c), c)


# --- A1111's formulas, and its numbers


def a1111_network(file, tensors, width, half):
    """A1111's sequence of modules, built by its rules, with the weights of a file."""
    sequence = []
    activation = {"swish": nn.Hardswish, "relu": nn.ReLU, "softsign": nn.Softsign}.get(file.activation)
    for i in range(len(file.structure) - 1):
        sequence.append(nn.Linear(int(width * file.structure[i]), int(width * file.structure[i + 1])))
        if activation and (i < len(file.structure) - 2 or file.activates_output):
            sequence.append(activation())
        if file.has_norms:
            sequence.append(nn.LayerNorm(int(width * file.structure[i + 1])))
        if file.dropout[i + 1] > 0:
            sequence.append(nn.Dropout(file.dropout[i + 1]))
    module = nn.Sequential(*sequence).eval()
    prefix = f"{width}.{half}.linear."
    module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    return module


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("activate_output", [False, True])
@pytest.mark.parametrize("activation", ["linear", "relu", "swish", "softsign"])
@pytest.mark.parametrize(
    ("structure", "dropout"), [((1, 1), ()), ((1, 2, 1), (0, 0.1, 0)), ((1, 1.5, 0.5, 1), (0, 0.3, 0.3, 0))]
)
def test_a_network_has_a1111s_layers_in_its_order(
    tmp_path, structure, dropout, activation, activate_output, layer_norm
):
    path = adapter_files.hypernet(
        tmp_path / "a.safetensors", (16,), structure, activation, layer_norm, activate_output, dropout
    )
    file, x = read_header(path), torch.linspace(-2, 2, 48).reshape(1, 3, 16)
    for half in (0, 1):
        expected = a1111_network(file, load_file(path), 16, half)
        assert torch.equal(networks(file)[16, half](x), expected(x))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_that_is_known_gives_finite_values_twice_the_same(tmp_path, activation):
    path = adapter_files.hypernet(tmp_path / "a.safetensors", (4,), activation=activation)
    network, x = networks(read_header(path))[4, 0], torch.linspace(-3, 3, 8).reshape(1, 2, 4)
    assert torch.isfinite(network(x)).all()
    assert torch.equal(network(x), network(x))


@pytest.mark.parametrize("attention", ["attn1", "attn2"])
@pytest.mark.parametrize(
    "case",
    [
        "plain",
        "h-relu@1",
        "h-relu@0.5",
        "h-linear@1",
        "h-swish-deep@1",
        "h-softsign-out@0.8",
        "h-relu@1+h-swish-deep@1",
    ],
)
def test_a_layer_of_published_width_gives_a1111s_numbers(layer, files, case, attention):
    from contextlib import ExitStack

    with ExitStack() as stack:
        for part in case.split("+") if case != "plain" else ():
            name, _, strength = part.partition("@")
            stack.enter_context(hypernet(files[name], float(strength))("unet", layer))
        out = layer()[attention]
    key = f"{attention}.plain" if case == "plain" else f"{case}.{attention}"
    assert apart(out, GOLDEN[key]) < 2e-5


# --- nothing is left behind


def test_strength_0_gives_the_same_bits(layer, files):
    plain = layer()
    with hypernet(files["h-relu"], 0)("unet", layer):
        assert all(torch.equal(layer()[key], plain[key]) for key in plain)


def test_the_bits_are_restored_after_use_and_after_an_error(layer, files):
    plain, hooks = layer(), [len(each._forward_pre_hooks) for each in layer.modules()]
    with hypernet(files["h-relu"])("unet", layer):
        assert not torch.equal(layer()["attn2"], plain["attn2"])
    with pytest.raises(RuntimeError, match="a bug"), hypernet(files["h-relu"])("unet", layer):
        raise RuntimeError("a bug")
    assert all(torch.equal(layer()[key], plain[key]) for key in plain)
    assert [len(each._forward_pre_hooks) for each in layer.modules()] == hooks
