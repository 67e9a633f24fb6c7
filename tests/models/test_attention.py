"""Attention and feed-forward layers in bfloat16 on a CPU, which are calculated in blocks."""

import pytest
import torch
import torch.nn.functional as F

from sdcli.models.architectures import attention
from sdcli.models.architectures.attention import softmax_attention

SHAPES = [(2, 8, 64, 64, 40), (1, 1, 300, 300, 512), (2, 4, 96, 77, 80), (1, 2, 5, 7, 16)]


def heads(shape, dtype=torch.bfloat16):
    n, count, tokens, keys, width = shape
    generator = torch.Generator().manual_seed(0)
    sizes = [(n, count, each, width) for each in (tokens, keys, keys)]
    return [torch.randn(size, generator=generator).to(dtype) for size in sizes]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("most", [1, 1000, 2**23])
def test_it_is_the_softmax_of_the_scores_times_the_values_to_the_precision_of_bfloat16(
    shape, most, monkeypatch
):
    monkeypatch.setattr(attention, "BLOCK", most)
    q, k, v = heads(shape)
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    with torch.inference_mode():
        assert (softmax_attention(q, k, v).double() - exact).abs().max() < 0.03


def test_a_picture_is_the_same_alone_and_beside_another():
    q, k, v = heads((2, 8, 256, 256, 40))
    with torch.inference_mode():
        both = softmax_attention(q, k, v)
        assert torch.equal(both[:1], softmax_attention(q[:1], k[:1], v[:1]))


def test_float32_and_training_use_torch_s_own():
    q, k, v = heads(SHAPES[0], torch.float32)
    with torch.inference_mode():
        assert torch.equal(softmax_attention(q, k, v), F.scaled_dot_product_attention(q, k, v))
    q, k, v = (each.bfloat16().requires_grad_() for each in (q, k, v))
    softmax_attention(q, k, v).sum().backward()
    assert q.grad is not None


@pytest.mark.parametrize("shape", [(2, 4096, 32), (1, 77, 64), (2, 100, 320)])
def test_a_feed_forward_layer_gives_the_same_bytes_in_blocks(shape, monkeypatch):
    torch.manual_seed(0)
    layer = attention.FeedForward(shape[-1]).bfloat16()
    x = torch.randn(shape, dtype=torch.bfloat16)
    with torch.inference_mode():
        whole = layer._whole(x)
        monkeypatch.setattr(attention, "WIDE_BLOCK", 8 * shape[-1] * 32)
        assert torch.equal(layer(x), whole)
