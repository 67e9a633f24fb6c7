"""Embedding files: every form is read, by its header without torch; what cannot be used is refused in one line."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdcli.checkpoints.embedding_file import is_embedding, read_header, read_vectors
from sdcli.errors import ModelError
from tests import embeddings
from tests.embeddings import write

NUMBERS = [0.0, 1.0, -2.5, 0.125, 3.0, 4.0]


def one(path: Path, key: str, shape=(2, 3)) -> Path:
    return write(path, {key: (shape, NUMBERS[: torch.Size(shape).numel()])})


@pytest.mark.parametrize("key", ["emb_params", "<cat-toy>", "cat-toy", "string_to_param.*", "clip_l"])
def test_the_only_tensor_of_a_file_is_the_embedding(tmp_path, key):
    found = read_header(one(tmp_path / "my.style.safetensors", key))
    assert (found.name, found.vectors, found.widths) == ("my.style", 2, {"clip": 3})
    assert read_vectors(found.path)["clip"].equal(torch.tensor(NUMBERS).reshape(2, 3))


def test_one_vector_may_have_one_dimension(tmp_path):
    found = read_header(one(tmp_path / "a.safetensors", "<cat-toy>", (3,)))
    assert (found.vectors, found.widths) == (1, {"clip": 3})
    assert read_vectors(found.path)["clip"].shape == (1, 3)


@pytest.mark.parametrize("keys", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
def test_a_pair_has_vectors_for_each_text_encoder(tmp_path, keys):
    path = write(tmp_path / "x.safetensors", {keys[1]: ((2, 2), NUMBERS[:4]), keys[0]: ((2, 1), [8.0, 9.0])})
    assert read_header(path).widths == {"clip_l": 1, "clip_g": 2}
    vectors = read_vectors(path)
    assert vectors["clip_l"].tolist() == [[8.0], [9.0]]
    assert vectors["clip_g"].tolist() == [[0.0, 1.0], [-2.5, 0.125]]


@pytest.mark.parametrize(("key", "trigger"), [("<cat-toy>", "<cat-toy>"), ("sks", "sks"), ("emb_params", ""),
                                              ("string_to_param.*", ""), ("clip_l", "")])  # fmt: skip
def test_the_word_that_diffusers_saves_is_the_trigger(tmp_path, key, trigger):
    assert read_header(one(tmp_path / "a.safetensors", key)).trigger == trigger


@pytest.mark.parametrize(("width", "models"), [(768, "SD 1"), (1024, "SD 2"), (5, "")])
def test_the_width_tells_which_models_it_is_for(tmp_path, width, models):
    assert read_header(embeddings.a1111(tmp_path / "a.safetensors", 1, width)).trained_for == models


def test_two_widths_are_those_of_sdxl(tmp_path):
    assert read_header(embeddings.pair(tmp_path / "a.safetensors")).trained_for == "SDXL"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_vectors_of_any_float_dtype_become_float32(tmp_path, dtype):
    from safetensors.torch import save_file

    stored = torch.tensor(NUMBERS).reshape(2, 3).to(dtype)
    save_file({"emb_params": stored}, tmp_path / "a.safetensors")
    vectors = read_vectors(tmp_path / "a.safetensors")["clip"]
    assert vectors.dtype == torch.float32
    assert vectors.equal(stored.float())


REFUSED = {
    "has dimensions": ({"emb_params": ((1, 2, 3), NUMBERS)}, "'emb_params' has 3 dimensions"),
    "is empty": ({"emb_params": ((0, 768), [])}, "'emb_params' is empty"),
    "has no width": ({"emb_params": ((2, 0), [])}, "'emb_params' is empty"),
    "has 76 vectors": ({"emb_params": ((76, 1), [0.0] * 76)}, "has 76 vectors, and a chunk of a prompt takes 75"),
    "is a LoRA": ({f"lora_{i}": ((1,), [0.0]) for i in range(9)}, r"has 9 tensors .*, and is no embedding"),
    "has nothing": ({}, "has no tensors, and is no embedding"),
    "is for SD 3": ({"clip_l": ((1, 1), [0.0]), "clip_g": ((1, 1), [0.0]), "t5": ((1, 1), [0.0])}, "has 3 tensors"),
    "is no pair": ({"clip_l": ((1, 1), [0.0]), "clip_g": ((2, 1), [0.0, 0.0])}, "has 1 and 2 vectors"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_is_refused_that(tmp_path, case):
    tensors, message = REFUSED[case]
    with pytest.raises(ModelError, match=rf"a\.safetensors: {message}"):
        read_header(write(tmp_path / "a.safetensors", tensors))


def test_whole_numbers_are_no_embedding(tmp_path):
    with pytest.raises(ModelError, match="stored as I32, which no embedding is"):
        read_header(write(tmp_path / "a.safetensors", {"emb_params": ((1, 2), [0.0, 1.0])}, "I32"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    path = write(tmp_path / "a.safetensors", {"emb_params": ((1, 2), [1.0, value])})
    with pytest.raises(ModelError, match="'emb_params' has values that are not finite"):
        read_vectors(path)


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"\x80\x02}q"])
def test_a_pickle_is_never_read(tmp_path, head):
    path = tmp_path / "EasyNegative.pt"
    path.write_bytes(head + bytes(300))
    with pytest.raises(
        ModelError,
        match=r"EasyNegative\.pt: a pickle .*`sd models convert FILE",
    ):
        read_header(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ModelError, match="there is no such embedding; check the path"):
        read_header(tmp_path / "none.safetensors")
    with pytest.raises(ModelError, match="is a folder"):
        read_header(tmp_path)


def test_what_no_model_can_read_is_not_taken_for_an_embedding(tmp_path):
    assert is_embedding(embeddings.a1111(tmp_path / "a.safetensors"))
    assert not is_embedding(one(tmp_path / "c.safetensors", "emb_params"))
    assert not is_embedding(write(tmp_path / "b.safetensors", {"a": ((1,), [0.0]), "b": ((1,), [0.0])}))
    assert not is_embedding(tmp_path / "none.safetensors")


KEYS = st.sampled_from(["emb_params", "<a>", "clip_l", "clip_g", "x.y", "", "t5"])


@given(
    tensors=st.dictionaries(KEYS, st.lists(st.integers(0, 80), max_size=3), max_size=3),
    dtype=st.sampled_from(["F32", "I32", "F64", "BOOL"]),
    cut=st.integers(0, 12),
)
def test_any_header_is_an_embedding_or_a_model_error(tmp_path_factory, tensors, dtype, cut):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    values = {key: torch.Size(shape).numel() for key, shape in tensors.items()}
    write(path, {key: (shape, [0.0] * min(values[key], 4096)) for key, shape in tensors.items()}, dtype)
    path.write_bytes(path.read_bytes()[: -cut or None])
    try:
        found = read_header(path)
    except ModelError as error:
        assert "\n" not in str(error)
    else:
        assert 1 <= found.vectors <= 75
        assert all(width > 0 for width in found.widths.values())


def test_a_header_is_read_without_torch(tmp_path):
    path = embeddings.a1111(tmp_path / "a.safetensors")
    code = (
        "import sys; from pathlib import Path; from sdcli.checkpoints.embedding_file import read_header;"
        "print(read_header(Path(sys.argv[1])).vectors, 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["2", "False"]


def test_info_says_what_an_embedding_is_for_and_how_it_is_typed(sd, tmp_path):
    embeddings.write(tmp_path / "learned.safetensors", {"<cat-toy>": ((2, 768), [0.5] * 1536)})
    lines = sd("info", "learned.safetensors").lines
    assert lines[0] == "learned.safetensors: an embedding for SD 1"
    assert lines[1:4] == ["  typed as: learned, <cat-toy>", "  vectors: 2", "  width: 768 values a vector"]
    assert (
        "is an embedding for SD 1; leave it out"
        in sd("info", "learned.safetensors", "--prediction", "sample").err
    )
