"""Attention maps: the shares of the words in the cross-attention, recorded without a change to the picture."""

import pytest
import torch
from torch import nn

from sdcli.adapters.attention_maps import AttentionMaps, attention_maps, word_shares
from sdcli.diffusion.conditioning import Composed, Cond
from sdcli.diffusion.preconditioning import preconditioning
from sdcli.diffusion.unet_call import UNetCall
from sdcli.engine import generate
from sdcli.models.architectures.attention import Attention, attend
from sdcli.models.cache import ModelCache
from sdcli.models.load import load
from sdcli.pipeline.unet import predictor
from sdcli.request.request import Request
from tests import judges

EVERY_ROW = {str(i): [i] for i in range(77)}


def cond_of(model, seed):
    width = model.configs["unet"]["cross_attention_dim"]
    generator = torch.Generator().manual_seed(seed)
    pooled = torch.randn(1, 16, generator=generator) if model.family.signature.added else None
    sizes = (64.0, 64.0, 0.0, 0.0, 64.0, 64.0) if pooled is not None else ()
    return Cond(torch.randn(1, 77, width, generator=generator), pooled, sizes)


def recorded(model, conds, watched, side=0, size=(8, 8), calls=2):
    """The maps of calls of the model's U-Net with these conds, of which some are watched."""
    maps = attention_maps(list(EVERY_ROW))
    x = torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(7))
    maps.begin(dict.fromkeys(watched, EVERY_ROW), size)
    with model.networks.adapted([maps.adapted]):
        for sigma in (3.0, 1.0)[:calls]:
            predictor(model, side=side, see=maps.see)(x, sigma, conds)
    return torch.stack(list(maps.maps(size).values()))


# --- closed form


def test_attention_to_equal_keys_is_shared_equally():
    attention = Attention(8, 2, 6)
    nn.init.zeros_(attention.to_k.weight)
    shares = word_shares(attention, torch.randn(1, 9, 8), torch.randn(1, 77, 6), [[1], [3, 4], []])
    assert torch.allclose(shares, torch.tensor([1 / 77, 2 / 77, 0])[:, None].expand(3, 9))


def test_the_share_is_that_of_the_exponent_of_the_scaled_product():
    attention = Attention(2, 1, 2)
    for layer in (attention.to_q, attention.to_k):
        layer.weight.data.copy_(torch.eye(2))
    context = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]])
    share = word_shares(attention, torch.tensor([[[3.0, 1.0]]]), context, [[0]])
    assert torch.allclose(share, torch.sigmoid(torch.tensor([[6 / 2**0.5]])))


class KnownUNet(nn.Module):
    """One cross-attention over the pixels, whose queries are the pixels and whose keys are the context."""

    def __init__(self):
        super().__init__()
        self.attn2 = Attention(2, 1, 2)
        for layer in (self.attn2.to_q, self.attn2.to_k):
            layer.weight.data.copy_(torch.eye(2))
        self.transformer_blocks = [self]

    def forward(self, x, context):
        return self.attn2(x.flatten(2).transpose(1, 2), context)


def test_a_share_lies_at_the_place_of_its_pixel_in_its_window():
    unet, cond = KnownUNet(), Cond(torch.tensor([[[2.0, 0.0], [0.0, 0.0]]]))
    x = torch.zeros(1, 2, 4, 8)
    x[0, 0, 3, 5] = 3.0
    maps = attention_maps(["cat"])
    maps.begin({cond: {"cat": [0]}}, (8, 16))
    with maps.adapted("unet", unet):
        for rows in (slice(0, 4), slice(4, 8)):
            for columns in (slice(0, 8), slice(8, 16)):
                maps.see(UNetCall(x, 1.0, 1.0, [cond], (rows, columns)))
                unet(x if rows.start and columns.start else x * 0, cond.context)
    expected = torch.full((8, 16), 0.5)
    expected[4 + 3, 8 + 5] = torch.sigmoid(torch.tensor(6 / 2**0.5))
    assert torch.allclose(maps.maps((8, 16))["cat"], expected)


@pytest.mark.parametrize("name", ["test:sd1", "test:sd2", "test:sdxl"])
@pytest.mark.parametrize(("side", "size"), [(0, (8, 8)), (0, (9, 13)), (8, (12, 16))])
def test_the_shares_of_all_rows_are_1_at_each_place(name, side, size):
    model = load(name, "cpu", "float32")
    positive, negative = cond_of(model, 1), cond_of(model, 2)
    maps = recorded(model, [negative, positive], [positive], side, size)
    assert maps.shape == (77, *size)
    assert torch.allclose(maps.sum(0), torch.ones(size), atol=1e-5)


def test_only_the_rows_of_the_watched_prompt_are_recorded():
    model = load("test:sd1", "cpu", "float32")
    positive, negative = cond_of(model, 1), cond_of(model, 2)
    alone = recorded(model, [positive], [positive])
    assert torch.allclose(recorded(model, [negative, positive], [positive]), alone, atol=1e-6)
    assert torch.allclose(recorded(model, [positive, negative], [positive]), alone, atol=1e-6)
    assert not torch.allclose(recorded(model, [negative, positive], [negative]), alone, atol=1e-4)


def test_a_word_is_averaged_over_the_prompts_that_have_it():
    model = load("test:sd1", "cpu", "float32")
    first, second = cond_of(model, 1), cond_of(model, 2)
    x = torch.ones(1, 4, 8, 8)

    def maps_of(rows):
        maps = attention_maps(["cat", "dog", "bird"])
        maps.begin(rows, (8, 8))
        with model.networks.adapted([maps.adapted]):
            predictor(model, see=maps.see)(x, 2.0, [first, second])
        return maps.maps((8, 8))

    both = maps_of({first: {"cat": [2], "dog": [3]}, second: {"cat": [5]}})
    one, other = maps_of({first: {"cat": [2], "dog": [3]}}), maps_of({second: {"cat": [5]}})
    assert torch.allclose(both["cat"], (one["cat"] + other["cat"]) / 2)
    assert torch.equal(both["dog"], one["dog"])
    assert "bird" not in both


def test_two_runs_of_different_sizes_are_averaged_at_the_size_asked_for():
    model = load("test:sd1", "cpu", "float32")
    cond = cond_of(model, 1)
    maps = attention_maps(list(EVERY_ROW))
    with model.networks.adapted([maps.adapted]):
        for size in ((8, 8), (12, 12)):
            maps.begin({cond: EVERY_ROW}, size)
            predictor(model, see=maps.see)(torch.ones(1, 4, *size), 2.0, [cond])
    found = torch.stack(list(maps.maps((96, 96)).values()))
    assert torch.allclose(found.sum(0), torch.ones(96, 96), atol=1e-5)


# --- agreement


@pytest.mark.parametrize("name", ["test:sd1", "test:sdxl"])
def test_the_maps_are_those_of_a_processor_that_keeps_the_probabilities_in_diffusers(name):
    model = load(name, "cpu", "float32")
    cond = cond_of(model, 1)
    ours = recorded(model, [cond], [cond], calls=1)
    kept = []

    class Keeping:
        def __call__(self, attention, x, encoder_hidden_states=None, **_):
            context = x if encoder_hidden_states is None else encoder_hidden_states
            query, key, value = attention.to_q(x), attention.to_k(context), attention.to_v(context)
            query, key, value = map(attention.head_to_batch_dim, (query, key, value))
            probabilities = attention.get_attention_scores(query, key)
            if encoder_hidden_states is not None:
                side = int(x.shape[1] ** 0.5)
                planes = probabilities.mean(0).T.reshape(1, 77, side, side)
                kept.append(nn.functional.interpolate(planes, (8, 8), mode="bilinear"))
            return attention.to_out[0](attention.batch_to_head_dim(probabilities @ value))

    theirs = judges.unet(model)
    theirs.set_attn_processor(Keeping())
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))
    added = None if cond.pooled is None else {
        "text_embeds": cond.pooled, "time_ids": torch.tensor([cond.time_ids])
    }  # fmt: skip
    timestep = torch.tensor(preconditioning(model.levels, model.prediction).timestep(3.0))
    theirs(x / 10**0.5, timestep, cond.context, added_cond_kwargs=added)
    assert torch.allclose(torch.cat(kept).mean(0), ours, atol=1e-5)


# --- nothing else changes


@pytest.mark.parametrize("name", ["test:sd1", "test:sdxl"])
def test_the_picture_has_the_same_bits_with_and_without(name):
    models = ModelCache()
    request = Request("a cat with a hat", "a dog", model=name, seed=3, steps=3)
    plain = generate(request, models)
    with_maps = generate(request, models, attention=["cat", "hat"])
    assert torch.equal(plain.latents, with_maps.latents)
    assert plain.picture.png() == with_maps.picture.png()
    assert plain.attention == {} and list(with_maps.attention) == ["cat", "hat"]
    for plane in with_maps.attention.values():
        assert plane.dtype == "float32" and plane.shape == (64, 64) and 0 < plane.min() <= plane.max() < 1


def test_the_attentions_are_undone_after_an_error():
    model = load("test:sd1", "cpu", "float32")
    maps = AttentionMaps(["cat"])
    with pytest.raises(RuntimeError), model.networks.adapted([maps.adapted]):
        raise RuntimeError
    for module in model.unet.modules():
        assert getattr(module, "processor", attend) is attend
        assert not module._forward_pre_hooks


def test_a_composed_prompt_of_one_part_is_watched_by_its_cond():
    from sdcli.pipeline.attention import rows_of

    model = load("test:sd1", "cpu", "float32")
    cond = cond_of(model, 1)
    assert rows_of(["cat"], Composed.plain(cond), model.tokenizers) == {cond: {"cat": []}}
    assert rows_of([], Composed.plain(cond), model.tokenizers) == {}
