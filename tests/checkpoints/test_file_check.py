"""Files are checked value by value, and against the hashes that they record."""

import hashlib
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sdcli.checkpoints import file_check
from sdcli.checkpoints.file_check import EXPONENTS, check
from tests import embeddings

TORCH = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
         "F8_E5M2": torch.float8_e5m2, "F8_E4M3": torch.float8_e4m3fn}  # fmt: skip


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F8_E5M2", "F8_E4M3"])
def test_every_bit_pattern_is_finite_as_torch_says(dtype):
    width = 2 if dtype in ("F16", "BF16") else 1
    bits = np.arange(256**width, dtype=f"<u{width}")
    values = torch.frombuffer(bytearray(bits.tobytes()), dtype=TORCH[dtype]).float()
    assert file_check._count_not_finite(dtype, bits.tobytes()) == int((~torch.isfinite(values)).sum())


@pytest.mark.parametrize("dtype", EXPONENTS)
def test_a_value_that_is_not_finite_is_named(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr(file_check, "PIECE", 8)
    bad = torch.zeros(33).to(TORCH[dtype])
    bad[20] = torch.tensor(float("nan")).to(TORCH[dtype])
    save_file({"good": torch.ones(7).to(TORCH[dtype]), "bad": bad}, tmp_path / "x.safetensors")
    found = check(tmp_path / "x.safetensors")
    assert (found.not_finite, found.is_good, found.values) == ({"bad": 1}, False, 40)
    assert found.sha256 == hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest()


def tensors_hash(path):
    data = path.read_bytes()
    return hashlib.sha256(data[8 + struct.unpack("<Q", data[:8])[0] :]).hexdigest()


@pytest.mark.parametrize("key", ["sshs_model_hash", "modelspec.hash_sha256"])
def test_a_recorded_hash_is_that_of_the_tensors(sd, tmp_path, key):
    tensors = {
        "lora_unet_x.lora_up.weight": torch.zeros(4, 1),
        "lora_unet_x.lora_down.weight": torch.zeros(1, 4),
    }
    save_file(tensors, "x.safetensors")
    save_file(tensors, "x.safetensors", {key: "0x" + tensors_hash(tmp_path / "x.safetensors")})
    ran = sd("models", "check", "x.safetensors")
    assert ran.code == 0 and f"  recorded hash: {key}: the same" in ran.lines
    save_file({**tensors, "lora_unet_x.alpha": torch.ones(())}, "y.safetensors", {key: "0" * 64})
    ran = sd("models", "check", "x.safetensors", "y.safetensors")
    assert ran.code == 3 and "1 of the files is bad: y.safetensors" in ran.err
    assert any("another; the tensors were changed since" in line for line in ran.lines)


def test_a_file_that_is_cut_short_is_bad_and_so_is_a_pickle(sd, tmp_path):
    path = embeddings.a1111(tmp_path / "x.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    (tmp_path / "y.ckpt").write_bytes(b"PK\x03\x04" + bytes(300))
    ran = sd("models", "check", "x.safetensors", "y.ckpt")
    assert ran.code == 3 and ran.out.decode().count("bad: ") == 2
    assert "sd models convert" in ran.out.decode()


def test_a_folder_is_checked_file_by_file(sd, toy):
    ran = sd("models", "check", toy)
    assert ran.code == 0 and ran.out.decode().count("good: ") == 3, ran.err
