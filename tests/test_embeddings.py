"""`sd` with textual inversions: what is refused, what a picture records, and what `sd again` says of it."""

import json

import pytest

from sdcli.request.other_tools.recognise import recognise
from sdcli.request.png_metadata import read_png_metadata
from tests.embeddings import a1111


@pytest.fixture
def width(toy):
    return json.loads((toy / "text_encoder" / "config.json").read_text())["hidden_size"]


def recorded(path):
    return read_png_metadata(path).facts(str(path))


def test_a_picture_records_the_embeddings_of_the_folder_that_its_prompt_names(
    draw, tmp_path, monkeypatch, width
):
    from sdcli.checkpoints.hashes import digest

    path = a1111(tmp_path / "own" / "cat-toy.safetensors", 1, width)
    a1111(tmp_path / "own" / "other.safetensors", 1, width)
    monkeypatch.setenv("SDCLI_EMBEDDINGS", str(tmp_path / "own"))
    (made,) = draw("a Cat-Toy", "--seed", 1, "-o", "a.png").lines
    facts = recorded(made)
    assert facts["request"]["embedding"] == [str(path)]
    assert facts["embeddings"] == {"cat-toy": {"file": "cat-toy.safetensors", "sha256": digest([path])}}
    parameters = read_png_metadata(made).texts["parameters"]
    assert f'TI hashes: "cat-toy: {digest([path])[:12]}"' in parameters
    read = recognise({"parameters": parameters}, (64, 64))
    assert read.left["TI hashes"] == f"cat-toy: {digest([path])[:12]}"


def test_again_notes_that_an_embedding_is_another_one(draw, sd, tmp_path, width):
    path = a1111(tmp_path / "cat-toy.safetensors", 1, width)
    (made,) = draw("cat-toy", "--seed", 1, "-o", "a.png", "--embedding", path).lines
    assert "embedding" not in sd("again", made).err
    a1111(path, 1, width, value=0.25)
    assert f"{made} was made with another embedding cat-toy; the picture will differ" in sd("again", made).err


def test_again_with_another_prompt_leaves_out_what_it_does_not_name(draw, sd, tmp_path, width):
    path = a1111(tmp_path / "cat-toy.safetensors", 1, width)
    (made,) = draw("cat-toy", "--seed", 1, "-o", "a.png", "--embedding", path).lines
    ran = sd("again", made, "--prompt", "a dog", "-o", "b.png")
    assert ran.code == 0
    assert f"{made} was made with embedding cat-toy; the picture will differ" in ran.err
    assert "embedding" not in recorded(ran.lines[0])["request"]


def test_an_embedding_that_no_prompt_names_is_refused(draw, tmp_path, width):
    a1111(tmp_path / "cat-toy.safetensors", 1, width)
    ran = draw("a dog", "--embedding", "cat-toy.safetensors")
    assert ran.code == 2
    assert "--embedding cat-toy.safetensors: no prompt names it; write cat-toy where it belongs" in ran.err


def test_an_embedding_changes_the_picture(draw, tmp_path, width):
    path = a1111(tmp_path / "cat-toy.safetensors", 1, width)
    (word,) = draw("cat-toy", "--seed", 1, "-o", "a.png").lines
    (vector,) = draw("cat-toy", "--seed", 1, "-o", "b.png", "--embedding", path).lines
    pixels = [read_pixels(each) for each in (word, vector)]
    assert pixels[0] != pixels[1]


def read_pixels(path):
    from PIL import Image

    with Image.open(path) as image:
        return image.tobytes()


def test_again_takes_no_embedding_that_was_put_in_the_folder_since(draw, sd, tmp_path, monkeypatch, width):
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("SDCLI_EMBEDDINGS", str(tmp_path / "own"))
    (made,) = draw("a cat", "--seed", 1, "-o", "a.png").lines
    a1111(tmp_path / "own" / "cat.safetensors", 1, width)
    (same,) = sd("again", made, "-o", "b.png").lines
    assert read_pixels(made) == read_pixels(same)
    (other,) = sd("again", made, "--prompt", "a cat", "-o", "c.png").lines
    assert read_pixels(made) != read_pixels(other)


def test_batches_and_sweeps_take_no_embedding_that_was_put_in_the_folder_since(
    draw, sd, tmp_path, monkeypatch, width
):
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("SDCLI_EMBEDDINGS", str(tmp_path / "own"))
    (made,) = draw("a cat", "--seed", 1, "-o", "a.png").lines
    a1111(tmp_path / "own" / "cat.safetensors", 1, width)
    (batched,) = sd("batch", made, "-o", "batched").lines
    (swept,) = sd("again", made, "--sweep", "seed=1", "-o", "swept").lines
    assert read_pixels(made) == read_pixels(batched) == read_pixels(swept)


def test_a_literal_prompt_takes_no_embedding_from_the_folder(draw, tmp_path, monkeypatch, width):
    path = a1111(tmp_path / "own" / "cat.safetensors", 1, width)
    monkeypatch.setenv("SDCLI_EMBEDDINGS", str(tmp_path / "own"))
    (made,) = draw("a cat", "--seed", 1, "--emphasis", "none", "-o", "a.png").lines
    assert "embedding" not in recorded(made)["request"]
    (given,) = draw("a cat", "--seed", 1, "--emphasis", "none", "--embedding", path, "-o", "b.png").lines
    assert read_pixels(made) != read_pixels(given)


def test_tokens_shows_the_vectors_of_an_embedding(sd, toy, tmp_path, width):
    path = a1111(tmp_path / "cat-toy.safetensors", 3, width)
    assert sd("tokens", "a cat-toy", "-m", toy, "--embedding", path).lines == [
        "chunk: 4 of 75 tokens",
        "  a·320 cat-toy[1]·0 cat-toy[2]·0 cat-toy[3]·0",
    ]


def test_an_embedding_of_another_family_is_refused_by_tokens_and_by_a_plan(sd, toy, tmp_path):
    path = a1111(tmp_path / "cat-toy.safetensors", 1, 768)
    for command in (("tokens", "a cat-toy"), ("txt2img", "a cat-toy", "--plan")):
        ran = sd(*command, "-m", toy, "--embedding", path)
        assert (ran.code, "768 values a word (SD 1)" in ran.err) == (3, True), ran.err


def test_a_plan_refuses_a_second_prompt_of_a_model_with_one_encoder(sd, toy):
    ran = sd("txt2img", "a cat", "-m", toy, "--prompt-2", "a dog", "--plan")
    assert ran.code == 2 and "has one text encoder" in ran.err
