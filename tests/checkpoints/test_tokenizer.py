"""CLIP's tokenizer gives the published ids, and those of transformers' tokenizer for any text."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcli import tokenizer
from sdcli.checkpoints import tokenizer_folder
from sdcli.tokenizer import bpe


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


ASCII = st.text(st.characters(max_codepoint=127))
ENGLISH = st.lists(
    st.sampled_from(["it's", "HE'LL", "masterpiece,", "(blue:1.2)", "<|endoftext|>", "x" * 60, " "])
)


@settings(max_examples=500, deadline=None)
@given(text=ASCII | ENGLISH.map(" ".join) | st.text("aehinorst' ", max_size=60))
def test_a_plain_text_has_the_ids_that_the_tokenizers_library_gives_it(text):
    assert tokenizer.ids(text) == tokenizer._backend(()).encode(text, add_special_tokens=False).ids


def test_each_ascii_character_between_letters_and_alone_has_the_ids_of_the_tokenizers_library():
    for character in map(chr, range(128)):
        for text in (character, f"a{character}b", f"a {character}{character} b"):
            assert tokenizer.ids(text) == tokenizer._backend(()).encode(text, add_special_tokens=False).ids


def test_each_token_of_the_vocabulary_has_its_letters():
    assert all(bpe.token(id) == token for token, id in tokenizer.vocabulary().items() if id < tokenizer.BEGIN)
    assert bpe.token(-1) is bpe.token(tokenizer.BEGIN) is None


def test_each_token_that_is_ascii_is_read_back_from_its_letters():
    words = [token.removesuffix("</w>") for token in tokenizer.vocabulary() if token.endswith("</w>")]
    plain = [word for word in words if bpe.is_plain(word)]
    assert len(plain) > 30_000
    ids = [tokenizer._backend(()).encode(word, add_special_tokens=False).ids for word in plain]
    assert [bpe.plain_ids(word) for word in plain] == ids


@pytest.mark.parametrize("id", [tokenizer.BEGIN, tokenizer.END, -1, 49408])
def test_an_id_of_no_text_is_named(id):
    names = {tokenizer.BEGIN: "<|startoftext|>", tokenizer.END: "<|endoftext|>"}
    assert tokenizer.Tokenizer().word(id) == names.get(id, f"#{id}")


def test_a_very_long_word_is_left_to_the_library():
    assert not bpe.is_plain("a" * 50)
    assert bpe.is_plain("a" * 49)


def test_a_plain_prompt_imports_no_library():
    program = (
        "import sys; from sdcli.tokenizer import ids; ids('a red apple'); print('tokenizers' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("False\n", "")
