"""A damaged file is a ModelError, or read as safetensors itself reads it; a whole one is read without its weights."""

import json
import random
import struct
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open

from sdcli.checkpoints import header
from sdcli.errors import ModelError


def file(tensors: dict, data: bytes = b"", extra: str = "") -> bytes:
    """A safetensors file of these descriptions and data; `extra` follows the header's JSON."""
    text = (json.dumps(tensors) + extra).encode()
    return struct.pack("<Q", len(text)) + text + data


WHOLE = file(
    {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "F16", "shape": [3], "data_offsets": [16, 22]},
        "c": {"dtype": "BF16", "shape": [0, 5], "data_offsets": [22, 22]},
    },
    bytes(22),
)


def accepted_by_safetensors(path: Path) -> bool:
    try:
        with safe_open(path, framework="np") as opened:
            list(opened.keys())
    except SafetensorError:
        return False
    return True


def mutants(seed: int, count: int):
    """WHOLE with one to three changes each: a byte replaced, bytes deleted or inserted, a bit flipped."""
    draw = random.Random(seed)
    for _ in range(count):
        mutant = bytearray(WHOLE)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(mutant))
            kind = draw.randrange(4)
            if kind == 0:
                mutant[at] = draw.randrange(256)
            elif kind == 1:
                del mutant[at : at + draw.randint(1, 9)]
            elif kind == 2:
                mutant[at:at] = draw.choice([b"0", b"9", b"-", b"e9", b'"', b"[", b"}", b"null", b"1e99"])
            else:
                mutant[at] ^= 1 << draw.randrange(8)
            mutant = mutant or bytearray(b"x")
        yield bytes(mutant)


def is_read(path: Path, mutant: bytes) -> bool:
    """True if the file is read, False if it is refused in one line; any other error is a failure."""
    path.write_bytes(mutant)
    try:
        found = header.read(path)
    except ModelError as error:
        assert "\n" not in str(error)
        return False
    assert all(0 < entry.start <= entry.end <= len(mutant) for entry in found.tensors.values())
    return True


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_is_refused_or_read_as_safetensors_reads_it(tmp_path, seed):
    path = tmp_path / "x.safetensors"
    for mutant in mutants(seed, 500):
        if is_read(path, mutant):
            assert accepted_by_safetensors(path), mutant


@pytest.mark.slow
def test_two_hundred_thousand_damaged_files_are_refused_in_one_line_or_read(tmp_path):
    for mutant in mutants(99, 200_000):
        is_read(tmp_path / "x.safetensors", mutant)


NOT_SAFETENSORS = {
    "a hole": file({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, bytes(8)),
    "an overlap": file(
        {
            "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        },
        bytes(4),
    ),
    "a key twice": b"\x4e\0\0\0\0\0\0\0"
    + b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":1}'.ljust(78),
    "too long": WHOLE + b"x",
    "truncated": WHOLE[:-1],
    "a wrong size": file({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)),
    "a strange dtype": file({"a": {"dtype": "F7", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "a negative side": file({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
    "a huge side": file({"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 4]}}, bytes(4)),
    "a side that is true": file({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, bytes(4)),
    "no dtype": file({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "odd metadata": file({"__metadata__": {"a": 1}}),
    "deep JSON": file({}, extra="[" * 100_000),
    "a header of 100 MB and a byte": struct.pack("<Q", 100_000_001) + bytes(64),
    "a header of 2^63 bytes": struct.pack("<Q", 2**63) + bytes(64),
}


@pytest.mark.parametrize("fault", NOT_SAFETENSORS)
def test_a_file_that_breaks_the_format_is_refused(tmp_path, fault):
    assert not is_read(tmp_path / "x.safetensors", NOT_SAFETENSORS[fault])


def test_a_shape_whose_size_has_thousands_of_digits_is_refused(tmp_path):
    """It once ended in a traceback: Python does not write out whole numbers of more than 4300 digits."""
    shape = [2**62] * 300
    assert not is_read(
        tmp_path / "x.safetensors",
        file({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}, bytes(4)),
    )


def test_a_whole_file_is_read_without_its_weights(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(WHOLE)
    found = header.read(path)
    assert {name: (entry.dtype, entry.shape) for name, entry in found.tensors.items()} == {
        "a": ("F32", (2, 2)),
        "b": ("F16", (3,)),
        "c": ("BF16", (0, 5)),
    }
    assert found.metadata == {"format": "pt"}
    assert found.values("b") == [0, 0, 0]
    assert found.values("a") == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("F64", torch.float64),
        ("F32", torch.float32),
        ("F16", torch.float16),
        ("BF16", torch.bfloat16),
        ("F8_E4M3", torch.float8_e4m3fn),
        ("F8_E5M2", torch.float8_e5m2),
    ],
)
def test_the_values_of_every_float_dtype_are_those_that_torch_reads(tmp_path, kind, dtype):
    data = bytes(range(256)) * 8
    width = dtype.itemsize
    described = {"a": {"dtype": kind, "shape": [len(data) // width], "data_offsets": [0, len(data)]}}
    (tmp_path / "x.safetensors").write_bytes(file(described, data))
    ours = torch.tensor(header.read(tmp_path / "x.safetensors").values("a"), dtype=torch.float64)
    theirs = torch.frombuffer(bytearray(data), dtype=dtype).double()
    assert torch.allclose(ours, theirs, rtol=0, atol=0, equal_nan=True)
