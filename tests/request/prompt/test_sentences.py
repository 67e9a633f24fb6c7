"""Chunks that end with a sentence, a phrase or a word, as compel cuts a long prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.request.prompt.chunks import Token
from sdcli.request.prompt.sentences import chunked_by_sentences
from sdcli.tokenizer import ids


def lengths(text: str) -> list[int]:
    return [len(chunk) for chunk in chunked_by_sentences(tuple(map(Token, ids(text))))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [0]),
        ("cat " * 75, [75]),
        ("cat " * 80, [75, 5]),
        ("cat " * 30 + ". " + "cat , " * 30, [31, 60]),  # the full stop, though commas come later
        ("cat " * 30 + ", " + "cat " * 50, [31, 50]),
        ("cat " * 73 + "antidisestablishmentarianism", [73, 6]),  # a word is not cut
        ("cat " * 160 + ".", [75, 75, 11]),
    ],
)
def test_a_chunk_ends_with_a_sentence_a_phrase_or_a_word(text, expected):
    assert lengths(text) == expected


def test_an_embedding_has_no_ends_of_words():
    vectors = tuple(Token(0, 1.0, "x", i) for i in range(80))
    assert [len(chunk) for chunk in chunked_by_sentences(vectors)] == [75, 5]


@given(st.lists(st.sampled_from([267, 269, 2368, 320, 1000, 5]), max_size=400))
def test_no_token_is_dropped(row):
    tokens = tuple(map(Token, row))
    chunks = chunked_by_sentences(tokens)
    assert sum(chunks, ()) == tokens
    assert all(len(chunk) <= 75 for chunk in chunks)
