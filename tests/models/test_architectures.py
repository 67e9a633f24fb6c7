"""Every network gives the bits of diffusers' or transformers' own class: outputs, gradients, names, random weights."""

import functools
from importlib.metadata import version

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sdcli.models import build
from sdcli.models.architectures.attention import Attention, TransformerBlock, attend
from sdcli.models.architectures.unet import Residuals
from sdcli.pipeline.perturb import perturbed
from tests import judges
from tests.models.cases import (
    CASES,
    TINY,
    cases_of,
    channels_last,
    random,
    token_ids,
    unet_inputs,
)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SIZES = ((1, 8, 8), (2, 16, 12), (3, 9, 13))  # rows, height and width in latents
POOLING_QUERY = "add_embedding.pool.positional_embedding"
ON_EVERY_CASE = pytest.mark.parametrize("name", CASES)
ON_EVERY_UNET = pytest.mark.parametrize("name", cases_of("unet"))
ON_EVERY_VAE = pytest.mark.parametrize("name", cases_of("vae"))
ON_EVERY_TEXT_ENCODER = pytest.mark.parametrize("name", cases_of("text_encoder"))
IN_EVERY_DTYPE = pytest.mark.parametrize("dtype", DTYPES)


@functools.cache
def pair(name: str, dtype: str = "float32") -> tuple[nn.Module, nn.Module]:
    """(our network, the library's) with the same weights, which are the real ones for the tiny model."""
    part, config = CASES[name]
    theirs = judges.random(part, config)
    if name.startswith("tiny-"):
        (file,) = (TINY / part).glob("*.safetensors")
        theirs = judges.filled(theirs, {key: tensor.float() for key, tensor in load_file(file).items()})
    ours = build.build_random(part, config).eval()
    ours.load_state_dict(judges.weights(theirs))
    return ours.to(DTYPES[dtype]), theirs.to(DTYPES[dtype])


@ON_EVERY_CASE
def test_the_random_weights_of_seed_0_are_those_of_the_library(name):
    part, config = CASES[name]
    if part.startswith("text_encoder") and tuple(map(int, version("transformers").split(".")[:2])) < (5, 24):
        pytest.skip("transformers 5.0 to 5.6, at least, initialise text encoders in another order")
    ours, theirs = build.build_random(part, config).state_dict(), judges.weights(judges.random(part, config))
    assert sorted(ours) == sorted(theirs)
    differing = [key for key in ours if not torch.equal(ours[key], theirs[key])]
    # diffusers divides this one by the square root of the width, which rounds otherwise than a product.
    assert differing == [POOLING_QUERY] * (name == "tiny-unet")
    assert all(torch.allclose(ours[key], theirs[key], rtol=2e-7, atol=0) for key in differing)


@IN_EVERY_DTYPE
@ON_EVERY_UNET
@torch.no_grad()
def test_a_unet_answers_the_bits_of_diffusers(name, dtype):
    ours, theirs = pair(name, dtype)
    for size in SIZES:
        inputs = unet_inputs(CASES[name][1], *size).cast(DTYPES[dtype])
        assert torch.equal(inputs.ours(ours), inputs.theirs(theirs)), size


@IN_EVERY_DTYPE
@ON_EVERY_VAE
@torch.no_grad()
def test_an_autoencoder_answers_the_bits_of_diffusers(name, dtype):
    ours, theirs = pair(name, dtype)
    tiny = "encoder_block_out_channels" in CASES[name][1]
    for rows, height, width in SIZES:
        z = channels_last(random(5, rows, 4, height, width)).to(DTYPES[dtype])
        x = channels_last(random(6, rows, 3, 8 * height, 8 * width).clamp(-1, 1)).to(DTYPES[dtype])
        assert torch.equal(ours.decode(z), theirs.decode(z).sample), (rows, height, width)
        if tiny:
            assert torch.equal(ours.encode(x), theirs.encode(x).latents), (rows, height, width)
            continue
        latents = theirs.encode(x).latent_dist
        mean, logvar = ours.moments(x)
        assert torch.equal(ours.encode(x), latents.mode()), (rows, height, width)
        assert torch.equal(mean, latents.mean) and torch.equal(logvar, latents.logvar)


@IN_EVERY_DTYPE
@ON_EVERY_TEXT_ENCODER
@torch.no_grad()
def test_a_text_encoder_answers_the_bits_of_transformers_in_every_state(name, dtype):
    ours, theirs = pair(name, dtype)
    ids = token_ids(CASES[name][1])
    for rows in (ids[:1], ids, ids[[0, 1, 0]]):
        states, judged = ours(rows), theirs(rows, output_hidden_states=True)
        assert len(states.hidden_states) == len(judged.hidden_states)
        same = [torch.equal(*both) for both in zip(states.hidden_states, judged.hidden_states, strict=True)]
        assert same == [True] * len(same)
        assert torch.equal(ours.final_layer_norm(states.hidden_states[-1]), judged.last_hidden_state)
        if "text_projection.weight" in ours.state_dict():
            assert torch.equal(states.pooled, judged.text_embeds)
        else:
            assert states.pooled is None


@torch.no_grad()
def test_embeddings_given_to_a_text_encoder_take_the_place_of_the_ids():
    ours, _ = pair("sdxl-text_encoder_2")
    ids = token_ids(CASES["sdxl-text_encoder_2"][1])
    embeddings = ours.embed(ids)
    assert torch.equal(ours(ids, embeddings).pooled, ours(ids).pooled)
    embeddings[:, 2] += 1
    assert not torch.equal(ours(ids, embeddings).pooled, ours(ids).pooled)


def residuals(unet: nn.Module, inputs) -> Residuals:
    """Random residuals in the shapes of a U-Net's skip connections and of its middle."""
    shapes = []
    layers = [unet.conv_in]
    for block in unet.down_blocks:
        layers += [*(block.attentions or block.resnets), *getattr(block, "downsamplers", ())]
    hooks = [
        layer.register_forward_hook(lambda module, args, out: shapes.append(out.shape))
        for layer in [*layers, unet.mid_block]
    ]
    inputs.ours(unet)
    for hook in hooks:
        hook.remove()
    *down, mid = (random(10 + i, *shape) for i, shape in enumerate(shapes))
    return Residuals(down, mid)


@ON_EVERY_UNET
@torch.no_grad()
def test_control_residuals_are_added_as_diffusers_adds_them(name):
    ours, theirs = pair(name)
    inputs = unet_inputs(CASES[name][1], 2, 9, 13)
    control = residuals(ours, inputs)
    out = inputs.ours(ours, control)
    assert torch.equal(out, inputs.theirs(theirs, control))
    assert not torch.equal(out, inputs.ours(ours))


@torch.no_grad()
def test_a_control_with_too_few_residuals_is_an_error():
    ours, _ = pair("sd1-unet")
    inputs = unet_inputs(CASES["sd1-unet"][1], 1, 8, 8)
    control = residuals(ours, inputs)
    with pytest.raises(ValueError, match="zip"):
        inputs.ours(ours, Residuals(control.down[:-1], control.mid))


def transformer_blocks(unet: nn.Module) -> list[TransformerBlock]:
    return [module for module in unet.modules() if isinstance(module, TransformerBlock)]


@pytest.mark.parametrize("name", ["sd1-unet", "sdxl-unet", "tiny-unet"])
@torch.no_grad()
def test_equal_contexts_for_each_block_are_as_one_context(name):
    ours, _ = pair(name)
    inputs = unet_inputs(CASES[name][1], 2, 8, 8)
    contexts = [inputs.context] * len(transformer_blocks(ours))
    assert torch.equal(ours(inputs.x, inputs.t, contexts, **inputs.more), inputs.ours(ours))


@pytest.mark.parametrize("name", ["sd1-unet", "sdxl-unet"])
@torch.no_grad()
def test_each_block_takes_its_own_context_in_the_order_of_the_pass(name):
    ours, theirs = pair(name)
    inputs = unet_inputs(CASES[name][1], 2, 8, 8)
    contexts = [random(20 + i, *inputs.context.shape) for i in range(len(transformer_blocks(ours)))]
    remaining = iter(contexts)

    def replace_context(module, args, kwargs):
        return args, {**kwargs, "encoder_hidden_states": next(remaining)}

    blocks = [module for module in theirs.modules() if type(module).__name__ == "BasicTransformerBlock"]
    hooks = [block.register_forward_pre_hook(replace_context, with_kwargs=True) for block in blocks]
    expected = inputs.theirs(theirs)
    for hook in hooks:
        hook.remove()
    out = ours(inputs.x, inputs.t, contexts, **inputs.more)
    assert next(remaining, None) is None and torch.equal(out, expected)
    assert not torch.equal(out, ours(inputs.x, inputs.t, contexts[::-1], **inputs.more))


def test_a_unet_with_class_labels_or_size_conditioning_says_what_is_missing():
    for name, missing in (("x4_upscaler-unet", "class_labels"), ("sdxl-unet", "pooled text state")):
        inputs = unet_inputs(CASES[name][1], 1, 8, 8)
        with pytest.raises(ValueError, match=missing):
            pair(name)[0](inputs.x, inputs.t, inputs.context)


@torch.no_grad()
def test_class_labels_pooled_states_and_sizes_each_change_the_answer():
    for name, keys in (("x4_upscaler-unet", ["class_labels"]), ("sdxl-unet", ["pooled", "time_ids"])):
        inputs = unet_inputs(CASES[name][1], 1, 8, 8)
        for key in keys:
            other = {**inputs.more, key: inputs.more[key] + 1}
            out = pair(name)[0](inputs.x, inputs.t, inputs.context, **other)
            assert not torch.equal(out, inputs.ours(pair(name)[0])), key


@pytest.mark.parametrize(
    "name", ["sdxl-unet", "tiny-unet", "sd1-vae", "taesd-vae", "sd1-text_encoder", "sdxl-text_encoder_2"]
)
def test_the_gradient_of_every_parameter_is_the_librarys(name):
    part, config = CASES[name]
    theirs = judges.random(part, config)
    ours = build.build_random(part, config).eval()
    ours.load_state_dict(judges.weights(theirs))
    if part == "unet":
        inputs = unet_inputs(config, 2, 8, 8)
        outputs = [inputs.ours(ours)], [inputs.theirs(theirs)]
    elif part == "vae":
        z, x = random(5, 2, 4, 8, 8), random(6, 2, 3, 64, 64)
        encoded = theirs.encode(x)
        latents = encoded.latents if name == "taesd-vae" else encoded.latent_dist.mode()
        outputs = [ours.decode(z), ours.encode(x)], [theirs.decode(z).sample, latents]
    else:
        states, judged = (ours(token_ids(config)), theirs(token_ids(config), output_hidden_states=True))
        outputs = [states.hidden_states[-1]], [judged.hidden_states[-1]]
        if states.pooled is not None:
            outputs = [states.pooled], [judged.text_embeds]
    for each in outputs:
        sum(out.square().mean() for out in each).backward()
    expected = {key.removeprefix("text_model."): p.grad for key, p in theirs.named_parameters()}
    differing = []
    for key, parameter in ours.named_parameters():
        if expected[key] is None or parameter.grad is None:
            assert parameter.grad is expected[key], key
        elif not torch.equal(parameter.grad, expected[key]):
            differing.append(key)
    assert differing == []
    assert sum(parameter.grad is not None for parameter in ours.parameters()) > 10


@torch.no_grad()
def test_a_replaced_processor_is_called_with_the_attention_its_input_and_the_context():
    unet, _ = pair("sd1-unet")
    inputs = unet_inputs(CASES["sd1-unet"][1], 1, 8, 8)
    plain = inputs.ours(unet)
    calls = []

    def record(attention, x, context):
        calls.append((attention, x.shape, context))
        return attend(attention, x, context)

    attentions = [module for module in unet.modules() if isinstance(module, Attention)]
    try:
        for attention in attentions:
            attention.processor = record
        assert torch.equal(inputs.ours(unet), plain)
    finally:
        for attention in attentions:
            attention.processor = attend
    blocks = transformer_blocks(unet)
    assert sorted(id(attention) for attention, _, _ in calls) == sorted(id(each) for each in attentions)
    for attention, shape, context in calls:
        assert shape[-1] == attention.to_q.in_features
        assert context is (inputs.context if any(attention is block.attn2 for block in blocks) else None)


@pytest.mark.parametrize("name", ["sd1-unet", "sdxl-unet"])
@torch.no_grad()
def test_the_perturbed_middle_is_diffusers_identity_attention(name):
    from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0

    ours, theirs = pair(name)
    inputs, two = (unet_inputs(CASES[name][1], 1, 32, 32) for _ in range(2))
    two.x, two.context = two.x.repeat(2, 1, 1, 1), two.context.repeat(2, 1, 1)
    two.more = {key: tensor.repeat(2, 1) for key, tensor in two.more.items()}
    processors = theirs.attn_processors
    chosen = [key for key in processors if key.startswith("mid_block") and "attn1" in key]
    theirs.set_attn_processor(processors | {key: PAGIdentitySelfAttnProcessor2_0() for key in chosen})
    try:
        plain, identity = two.theirs(theirs).chunk(2)  # it perturbs the second half of the rows
    finally:
        theirs.set_attn_processor(processors)
    with perturbed(ours):
        out = inputs.ours(ours)
    assert torch.allclose(out, identity, rtol=0, atol=2e-6)  # of another number of rows in one product
    assert (out - plain).abs().max() > 1e-4
    assert torch.equal(inputs.ours(ours), inputs.theirs(theirs))
