"""Compel's conditions: its formulas in closed form, on test models of each family."""

import math

import pytest
import torch

from sdcli.errors import UsageError
from sdcli.models.load import load
from sdcli.pipeline.compel import chunk_count, encode_compel
from sdcli.pipeline.encode import encode_chunks, encode_prompt, encoder_states
from sdcli.request.prompt.chunks import Token
from sdcli.tokenizer import ids
from tests.tokens import plain, plain_text

MODELS = ["test:sd1", "test:sd2", "test:sdxl"]
SIZE = (64.0, 64.0)
LONG = "a red cat, " * 30


@pytest.fixture(scope="module")
def loaded():
    """The test models in float32, each loaded once: loaded("test:sd1") -> Model."""
    models = {}
    return lambda name: models.setdefault(name, load(name, "cpu", "float32"))


def context(model, text: str, **more) -> torch.Tensor:
    return encode_compel(model, text, 1, SIZE, **more).context


def plain_context(model, text: str) -> torch.Tensor:
    return encode_prompt(model, dict.fromkeys(model.tokenizers, plain_text(text)), 1, SIZE).context


def rows_of(model, text: str, *hidden: int) -> torch.Tensor:
    """The context of a short text in which the tokens at these places are hidden from attention."""
    mask = torch.ones(1, 77, dtype=torch.bool)
    mask[0, list(hidden)] = False
    parts = [encoder_states(model, part, plain_text(text), mask=mask)[0] for part in model.tokenizers]
    return torch.cat(parts, -1)


def is_near(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return ours.shape == theirs.shape and float((ours - theirs).norm() / theirs.norm()) < 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_a_text_without_weights_has_the_bits_of_a_plain_one(loaded, name):
    model = loaded(name)
    for text in ("", "a red cat"):
        cond = encode_compel(model, text, 1, SIZE)
        expected = encode_prompt(model, dict.fromkeys(model.tokenizers, plain_text(text)), 1, SIZE)
        assert torch.equal(cond.context, expected.context)
        assert cond.pooled is None or torch.equal(cond.pooled, expected.pooled)
        assert cond.time_ids == expected.time_ids


@pytest.mark.parametrize("name", MODELS)
def test_a_weight_above_1_stretches_the_distance_from_the_empty_prompt(loaded, name):
    model = loaded(name)
    z, empty = plain_context(model, "a red cat"), plain_context(model, "")
    z[:, 2] = empty[:, 2] + 1.21 * (z[:, 2] - empty[:, 2])
    assert is_near(context(model, "a red++ cat"), z)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("name", MODELS)
def test_a_weight_below_1_draws_the_text_towards_the_one_without_its_words(loaded, name, weight):
    model = loaded(name)
    contexts, empty = [rows_of(model, "a red cat"), rows_of(model, "a red cat", 2)], plain_context(model, "")
    for z in contexts:
        z[:, 2] = empty[:, 2] + weight * (z[:, 2] - empty[:, 2])
    share = math.tan((1 - max(weight, 1e-5)) * math.pi / 2)  # at weight 0 it would be infinite
    assert is_near(context(model, f"a (red){weight} cat"), (contexts[0] + share * contexts[1]) / (1 + share))


def test_each_piece_below_1_is_left_out_by_itself(loaded):
    model = loaded("test:sd1")
    contexts = [rows_of(model, "a red cat", *hidden) for hidden in ((), (1,), (3,))]
    empty = plain_context(model, "")
    for z in contexts:
        for place, weight in ((1, 0.5), (3, 0.9)):
            z[:, place] = empty[:, place] + weight * (z[:, place] - empty[:, place])
    shares = [1.0, 1.0, math.tan(0.1 * math.pi / 2)]
    expected = sum(share * z for share, z in zip(shares, contexts, strict=True)) / sum(shares)
    assert is_near(context(model, "(a)0.5 red cat-"), expected)


@pytest.mark.parametrize("name", MODELS)
def test_a_blend_adds_its_texts_up(loaded, name):
    model = loaded(name)
    cat, dog = plain_context(model, "a cat"), plain_context(model, "a dog")
    assert is_near(context(model, '("a cat", "a dog").blend(1, 3)'), 0.25 * cat + 0.75 * dog)
    whole = context(model, '("a cat", "a dog").blend(1, -0.5, no_normalize)')
    assert is_near(whole, cat - 0.5 * dog)


def test_a_blend_of_unequal_lengths_has_empty_chunks_behind_the_shorter(loaded):
    model = loaded("test:sd1")
    cat = torch.cat([plain_context(model, "a cat"), plain_context(model, "")], 1)
    long = context(model, LONG)
    assert long.shape[1] == 154
    assert is_near(context(model, f'("a cat", "{LONG}").blend(1, 1)'), (cat + long) / 2)


@pytest.mark.parametrize("name", MODELS)
def test_and_puts_its_texts_one_behind_the_other(loaded, name):
    model = loaded(name)
    cat, dog, empty = (plain_context(model, text) for text in ("a cat", "a dog", ""))
    assert torch.equal(context(model, '("a cat", "a dog").and()'), torch.cat([cat, dog], 1))
    weighted = torch.cat([cat, empty + 0.5 * (dog - empty)], 1)
    assert is_near(context(model, '("a cat", "a dog").and(1, 0.5)'), weighted)


def test_a_long_text_is_cut_at_the_end_of_a_phrase(loaded):
    model = loaded("test:sd1")
    row = ids(LONG)
    assert row[71] == 267  # the last comma of the first 75
    chunks = plain([row[:72], row[72:]])
    assert torch.equal(context(model, LONG), encode_chunks(model, "text_encoder", chunks)[0])


def test_words_hidden_over_two_chunks_are_hidden_with_the_end_and_padding_between(loaded):
    model = loaded("test:sd1")
    words = ["cat"] * 70
    text = f"{' '.join(words)}, (red , blue green red blue green){{}}"
    row = ids(text.format("").replace("(", "").replace(")", ""))
    chunks = plain([row[:73], row[73:]])  # the second comma ends the first chunk
    mask = torch.ones(2, 77, dtype=torch.bool)
    mask[0, 72:76] = False  # red, the comma, END and padding; not the last of the chunk
    mask[1, 1:6] = False
    contexts = [encoder_states(model, "text_encoder", chunks, mask=each)[0].clone() for each in (None, mask)]
    empty = encoder_states(model, "text_encoder", [()])[0][0]
    for z in contexts:
        for i, places in ((0, slice(72, 74)), (1, slice(1, 6))):
            z[i, places] = empty[places] + 0.5 * (z[i, places] - empty[places])
    expected = (contexts[0] + contexts[1]) / 2
    assert is_near(context(model, text.format("0.5")), expected.reshape(1, 154, -1))


def test_the_pooled_state_is_that_of_the_prompt_as_it_is_typed(loaded):
    model = loaded("test:sdxl")
    text = '("a cat++", "a dog").and()'
    _, pooled = encode_chunks(model, "text_encoder_2", plain([ids(text)]))
    assert torch.equal(encode_compel(model, text, 1, SIZE).pooled, pooled)


@pytest.mark.parametrize("text", ["a cat", LONG, '("a", "b").and()', f'("a", "{LONG}").blend(1, 1)', ""])
def test_a_prompt_is_padded_to_the_chunks_that_are_asked_for(loaded, text):
    model = loaded("test:sdxl")
    count = chunk_count(model, text)
    plain, padded = context(model, text), context(model, text, count=3)
    assert plain.shape[1] == 77 * count
    assert torch.equal(padded[:, : 77 * count], plain)
    empty = plain_context(model, "").repeat(1, 3 - count, 1)
    assert torch.equal(padded[:, 77 * count :], empty)


def test_the_library_s_text_encoders_give_the_same(loaded):
    theirs = load("test:sdxl", "cpu", "float32", networks="diffusers")
    text = "a (red)0.5 cat++"
    assert is_near(context(theirs, text), context(loaded("test:sdxl"), text))


def test_clip_skip_reads_an_earlier_layer(loaded):
    model = loaded("test:sd1")
    skipped = encode_compel(model, "a cat", 2, SIZE).context
    assert torch.equal(skipped, encode_chunks(model, "text_encoder", plain_text("a cat"), 2)[0])


def test_learned_vectors_take_the_place_of_their_name(loaded):
    model = loaded("test:sd1")
    vectors = torch.linspace(-1, 1, 32).reshape(2, 16)
    learned = {"text_encoder": {"style": vectors}}
    chunk = (Token(320), Token(0, 1.0, "style", 0), Token(0, 1.0, "style", 1), Token(2368))
    expected, _ = encode_chunks(model, "text_encoder", [chunk], vectors=learned["text_encoder"])
    assert torch.equal(context(model, "a style cat", vectors=learned), expected)
    assert chunk_count(model, "a style cat", learned) == 1


def test_weights_that_make_a_state_infinite_are_a_usage_error(loaded):
    with pytest.raises(UsageError, match="infinite or NaN"):
        encode_compel(loaded("test:sd1"), "a cat" + "+" * 2000, 1, SIZE)
