"""Packed layers: the same bytes from a copy of the weight that lies as the CPU multiplies it."""

import pytest
import torch
from torch import nn

from sdcli.engine import generate
from sdcli.models import memory
from sdcli.models.architectures.packed import Conv2d, Linear, pack
from sdcli.models.cache import ModelCache
from sdcli.models.load import load
from sdcli.models.offload import WORKING_MEMORY
from sdcli.request.request import Request
from tests.checkpoints.test_checkpoint import published
from tests.full_size import write

pytestmark = pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="no oneDNN here")


def both(layer: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The layer's answers without a packed weight, and with one."""
    layer.requires_grad_(False)
    with torch.inference_mode():
        plain = layer(x)
        pack(layer)
        return plain, layer(x)


@pytest.mark.parametrize(("shape", "outputs"), [
    ((2, 4096, 320), 320), ((512, 320), 2560), ((2, 256, 1280), 1280), ((2, 77, 768), 640), ((2, 320), 1280),
    ((1, 1, 300), 301), ((3, 5, 700), 111), ((2, 1024, 2560), 640),
])  # fmt: skip
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_linear_layer_gives_the_same_bytes(shape, outputs, bias):
    torch.manual_seed(0)
    layer = Linear(shape[-1], outputs, bias=bias).bfloat16()
    plain, packed = both(layer, torch.randn(shape).bfloat16())
    assert layer._packed is not None
    assert torch.equal(plain, packed)


@pytest.mark.parametrize(("shape", "outputs", "options"), [
    ((2, 320, 64, 64), 320, {"padding": 1}), ((2, 640, 8, 8), 1280, {"padding": 1}),
    ((2, 640, 32, 32), 640, {"padding": 1, "stride": 2}),
    ((2, 960, 16, 16), 640, {}), ((1, 300, 9, 7), 50, {"padding": (0, 1)}),
])  # fmt: skip
def test_a_packed_convolution_gives_the_same_bytes_in_the_same_layout(shape, outputs, options):
    torch.manual_seed(0)
    kernel = 3 if "padding" in options else 1
    layer = Conv2d(shape[1], outputs, kernel, **options).bfloat16().to(memory_format=torch.channels_last)
    x = torch.randn(shape).bfloat16().contiguous(memory_format=torch.channels_last)
    plain, packed = both(layer, x)
    assert layer._packed is not None
    assert torch.equal(plain, packed) and plain.stride() == packed.stride()


def test_inputs_that_lie_otherwise_or_of_other_sizes_than_the_first_give_the_same_bytes():
    torch.manual_seed(0)
    rows = [
        torch.randn(2, 100, 640),
        torch.randn(640, 5).T,
        torch.randn(2, 9, 1280)[..., ::2],
        torch.randn(0, 640),
    ]
    images = [
        torch.randn(1, 80, 9, 9),
        torch.randn(2, 9, 12, 80).permute(0, 3, 1, 2),
        torch.randn(3, 80, 40, 8),
    ]
    for layer, inputs in ((Linear(640, 320), rows), (Conv2d(80, 160, 3, padding=1), images)):
        layer.bfloat16().requires_grad_(False).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            plain = [layer(x.bfloat16()) for x in inputs]
            pack(layer)
            assert all(torch.equal(layer(x.bfloat16()), y) for x, y in zip(inputs, plain, strict=True))


def test_small_layers_and_kernels_with_their_channels_first_are_not_packed():
    for layer, x in ((Linear(16, 16), torch.randn(8, 16)), (Conv2d(80, 160, 3), torch.randn(1, 80, 9, 9))):
        plain, same = both(layer.bfloat16(), x.bfloat16())
        assert layer._packed is None and torch.equal(plain, same)


def test_a_weight_that_was_changed_or_replaced_is_packed_anew():
    torch.manual_seed(0)
    layer, x = Linear(320, 256).bfloat16().requires_grad_(False), torch.randn(4, 320).bfloat16()
    pack(layer)
    with torch.inference_mode():
        first = layer(x)
        layer.weight.copy_(2 * layer.weight)  # as a LoRA is merged
        assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
        assert not torch.equal(layer(x), first)
    for inside in (False, True):
        with torch.inference_mode(inside):
            weights = {name: torch.randn_like(w) for name, w in layer.state_dict().items()}
            layer.load_state_dict(weights, assign=True)
        with torch.inference_mode():
            assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))


def test_training_and_other_dtypes_take_no_packed_weight():
    layer, x = Linear(320, 256).bfloat16(), torch.randn(4, 320).bfloat16()
    pack(layer)
    layer(x).sum().backward()
    assert layer.weight.grad is not None and layer._packed is None
    wide = Linear(320, 256)
    pack(wide)
    with torch.inference_mode():
        wide(x.float())
    assert wide._packed is None


def test_a_convolution_called_with_another_weight_uses_that():
    layer, x = Conv2d(96, 96, 3).bfloat16().requires_grad_(False), torch.randn(1, 96, 5, 5).bfloat16()
    pack(layer)
    with torch.inference_mode():
        layer(x)
        other = torch.zeros_like(layer.weight)
        assert not layer._conv_forward(x, other, None).any()


@pytest.mark.parametrize(("more", "free", "is_packed"), [
    ({"dtype": "bfloat16"}, 2**40, True), ({"dtype": "float32"}, 2**40, False),
    ({"dtype": "bfloat16", "stream": True}, 2**40, False), ({"dtype": "bfloat16"}, WORKING_MEMORY, False),
])  # fmt: skip
def test_a_model_is_packed_where_it_is_in_bfloat16_and_memory_is_free(more, free, is_packed, monkeypatch):
    monkeypatch.setattr("sdcli.models.architectures.packed.LARGE", 1)
    monkeypatch.setattr(memory, "free", lambda device: free)
    unet = load("test:sd1", "cpu", **more).unet
    assert {layer.packs for layer in unet.modules() if isinstance(layer, Linear | Conv2d)} == {is_packed}


@pytest.mark.slow
def test_a_full_size_model_draws_the_same_bytes_packed_and_streamed(tmp_path):
    path = write(tmp_path / "x.safetensors", published("sd15"))
    models = ModelCache()
    request = Request("a cat", model=str(path), dtype="bfloat16", seed=1, steps=2, width=256, height=256)
    packed = generate(request, models).picture.image
    with models.use(request.loading) as model:
        assert sum(getattr(layer, "_packed", None) is not None for layer in model.unet.modules()) > 200
    models.unload()
    assert generate(request.replace(stream=True)).picture.image == packed
