"""Chunks: A1111's own answers, and what must hold for any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.request.prompt import attention, chunks
from sdcli.request.prompt.pieces import BREAK, Piece
from sdcli.tokenizer import BEGIN, CHUNK, END, Tokenizer
from tests.request.prompt.known import answers, run_lengths
from tests.request.prompt.strategies import PROMPTS

TOKENIZER = Tokenizer()
LONG = st.lists(
    st.sampled_from(["red ", "green ", "cat, ", ", ", "(big:1.3) ", "[old] ", "BREAK "]), max_size=200
)
LONG_PROMPTS = LONG.map("".join)
WAYS = [chunks.chunked, chunks.chunked_by_words]


def as_known(chunk: chunks.Chunk, pad: int, vectors: dict[str, int]) -> dict[str, object]:
    """A chunk in the form of words.json."""
    first = [(i, token.embedding) for i, token in enumerate(chunk) if token.embedding and token.vector == 0]
    known = {"ids": run_lengths(chunks.ids(chunk, pad)), "weights": run_lengths(chunks.weights(chunk))}
    return known | ({"fixes": [[i, name, vectors[name]] for i, name in first]} if first else {})


@pytest.mark.parametrize("known", answers("chunks"))
def test_the_chunks_and_their_count_are_those_of_a1111(known):
    pad = 0 if known["family"] == "sd2" else END
    pieces = attention.parse(known["prompt"], break_in_brackets=False)
    found = chunks.chunked(pieces, Tokenizer(pad), known["embeddings"], known["backtrack"])
    assert [as_known(chunk, pad, known["embeddings"]) for chunk in found] == known["chunks"]
    assert chunks.count(pieces, found) == known["count"]


@pytest.mark.parametrize("way", WAYS)
@given(prompt=PROMPTS | LONG_PROMPTS)
def test_no_token_of_any_prompt_is_lost(way, prompt):
    pieces = attention.parse(prompt)
    words = [piece for piece in pieces if piece != BREAK]
    expected = [chunks.Token(id, piece.weight) for piece in words for id in TOKENIZER.ids(piece.text)]
    if way is chunks.chunked_by_words:  # ComfyUI knows no BREAK
        pieces = words
    assert [token for chunk in way(pieces, TOKENIZER) for token in chunk] == expected


@pytest.mark.parametrize("way", WAYS)
@given(prompt=LONG_PROMPTS)
def test_every_chunk_is_77_ids_and_77_weights(way, prompt):
    for chunk in way(attention.parse(prompt), TOKENIZER):
        ids, weights = chunks.ids(chunk, END), chunks.weights(chunk)
        assert len(ids) == len(weights) == CHUNK + 2
        assert (ids[0], ids[len(chunk) + 1], weights[0], weights[len(chunk) + 1]) == (BEGIN, END, 1, 1)


@pytest.mark.parametrize("way", WAYS)
def test_an_empty_prompt_is_one_empty_chunk(way):
    assert way([Piece("")], TOKENIZER) == ((),)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("length", [75, 76, 150, 151])
def test_words_without_commas_fill_each_chunk_to_75(way, length):
    found = way([Piece("cat " * length)], TOKENIZER)
    assert [len(chunk) for chunk in found] == [*[75] * (length // 75), *[length % 75] * (length % 75 > 0)]


@given(st.integers(0, 30))
def test_words_behind_a_comma_go_to_the_next_chunk_together(behind):
    pieces = [Piece("cat " * (CHUNK - 1 - behind) + "," + " dog" * behind + " bird")]
    first, second = chunks.chunked(pieces, TOKENIZER, backtrack=20)
    is_moved = behind < 20  # the comma is one of the 20 tokens
    assert len(first) == (CHUNK - behind if is_moved else CHUNK)
    assert len(second) == (behind + 1 if is_moved else 1)


def test_comfyui_moves_a_short_piece_as_a_whole_and_cuts_a_long_one():
    start = Piece("cat " * 72)
    short = chunks.chunked_by_words([start, Piece("red " * 7, 1.2)], TOKENIZER)
    long = chunks.chunked_by_words([start, Piece("red " * 8, 1.2)], TOKENIZER)
    assert [[len(chunk) for chunk in found] for found in (short, long)] == [[72, 7], [75, 5]]


@pytest.mark.parametrize(
    ("way", "prompt"),
    [(chunks.chunked, "a MyStyle, cat"), (chunks.chunked_by_words, "a embedding:MyStyle, cat")],
)
def test_an_embedding_stands_for_its_vectors_with_the_weight_of_its_piece(way, prompt):
    ((a, *vectors, comma, cat),) = way([Piece(prompt, 1.5)], TOKENIZER, {"mystyle": 3})
    assert vectors == [chunks.Token(0, 1.5, "mystyle", i) for i in range(3)]
    assert [token.id for token in (a, comma, cat)] == TOKENIZER.ids("a , cat")


@pytest.mark.parametrize("way", WAYS)
@given(st.integers(70, 76))
def test_an_embedding_is_never_split_between_two_chunks(way, before):
    name = "embedding:mystyle" if way is chunks.chunked_by_words else "mystyle"
    found = way([Piece("cat " * before + name + " dog")], TOKENIZER, {"mystyle": 4})
    held = [[token.vector for token in chunk if token.embedding] for chunk in found]
    assert [vectors for vectors in held if vectors] == [[0, 1, 2, 3]]


def test_an_unknown_embedding_of_comfyui_is_read_as_words():
    (found,) = chunks.chunked_by_words([Piece("embedding:unknown cat")], TOKENIZER)
    assert [token.id for token in found] == TOKENIZER.ids("embedding:unknown cat")
