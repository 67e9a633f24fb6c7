"""CLIP's tokenizer: known ids, and the same ids as transformers' from the same vocabulary."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcli.checkpoints import tokenizer


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
def test_known_ids(text, expected):
    assert tokenizer.ids(text) == expected


def test_the_vocabulary_has_its_49408_entries():
    vocab = tokenizer._tokenizer().get_vocab()
    assert sorted(vocab.values()) == list(range(49408))
    assert (vocab["<|startoftext|>"], vocab["<|endoftext|>"]) == (tokenizer.BEGIN, tokenizer.END)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """transformers' tokenizer, from our vocabulary written out as its two files."""
    from transformers import CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    model = json.loads(tokenizer._tokenizer().to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = (" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"])
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    return CLIPTokenizer.from_pretrained(folder)


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


@settings(max_examples=300, deadline=None)
@given(
    text=WORDS
    | st.sampled_from(["it's HE'LL we've", "ﬁne ½ ǅ", "İstanbul ẞ", "a\u0301 ñ 한국어 日本 عربى", "x1y22"])
)
def test_the_ids_are_those_of_transformers(theirs, text):
    assert tokenizer.ids(text) == theirs(text, add_special_tokens=False)["input_ids"]


def test_a_long_prompt_is_cut_into_chunks_and_nothing_is_lost():
    text = "a red apple, " * 60
    chunks = tokenizer.chunks(text)
    assert [len(chunk) for chunk in chunks] == [75, 75, 75, 15]
    assert [i for chunk in chunks for i in chunk] == tokenizer.ids(text)
    assert tokenizer.chunks("") == [[]]


def test_a_chunk_is_framed_to_77_ids():
    assert tokenizer.framed([1, 2]) == [49406, 1, 2, 49407, *[49407] * 73]
    assert tokenizer.framed([1, 2], pad=0)[3:] == [49407, *[0] * 73]
    assert len(tokenizer.framed([5] * 75)) == 77
