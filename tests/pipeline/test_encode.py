"""Encode: weights and learned vectors in chunks of tokens, on test models of each family."""

import pytest
import torch

from sdcli.models.load import load
from sdcli.pipeline import emphasis
from sdcli.pipeline.encode import encode_chunks, encode_prompt
from sdcli.request.prompt.chunks import Chunk, Token
from sdcli.tokenizer import framed, ids
from tests.tokens import plain_text

MODELS = ["test:sd1", "test:sd2", "test:sdxl"]
FORMULAS = ["none", *emphasis.FORMULAS]


@pytest.fixture(scope="module")
def loaded():
    """The test models in float32, each loaded once: loaded("test:sd1") -> Model."""
    models = {}
    return lambda name: models.setdefault(name, load(name, "cpu", "float32"))


def weighted(text: str, weight: float) -> Chunk:
    """A chunk whose second token has a weight."""
    return tuple(Token(id, weight if i == 1 else 1.0) for i, id in enumerate(ids(text)))


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("name", MODELS)
def test_each_text_encoder_s_context_is_weighted_by_itself(loaded, name, formula):
    model, chunks = loaded(name), [weighted("a red cat", 1.4), weighted("a dog", 0.7)]
    cond = encode_prompt(model, dict.fromkeys(model.tokenizers, chunks), 1, (64.0, 64.0), formula)
    expected = []
    for part in model.tokenizers:
        z, empty = (encode_chunks(model, part, each)[0] for each in (chunks, [()]))
        typed = torch.ones(2, 77)
        typed[0, 2], typed[1, 2] = 1.4, 0.7
        rows = z.reshape(2, 77, -1)
        expected.append(emphasis.apply(formula, rows, typed, empty).reshape(z.shape))
    assert torch.equal(cond.context, torch.cat(expected, -1))


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("name", MODELS)
def test_a_prompt_whose_weights_are_1_has_the_bits_of_a_plain_one(loaded, name, formula):
    model, chunks = loaded(name), plain_text("a red cat, " * 40)
    for part in model.tokenizers:
        plain, pooled = encode_chunks(model, part, chunks)
        same, same_pooled = encode_chunks(model, part, chunks, 1, formula)
        assert torch.equal(plain, same)
        assert (pooled is None and same_pooled is None) or torch.equal(pooled, same_pooled)


@pytest.mark.parametrize("formula", FORMULAS)
def test_the_pooled_state_is_the_first_chunk_s_and_never_weighted(loaded, formula):
    model = loaded("test:sdxl")
    first = encode_chunks(model, "text_encoder_2", plain_text("a red cat"))[1]
    chunks = [weighted("a red cat", 1.4), weighted("a dog", 2.0)]
    pooled = encode_chunks(model, "text_encoder_2", chunks, 1, formula)[1]
    assert torch.allclose(pooled, first, atol=1e-6)
    one_chunk = encode_chunks(model, "text_encoder_2", chunks[:1], 1, formula)[1]
    assert torch.equal(one_chunk, first)


@pytest.mark.parametrize(
    ("name", "networks"), [*((name, "sdcli") for name in MODELS), ("test:sdxl", "diffusers")]
)
def test_learned_vectors_that_are_those_of_words_read_as_the_words(loaded, name, networks):
    """Rows of the token table put back in their places, before positions are added: nothing changes."""
    model = loaded(name) if networks == "sdcli" else load(name, "cpu", "float32", networks=networks)
    words = ids("a red cat in a hat")
    learned = tuple(Token(id) if i in (0, 3) else Token(0, 1.0, "x", i) for i, id in enumerate(words))
    for part in model.tokenizers:
        table = model.text_encoder(part).embed(torch.tensor(words)).detach()
        plain, pooled = encode_chunks(model, part, [tuple(map(Token, words))])
        context, pooled_too = encode_chunks(model, part, [learned], vectors={"x": table})
        assert torch.equal(context, plain)
        assert pooled is None or torch.equal(pooled, pooled_too)
        other, _ = encode_chunks(model, part, [learned], vectors={"x": table.flip(0)})
        assert not torch.allclose(other, plain, atol=1e-3)


def test_learned_vectors_are_taken_by_text_encoder(loaded):
    model, chunks = loaded("test:sdxl"), [(Token(320), Token(0, 1.0, "x", 0))]
    vectors = {
        part: {"x": model.text_encoder(part).embed(torch.tensor([word])).detach()}
        for part, word in (("text_encoder", 2368), ("text_encoder_2", 1929))
    }
    cond = encode_prompt(model, dict.fromkeys(model.tokenizers, chunks), 1, (64.0, 64.0), vectors=vectors)
    cat, _ = encode_chunks(model, "text_encoder", [(Token(320), Token(2368))])
    dog, pooled = encode_chunks(model, "text_encoder_2", [(Token(320), Token(1929))])
    assert torch.equal(cond.context, torch.cat([cat, dog], -1))
    assert torch.equal(cond.pooled, pooled)


def test_pooling_finds_the_end_token_behind_learned_vectors(loaded):
    model = loaded("test:sdxl")
    encoder = model.text_encoder("text_encoder_2")
    rows = torch.tensor([framed([320, 0, 0, 2368], 0)])
    vectors = torch.linspace(-1, 1, 2 * encoder.embed(rows).shape[-1]).reshape(2, -1)
    with torch.inference_mode():
        embeddings = encoder.embed(rows)
        embeddings[0, 2:4] = vectors
        states = encoder(rows, embeddings)
        at_end = encoder.text_projection(encoder.final_layer_norm(states.hidden_states[-1])[:, 5])
    chunk = (Token(320), Token(0, 1.0, "x", 0), Token(0, 1.0, "x", 1), Token(2368))
    pooled = encode_chunks(model, "text_encoder_2", [chunk], vectors={"x": vectors})[1]
    assert torch.allclose(pooled, at_end, atol=1e-6)
