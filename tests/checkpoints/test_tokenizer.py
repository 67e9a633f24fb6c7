"""CLIP's tokenizer gives the published ids, and those of transformers' tokenizer for any text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcli import tokenizer
from sdcli.checkpoints import tokenizer_folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("a diagram", [320, 22697]),
        ("hello, world!", [3306, 267, 1002, 256]),
        ("😀", [7334]),
        ("don't", [847, 713]),
        ("1234", [272, 273, 274, 275]),
        ("  A\n PHOTO of\ta cat ", [320, 1125, 539, 320, 2368]),
        ("", []),
    ],
)
def test_texts_with_published_ids_get_them(text, expected):
    assert tokenizer.ids(text) == expected


def test_the_vocabulary_has_its_49408_entries():
    vocab = tokenizer.vocabulary()
    assert sorted(vocab.values()) == list(range(49408))
    assert (vocab["<|startoftext|>"], vocab["<|endoftext|>"]) == (tokenizer.BEGIN, tokenizer.END)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """transformers' tokenizer, from our vocabulary as it is written into a folder."""
    from transformers import CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    for name, data in tokenizer_folder.contents(tokenizer.Tokenizer()).items():
        (folder / name).write_bytes(data)
    return CLIPTokenizer.from_pretrained(folder)


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


@settings(max_examples=300, deadline=None)
@given(
    text=WORDS
    | st.sampled_from(["it's HE'LL we've", "ﬁne ½ ǅ", "İstanbul ẞ", "a\u0301 ñ 한국어 日本 عربى", "x1y22"])
)
def test_the_ids_are_those_of_transformers(theirs, text):
    assert tokenizer.ids(text) == theirs(text, add_special_tokens=False)["input_ids"]


def test_a_long_prompt_is_cut_into_chunks_of_75_and_no_token_is_lost():
    text = "a red apple, " * 60
    chunks = tokenizer.chunks(text)
    assert [len(chunk) for chunk in chunks] == [75, 75, 75, 15]
    assert [token for chunk in chunks for token in chunk] == tokenizer.ids(text)


def test_an_empty_prompt_is_one_empty_chunk():
    assert tokenizer.chunks("") == [[]]


@pytest.mark.parametrize("pad", [49407, 0])
def test_a_chunk_is_framed_by_begin_and_end_and_padded_to_77_ids(pad):
    assert tokenizer.framed([1, 2], pad) == [49406, 1, 2, 49407, *[pad] * 73]


def test_a_full_chunk_needs_no_padding():
    assert tokenizer.framed([5] * 75) == [49406, *[5] * 75, 49407]
