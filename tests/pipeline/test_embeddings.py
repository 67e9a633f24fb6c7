"""Embeddings on test models: the vector of a word read from a file gives the bits of the word."""

import pytest
import torch
from safetensors.torch import save_file

from sdcli.checkpoints import checkpoint
from sdcli.checkpoints import embeddings as found_embeddings
from sdcli.errors import ModelError
from sdcli.models.load import load
from sdcli.pipeline import embeddings
from sdcli.pipeline.encode import encode_prompt
from sdcli.request.prompt.attention import parse
from sdcli.request.prompt.chunks import chunked
from sdcli.tokenizer import ids
from tests.embeddings import a1111, pair

MODELS = ["test:sd1", "test:sd2", "test:sdxl", "test:refiner"]
SIZE = (64.0, 64.0)


@pytest.fixture(scope="module")
def loaded():
    models = {}
    return lambda name: models.setdefault(name, load(name, "cpu", "float32"))


def saved(model, path, word, dtype=torch.float32):
    """A file whose vectors are those of the tokens of a word in the model's own tables."""
    rows = {
        part: model.text_encoder(part).embed(torch.tensor(ids(word))).detach().to(dtype)
        for part in model.tokenizers
    }
    if model.family.name in ("sdxl", "sdxl_refiner"):
        parts = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
        rows = {"clip_l": next(iter(rows.values())), **{parts[part]: tensor for part, tensor in rows.items()}}
    else:
        rows = {"emb_params": rows["text_encoder"]}
    save_file({name: tensor.clone() for name, tensor in rows.items()}, path)
    return str(path)


def encoded(model, text, paths=(), emphasis="none"):
    found = embeddings.learned(model, paths)
    chunks = {part: chunked(parse(text), own, found.counts) for part, own in model.tokenizers.items()}
    return encode_prompt(model, chunks, 1, SIZE, emphasis, found.vectors)


@pytest.mark.parametrize("emphasis", ["none", "no_norm", "comfyui"])
@pytest.mark.parametrize("name", MODELS)
def test_the_vectors_of_words_give_the_bits_of_the_words(loaded, tmp_path, name, emphasis):
    model = loaded(name)
    path = saved(model, tmp_path / "xqz.safetensors", "red cat")
    words = encoded(model, "a (red cat:1.3) in a hat", emphasis=emphasis)
    for spelling in ("xqz", "XQZ", "<xqz>"):
        vectors = encoded(model, f"a ({spelling}:1.3) in a hat", [path], emphasis)
        assert torch.equal(vectors.context, words.context)
        assert vectors.pooled is None or torch.equal(vectors.pooled, words.pooled)


def test_vectors_in_float16_are_put_in_as_float32(loaded, tmp_path):
    model = loaded("test:sd1")
    half = saved(model, tmp_path / "xqz.safetensors", "cat", torch.float16)
    context = encoded(model, "xqz", [half]).context
    assert context.dtype == torch.float32
    assert torch.allclose(context, encoded(model, "cat").context, atol=5e-3)


def test_no_files_are_no_embeddings(loaded):
    found = embeddings.learned(loaded("test:sdxl"), ())
    assert found.counts == {}
    assert found.vectors == {"text_encoder": {}, "text_encoder_2": {}}


@pytest.mark.parametrize(
    ("widths", "wanted", "message"),
    [
        ({"text_encoder": 768}, 1024,
         "is an embedding of 1024 values a word (SD 2), and m reads 768 values a word (SD 1); "
         "use one trained for SD 1"),
        ({"text_encoder": 1024}, 768,
         "is an embedding of 768 values a word (SD 1), and m reads 1024 values a word (SD 2); "
         "use one trained for SD 2"),
        ({"text_encoder": 768, "text_encoder_2": 1280}, 768,
         "is an embedding of 768 values a word (SD 1), and m reads 768 and 1280 values a word (SDXL); "
         "use one trained for SDXL"),
        ({"text_encoder": 768}, "pair",
         "is an embedding of 768 and 1280 values a word (SDXL), and m reads 768 values a word (SD 1); "
         "use one trained for SD 1"),
        ({"text_encoder": 128}, 768,
         "is an embedding of 768 values a word (SD 1), and m reads 128 values a word; use one trained for it"),
    ],
)  # fmt: skip
def test_another_family_s_embedding_is_one_line_that_names_both(tmp_path, widths, wanted, message):
    path = tmp_path / "cat-toy.safetensors"
    pair(path) if wanted == "pair" else a1111(path, 1, wanted)
    with pytest.raises(ModelError) as error:
        found_embeddings.check_widths("m", widths, [embeddings.embedding_file.read_header(path)])
    assert str(error.value) == f"{path} {message}"


def test_sdxl_s_refiner_reads_one_half_of_a_pair(tmp_path):
    file = embeddings.embedding_file.read_header(pair(tmp_path / "x.safetensors"))
    found_embeddings.check_widths("m", {"text_encoder_2": 1280}, [file])


@pytest.mark.parametrize("name", ["test:sd1", "test:sdxl", "tiny"])
def test_a_misfit_is_told_by_the_headers_of_the_model(tmp_path, name):
    path = a1111(tmp_path / "cat-toy.safetensors", 1, 999)
    with pytest.raises(ModelError, match=f"is an embedding of 999 values a word, and {name} reads"):
        found_embeddings.check_fit(checkpoint.read(name), [str(path)])


def test_sd_refuses_a_misfit_before_loading(sd, tmp_path, monkeypatch):
    from sdcli.models import load as loading

    monkeypatch.setattr(loading, "load_model", lambda *_: pytest.fail("the model was loaded"))
    a1111(tmp_path / "cat-toy.safetensors", 1, 1024)
    ran = sd("txt2img", "a cat-toy", "-m", "test:sd1", "--embedding", "cat-toy.safetensors")
    assert ran.code == 3
    assert "cat-toy.safetensors is an embedding of 1024 values a word (SD 2), and test:sd1 reads" in ran.err


def test_the_facts_of_a_picture_name_the_file_and_its_hash(tmp_path):
    import hashlib

    path = a1111(tmp_path / "cat-toy.safetensors")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert embeddings.facts([str(path)]) == {"cat-toy": {"file": "cat-toy.safetensors", "sha256": sha256}}
