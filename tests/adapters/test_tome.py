"""Token merging: tokens that are alike are averaged before self-attention and copied back."""

import pytest
import torch

from sdcli.adapters.tome import TokenMerging, merging_of
from sdcli.engine import generate
from sdcli.models.architectures.attention import Attention
from sdcli.models.cache import ModelCache
from sdcli.models.load import load
from sdcli.request.request import Request


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def test_tokens_that_are_equal_come_back_as_they_were():
    x = torch.randn(1, 1, 3, generator=random()).expand(2, 24, 3)
    merging = merging_of(x, (4, 6), 0.5, random())
    assert merging.merged(x).shape == (2, 12, 3)
    assert torch.allclose(merging.undone(merging.merged(x)), x, atol=1e-6)


def test_ratio_0_only_reorders():
    x = torch.randn(2, 35, 3, generator=random())
    merging = merging_of(x, (5, 7), 0, random())
    assert torch.equal(merging.undone(merging.merged(x)), x)


@pytest.mark.parametrize("plane", [(4, 4), (6, 8), (5, 7)])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.75])
def test_the_most_similar_tokens_are_averaged_token_by_token(plane, ratio):
    """By plain loops over one row of tokens."""
    height, columns = plane
    x = torch.randn(1, height * columns, 5, generator=random(1))
    chosen = torch.randint(4, (height // 2, columns // 2), generator=random(2))
    kept = [
        (2 * i + int(chosen[i, j]) // 2) * columns + 2 * j + int(chosen[i, j]) % 2
        for i in range(height // 2)
        for j in range(columns // 2)
    ]
    others = [token for token in range(height * columns) if token not in kept]
    likeness = {
        token: max((float(torch.cosine_similarity(x[0, token], x[0, each], 0)), -each) for each in kept)
        for token in others
    }
    most = sorted(others, key=lambda token: -likeness[token][0])[: int(height * columns * ratio)]
    groups = {each: [each, *(token for token in most if -likeness[token][1] == each)] for each in kept}
    expected = x[0].clone()
    for tokens in groups.values():
        expected[tokens] = x[0, tokens].mean(0)
    merging = merging_of(x, plane, ratio, random(2))
    assert merging.merged(x).shape[1] == len(others) - len(most) + len(kept)
    assert torch.allclose(merging.undone(merging.merged(x))[0], expected, atol=1e-6)


def drawn(models=None, **options):
    return generate(Request("a cat", model="test:sd1", seed=3, steps=2, **options), models).latents


def test_it_changes_its_own_picture_a_little_and_none_after_it():
    models = ModelCache()
    plain, merged = drawn(models), drawn(models, tome=0.5)
    assert not torch.equal(merged, plain)
    assert torch.equal(drawn(models), plain)
    assert torch.equal(drawn(models, tome=0.5), merged)
    assert torch.allclose(drawn(tome=0.5, networks="diffusers"), merged, atol=1e-3)


def test_only_the_highest_resolution_is_merged_and_the_network_is_left_as_it_was():
    unet = load("test:sd1", "cpu", "float32").unet
    attentions = {name: each for name, each in unet.named_modules() if isinstance(each, Attention)}
    before = {name: each.processor for name, each in attentions.items()}
    with pytest.raises(RuntimeError, match="a bug"), TokenMerging(0.5).adapted("unet", unet):
        changed = [name for name, each in attentions.items() if each.processor is not before[name]]
        raise RuntimeError("a bug")
    assert {name.split(".attentions")[0] for name in changed} == {"down_blocks.0", "up_blocks.3"}
    assert all(name.endswith("attn1") for name in changed)
    assert {name: each.processor for name, each in attentions.items()} == before
    assert not any(each._forward_pre_hooks for each in unet.modules())
