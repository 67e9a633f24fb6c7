"""Guidances that ask the network something of their own: without words, or without its middle attention."""

import pytest
import torch

from sdcli.diffusion.preconditioning import TO_DENOISED
from sdcli.engine import generate
from sdcli.models.load import load
from sdcli.pipeline.text import encode_prompts
from sdcli.pipeline.unet import predictor
from sdcli.request.request import Request
from tests import judges

pytestmark = pytest.mark.usefixtures("shared_models")


@pytest.fixture
def request_(toy):
    return Request("a cat", negative="a dog", model=str(toy), steps=2, seed=1, cfg=5.0, sampler="euler")


def conds(model, request):
    """(prompt, negative) of a request without composed prompts."""
    return [prompt.parts[0].cond for prompt in encode_prompts(model, model.with_defaults(request))]


def test_the_empty_side_of_a_negative_prompt_is_that_of_no_words(toy, request_):
    model = load(str(toy), "cpu", "float32")
    _, negative = conds(model, request_)
    _, nothing = conds(model, request_.replace(negative=""))
    assert torch.equal(negative.empty.context, nothing.context)
    assert nothing.empty.context is nothing.context
    assert not torch.equal(negative.context, nothing.context)


def test_the_empty_prompt_beside_a_long_negative_prompt_has_as_many_tokens(toy, request_):
    model = load(str(toy), "cpu", "float32")
    positive, negative = conds(model, request_.replace(negative="a dog " * 60))
    assert positive.context.shape == negative.context.shape == negative.empty.context.shape
    assert negative.context.shape[1] > 77


def test_the_perturbed_network_answers_otherwise_and_is_whole_again_afterwards(toy, request_):
    model = load(str(toy), "cpu", "float32")
    positive, _ = conds(model, request_)
    predict, x = predictor(model), torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    before = predict(x, 1.0, [positive])[0]
    shapeless = predict(x, 1.0, [positive.perturbed])[0]
    assert not torch.equal(shapeless, before)
    assert torch.equal(predict(x, 1.0, [positive])[0], before)


def test_perturbed_attention_is_that_of_diffusers(toy, request_):
    """Whose processor perturbs the second half of the rows."""
    from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0

    model = load(str(toy), "cpu", "float32")
    positive, _ = conds(model, request_)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    ours = predictor(model)(x, 1.0, [positive.perturbed])[0]
    judge = judges.unet(model)
    for block in judge.mid_block.modules():
        if hasattr(block, "attn1"):
            block.attn1.processor = PAGIdentitySelfAttnProcessor2_0()
    with torch.no_grad():
        scaled, context = (x / 2**0.5).repeat(2, 1, 1, 1), positive.context.repeat(2, 1, 1)
        theirs = judge(scaled, torch.tensor(model.levels.t(1.0)), context).sample[1:]
    assert torch.allclose(ours, TO_DENOISED[model.prediction](x, theirs, 1.0), atol=1e-5)


@pytest.mark.parametrize(
    "guidance", ["cfg", "cfg_rescale", "cfg_interval", "apg", "perp_neg", "pag", "sag", "classifier"]
)
def test_each_guidance_draws_and_the_same_twice(request_, guidance):
    runs = [generate(request_.replace(guidance=guidance)).latents for _ in range(2)]
    assert torch.equal(*runs)
    assert torch.isfinite(runs[0]).all()
    assert guidance == "cfg" or not torch.equal(runs[0], generate(request_).latents)


def test_the_recorded_attention_is_that_of_diffusers(toy, request_):
    from diffusers.pipelines.deprecated.stable_diffusion_sag.pipeline_stable_diffusion_sag import (
        CrossAttnStoreProcessor,
    )

    model = load(str(toy), "cpu", "float32")
    positive, negative = conds(model, request_)
    x = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    asked = [negative, negative.attention, positive]
    plain, attention, other = predictor(model)(x, 1.0, asked)
    assert [plain.shape, attention.shape] == [x.shape, x.shape]
    assert all(map(torch.equal, (plain, other), predictor(model)(x, 1.0, [negative, positive])))
    judge, store = judges.unet(model), CrossAttnStoreProcessor()
    judge.mid_block.attentions[0].transformer_blocks[0].attn1.processor = store
    with torch.no_grad():
        judge(x / 2**0.5, torch.tensor(model.levels.t(1.0)), negative.context)
    received = store.attention_probs.mean(0).sum(0).reshape(1, 1, 4, 6)
    expected = torch.nn.functional.interpolate(received, (8, 12)).expand_as(x)
    assert torch.allclose(attention, expected, atol=1e-4)


def test_the_attention_of_windows_is_put_together(toy, request_):
    model = load(str(toy), "cpu", "float32")
    positive, _ = conds(model, request_)
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    (attention,) = predictor(model, side=8)(x, 1.0, [positive.attention])
    assert attention.min() > 0
