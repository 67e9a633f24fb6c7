"""Embeddings in a prompt are found by the names of their files; only those that are named are opened."""

from pathlib import Path

import pytest

from sdcli.checkpoints import embeddings
from sdcli.errors import ModelError, UsageError
from sdcli.request.prompt.attention import parse
from sdcli.request.prompt.chunks import chunked, chunked_by_words
from sdcli.tokenizer import Tokenizer, ids
from tests.embeddings import a1111, write


def names(*texts, files=(), folder=None, prefixed=False):
    found = embeddings.named(texts, [str(file) for file in files], [folder] if folder else [], prefixed)
    return [Path(path).stem for path in found]


def tokens(text, *files, cut=chunked):
    """The ids of a prompt's first chunk, and the names that stand for vectors in it."""
    spelled = embeddings.spelled(map(str, files))
    (chunk,) = cut(parse(text), Tokenizer(), embeddings.counts(spelled))
    return [token.embedding or token.id for token in chunk]


@pytest.mark.parametrize(
    "prompt",
    ["a photo of cat-toy", "(Cat-Toy:1.3)", "[cat-toy]", "<cat-toy>, red", "a [cat-toy:dog:0.5]", "CAT-TOY",
     "cat - toy", "cat-toy AND dog", "(<cat-toy>)1.2", "x\ncat-toy"],
)  # fmt: skip
def test_a_name_is_found_wherever_its_tokens_are(tmp_path, prompt):
    a1111(tmp_path / "cat-toy.safetensors")
    assert names(prompt, folder=tmp_path) == ["cat-toy"]


@pytest.mark.parametrize("prompt", ["", "a cat", "cat, toy", "scat-toys", "cattoy"])
def test_a_name_is_not_found_where_its_tokens_are_not(tmp_path, prompt):
    a1111(tmp_path / "cat-toy.safetensors")
    assert names(prompt, folder=tmp_path) == []


def test_a_name_with_brackets_is_found_where_they_are_escaped(tmp_path):
    a1111(tmp_path / "style (v2).safetensors")
    assert names(r"a cat, style \(v2\)", folder=tmp_path) == ["style (v2)"]


def test_the_negative_prompt_names_embeddings_too(tmp_path):
    a1111(tmp_path / "EasyNegative.safetensors")
    assert names("a cat", "easynegative", folder=tmp_path) == ["EasyNegative"]


def test_only_the_files_that_are_named_are_opened(tmp_path, monkeypatch):
    for i in range(300):
        (tmp_path / f"other{i:03}x.safetensors").write_bytes(b"broken")
    a1111(tmp_path / "below" / "cat-toy.safetensors")
    opened = []
    read = embeddings.read_header
    monkeypatch.setattr(embeddings, "read_header", lambda path: opened.append(path.stem) or read(path))
    assert names("a cat-toy", folder=tmp_path) == ["cat-toy"]
    assert opened == ["cat-toy"]
    with pytest.raises(ModelError, match=r"other007x\.safetensors: only 6 bytes"):
        names("other007x", folder=tmp_path)


def test_a_file_that_is_given_goes_before_one_of_its_name_in_the_folder(tmp_path):
    own = a1111(tmp_path / "own" / "style.safetensors")
    a1111(tmp_path / "folder" / "Style.safetensors")
    assert embeddings.named(["style"], [str(own)], [tmp_path / "folder"]) == (str(own),)


def test_what_is_found_is_found_again(tmp_path):
    a1111(tmp_path / "style.safetensors")
    found = embeddings.named(["style"], [], [tmp_path])
    assert embeddings.named(["style"], found, [tmp_path]) == found
    assert embeddings.named(["style"], found, []) == found


def test_a_file_that_no_prompt_names_is_refused_with_the_word_to_type(tmp_path):
    path = a1111(tmp_path / "cat-toy.safetensors")
    with pytest.raises(UsageError, match="no prompt names it; write cat-toy where it belongs"):
        names("a dog", files=[path])
    with pytest.raises(UsageError, match="no prompt names it; write embedding:cat-toy where it belongs"):
        names("a cat-toy", files=[path], prefixed=True)
    trigger = write(tmp_path / "learned_embeds.safetensors", {"<cat-toy>": ((1, 3), [0.0] * 3)})
    with pytest.raises(UsageError, match="no prompt names it; write <cat-toy> where it belongs"):
        names("a dog", files=[trigger])


def test_two_files_of_one_name_are_refused(tmp_path):
    paths = [a1111(tmp_path / folder / "x1.safetensors") for folder in "ab"]
    with pytest.raises(UsageError, match="has the same name; rename one of them"):
        names("x1", files=paths)
    with pytest.raises(UsageError, match=r"x1 is named, and is both .*; name one with --embedding"):
        names("x1", folder=tmp_path)
    assert names("x1", files=paths[:1], folder=tmp_path) == ["x1"]


def test_a_pickle_in_the_folder_is_refused_if_it_is_named(tmp_path):
    (tmp_path / "EasyNegative.pt").write_bytes(b"PK\x03\x04" + bytes(300))
    assert names("a cat", folder=tmp_path) == []
    with pytest.raises(ModelError, match=r"EasyNegative\.pt: a pickle"):
        names("EasyNegative", folder=tmp_path)
    a1111(tmp_path / "EasyNegative.safetensors")
    assert names("EasyNegative", folder=tmp_path) == ["EasyNegative"]


@pytest.mark.parametrize(
    "prompt",
    [
        "embedding:cat-toy",
        "a embedding:Cat-Toy, red",
        "(embedding:cat-toy:1.2)",
        "embedding:cat-toy.safetensors",
    ],
)
def test_comfyui_names_an_embedding_behind_its_prefix(tmp_path, prompt):
    a1111(tmp_path / "cat-toy.safetensors")
    assert names(prompt, folder=tmp_path, prefixed=True) == ["cat-toy"]
    assert names("a cat-toy", folder=tmp_path, prefixed=True) == []


def test_an_unknown_embedding_of_comfyui_is_refused_with_the_nearest_name(tmp_path):
    a1111(tmp_path / "cat-toy.safetensors")
    with pytest.raises(
        UsageError, match="embedding:cat-toys: there is no such embedding; did you mean 'cat-toy'"
    ):
        names("a embedding:cat-toys", folder=tmp_path, prefixed=True)


def test_a_name_stands_for_its_vectors_with_brackets_and_without(tmp_path):
    path = a1111(tmp_path / "cat-toy.safetensors", 2)
    red = ids(", red")
    assert tokens("cat-toy, red", path) == ["cat-toy"] * 2 + red
    assert tokens("<cat-toy>, red", path) == ["<cat-toy>"] * 2 + red
    assert tokens("<CAT-TOY>,", path) == ["<cat-toy>"] * 2 + ids(",")
    assert tokens("a embedding:cat-toy, red", path, cut=chunked_by_words) == ids("a") + ["cat-toy"] * 2 + red


def test_a_trigger_stands_for_the_vectors_too(tmp_path):
    path = write(tmp_path / "learned_embeds.safetensors", {"<cat-toy>": ((1, 3), [0.0] * 3)})
    assert tokens("a <cat-toy>.", path) == [*ids("a"), "<cat-toy>", *ids(".")]
