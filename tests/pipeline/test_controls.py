"""Controls add to the U-Net's skip connections and its middle, and see the window that the U-Net sees."""

import pytest
import torch

from sdcli.diffusion.conditioning import Cond
from sdcli.diffusion.unet_call import UNetCall
from sdcli.models.architectures.unet import Residuals
from sdcli.models.load import load
from sdcli.pipeline.unet import predictor
from sdcli.pipeline.unet_inputs import UNetInputs

SIGMA = 2.0


@pytest.fixture(scope="module")
def model():
    return load("test:sd1", "cpu", "float32")


@pytest.fixture(scope="module")
def residual_shapes(model):
    """(shapes of the skip connections, shape of the middle) for latents of 8x8, one row."""
    shapes = []
    hooks = [
        model.unet.conv_in.register_forward_hook(lambda module, args, out: shapes.append(out.shape)),
        model.unet.mid_block.register_forward_hook(lambda module, args, out: shapes.append(out.shape)),
    ]
    for block in model.unet.down_blocks:
        for layer in (*block.resnets, *getattr(block, "downsamplers", ())):
            hooks.append(layer.register_forward_hook(lambda module, args, out: shapes.append(out.shape)))
    try:
        predictor(model)(latents(1), SIGMA, [cond(model)])
    finally:
        for hook in hooks:
            hook.remove()
    middle = shapes.pop()  # the middle comes last
    return shapes, middle


def latents(seed: int, *size: int) -> torch.Tensor:
    return torch.randn(1, 4, *(size or (8, 8)), generator=torch.Generator().manual_seed(seed))


def cond(model) -> Cond:
    width = model.configs["unet"]["cross_attention_dim"]
    return Cond(torch.randn(1, 77, width, generator=torch.Generator().manual_seed(9)))


def constant(value: float, shapes, rows: int = 1):
    """A control that adds the same number everywhere."""
    down, middle = shapes

    def control(call: UNetCall) -> Residuals:
        full = [torch.full((rows, *shape[1:]), value) for shape in (*down, middle)]
        return Residuals(full[:-1], full[-1])

    return control


def test_a_control_that_adds_zeros_changes_no_bit(model, residual_shapes):
    plain = predictor(model)(latents(1), SIGMA, [cond(model)])[0]
    zeros = UNetInputs(controls=(constant(0.0, residual_shapes),))
    assert torch.equal(predictor(model, zeros)(latents(1), SIGMA, [cond(model)])[0], plain)


def test_a_control_is_added_as_diffusers_adds_its_residuals(model, residual_shapes):
    from tests import judges

    inputs = UNetInputs(controls=(constant(0.3, residual_shapes),))
    ours = predictor(model, inputs)(latents(1), SIGMA, [cond(model)])[0]
    down, middle = residual_shapes
    x = latents(1)
    with torch.no_grad():
        epsilon = judges.unet(model)(
            x / (1 + SIGMA**2) ** 0.5,
            torch.tensor(model.levels.t(SIGMA)),
            cond(model).context,
            down_block_additional_residuals=tuple(torch.full(shape, 0.3) for shape in down),
            mid_block_additional_residual=torch.full(middle, 0.3),
        ).sample
    assert torch.allclose(ours, x - SIGMA * epsilon, atol=1e-5)
    assert not torch.allclose(ours, predictor(model)(x, SIGMA, [cond(model)])[0], atol=1e-2)


def test_two_controls_add_up(model, residual_shapes):
    one, two, three = (constant(value, residual_shapes) for value in (0.25, 0.5, 0.75))
    both = predictor(model, UNetInputs(controls=(one, two)))(latents(1), SIGMA, [cond(model)])[0]
    summed = predictor(model, UNetInputs(controls=(three,)))(latents(1), SIGMA, [cond(model)])[0]
    assert torch.equal(both, summed)


def test_a_control_sees_the_window_that_the_unet_sees(model, residual_shapes):
    calls: list[UNetCall] = []

    def control(call: UNetCall) -> Residuals:
        calls.append(call)
        return constant(0.0, residual_shapes)(call)

    x = latents(2, 8, 14)
    predictor(model, UNetInputs(controls=(control,)), side=8)(x, SIGMA, [cond(model)])
    assert len(calls) == 2
    for call in calls:
        assert torch.equal(call.x, (x / (1 + SIGMA**2) ** 0.5)[..., *call.window])
        assert call.t == model.levels.t(call.sigma)
