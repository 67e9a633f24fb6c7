"""Words: where the words of a prompt stand in its context."""

import pytest

from sdcli.errors import UsageError
from sdcli.request.prompt.chunks import Token, chunked
from sdcli.request.prompt.pieces import BREAK, Piece
from sdcli.request.prompt.words import by_encoder, parse, positions, unknown
from sdcli.tokenizer import Tokenizer

PLAIN = Tokenizer()


def found(words, *pieces, embeddings=None):
    return positions(words, chunked(pieces, PLAIN, embeddings), PLAIN)


def test_a_word_stands_behind_the_begin_token_at_its_place_in_the_prompt():
    assert found(["cat", "hat"], Piece("a cat with a hat")) == {"cat": [2], "hat": [5]}


def test_a_word_has_the_rows_of_every_place_where_it_occurs():
    assert found(["cat"], Piece("cat, cat and a Cat"))["cat"] == [1, 3, 6]


def test_a_word_of_several_tokens_has_a_row_for_each():
    tokens = PLAIN.ids("hatshepsut")
    assert len(tokens) > 1
    assert found(["Hatshepsut"], Piece("a hatshepsut"))["Hatshepsut"] == [2 + i for i in range(len(tokens))]


def test_two_words_that_stand_side_by_side_can_be_asked_for_together():
    assert found(["red hat", "red"], Piece("red red hat")) == {"red hat": [2, 3], "red": [1, 2]}


def test_a_word_within_another_word_is_not_that_word():
    assert found(["cat"], Piece("cats in a catalogue"))["cat"] == []


def test_each_chunk_has_77_rows_of_its_own():
    assert found(["cat"], Piece("a cat"), BREAK, Piece("the big cat"))["cat"] == [2, 77 + 3]


def test_the_name_of_an_embedding_stands_for_the_rows_of_its_vectors():
    embeddings = {"mystyle": 3}
    assert found(["MyStyle"], Piece("cat by mystyle"), embeddings=embeddings)["MyStyle"] == [3, 4, 5]


def test_a_vector_of_an_embedding_is_no_token_of_a_word():
    assert positions(["!"], [(Token(0, 1.0, "mystyle", 0), Token(PLAIN.ids("!")[0]))], PLAIN)["!"] == [2]


def test_a_row_counts_if_it_is_the_word_for_one_of_two_text_encoders():
    chunks = {
        "text_encoder": chunked([Piece("a cat")], PLAIN),
        "text_encoder_2": chunked([Piece("cat")], PLAIN),
    }
    assert by_encoder(["cat"], chunks, dict.fromkeys(chunks, PLAIN)) == {"cat": [1, 2]}


def test_words_are_written_with_commas_between_them():
    assert parse("cat, red  hat,cat") == ("cat", "red hat")


@pytest.mark.parametrize("text", ["", "cat,", ",", "cat,,hat"])
def test_an_empty_word_is_refused(text):
    with pytest.raises(UsageError, match="no word"):
        parse(text)


def test_an_unknown_word_is_refused_with_the_words_of_the_prompt():
    expected = "--attention 'dog' is not in the prompt; its words are: a, cat's, half-timbered, house"
    assert str(unknown("dog", ["a (cat's:1.3) half-timbered", "A house"])).replace(", 1, 3", "") == expected
