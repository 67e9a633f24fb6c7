"""Files that are no models, damaged ones and hostile ones: each is refused in one line that says what it is."""

import json
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from sdcli.checkpoints import checkpoint, header
from sdcli.checkpoints.completeness import check_tensors
from sdcli.checkpoints.component import Component
from sdcli.checkpoints.keys.types import Source
from sdcli.errors import ModelError
from sdcli.models.build import build_random
from sdcli.models.device import Placement
from sdcli.models.load import load_weights
from tests.checkpoints.test_checkpoint import published, shapes_of, write
from tests.checkpoints.test_header import file
from tests.damaged import damaged


def one(dtype="F32", shape=(1,), offsets=(0, 4), data=bytes(4), name="a") -> bytes:
    """A safetensors file with one tensor that is described so."""
    return file({name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}}, data)


def headed(text: bytes, data: bytes = b"") -> bytes:
    """A file with this text as its header."""
    return struct.pack("<Q", len(text)) + text + data


NOT_A_MODEL: dict[str, tuple[bytes, str]] = {  # what it is -> the file, what the message says
    "nothing": (b"", "empty"),
    "one byte": (b"x", "only 1 bytes"),
    "seven bytes": (b"\1" * 7, "only 7 bytes"),
    "a length and no more": (bytes(8), "only 8 bytes"),
    "an LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2\n", "git lfs pull"),
    "a web page": (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
    "a web page in small letters": (b"<!doctype html>" * 9, "a web page"),
    "a web page behind blank lines": (b"\r\n\r\n  <HTML>" + b"x" * 99, "a web page"),
    "a web page with a byte order mark": (b"\xef\xbb\xbf<html>" + b"x" * 99, "a web page"),
    "an XML answer": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web page"),
    "a JSON answer": (b'{"error": "Invalid username or password."}', "a text ('{\"error\""),
    "an answer in plain text": (b"Entry not found, sorry", "a text ('Entry not found"),
    "a zip": (b"PK\x03\x04" + bytes(99), "zip file"),
    **{f"a pickle of protocol {i}": (bytes([0x80, i]) + b"}q\0." * 9, "a pickle") for i in range(2, 6)},
    "an old torch pickle": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "a pickle"),
    "GGUF": (b"GGUF\3\0\0\0" + bytes(99), "a GGUF file"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
    "gzip": (b"\x1f\x8b\x08" + bytes(99), "unpack it first"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(99), "unpack it first"),
    "RAR": (b"Rar!\x1a\7" + bytes(99), "unpack it first"),
    "a PDF": (b"%PDF-1.7\n" + bytes(99), "a PDF"),
    "a TIFF": (b"II*\0" + bytes(99), "a picture, not a model"),
    "a WebP": (b"RIFF\x99\0\0\0WEBP" + bytes(99), "a picture, not a model"),
    "a PNG": (b"\x89PNG\r\n\x1a\n" + bytes(99), "a picture, not a model"),
    "a JPEG": (b"\xff\xd8\xff\xe0" + bytes(99), "a picture, not a model"),
    "noise": (random.Random(1).randbytes(999), "its header would be"),
    "zeros": (bytes(999), "not JSON"),
    **{
        f"a header of {size:,} bytes": (struct.pack("<Q", size) + b"{" + bytes(99), words)
        for size, words in {
            2**31: "its header would be 2,147,483,648 bytes",
            2**63: "its header would be",
            2**64 - 1: "its header would be",
            100_000_001: "its header would be 100,000,001 bytes",
            100_000_000: "fetch it again, whole",
            101: "fetch it again, whole",
        }.items()
    },
    "a header that is no JSON": (headed(b"nope nope"), "not JSON"),
    "a header that is a list": (headed(b"[]       "), "no JSON object"),
    "a header that is no UTF-8": (headed(b'{"\xff":1}'), "not JSON"),
    "half a header": (headed(b'{"a":{"dtype":"F3'), "not JSON"),
    "a deeply nested header": (headed(b'{"a":' + b"[" * 50_000), "not JSON"),
    "a tensor that is a number of 5000 digits": (headed(b'{"a":' + b"9" * 5000 + b"}"), "not JSON"),
    "a tensor that is NaN": (headed(b'{"a":NaN}'), "not described"),
    "a tensor given twice": (headed(b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":1}'), "a key twice"),
    "a shape twice": (headed(b'{"a":{"dtype":"F32","shape":[0],"shape":[0],"data_offsets":[0,0]}}'), "a key twice"),
    "a tensor that is a number": (file({"a": 1}), "not described"),
    "a tensor without a dtype": (file({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4)), "not described"),
    "a tensor without data_offsets": (file({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)), "not described"),
    "data_offsets of three numbers": (one(offsets=(0, 4, 4)), "not described"),
    "a shape of words": (one(shape=["1"]), "not described"),
    "a shape that is a number": (one(shape=1), "not described"),
    "a side of minus one": (one(shape=[-1]), "not described"),
    "a side of one and a half": (one(shape=[1.5]), "not described"),
    "a side that is true": (one(shape=[True]), "not described"),
    "a side of 2^62": (one(shape=[2**62, 4]), "bytes, not"),
    "a side of 2^64": (one(shape=[2**64]), "not described"),
    "data_offsets before the data": (one(offsets=(-4, 0)), "not described"),
    "data_offsets that end before they begin": (one(offsets=(4, 0)), "bytes, not"),
    "data_offsets of the wrong size": (one(shape=[2]), "has 4 bytes, not 8"),
    "an unknown dtype": (one("F7"), "stored as 'F7'"),
    "a dtype that is a number": (file({"a": {"dtype": 7, "shape": [1], "data_offsets": [0, 4]}}), "not described"),
    "a gap before a tensor": (one(offsets=(4, 8), data=bytes(8)), "leaves a hole"),
    "tensors that overlap": (
        file({k: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for k in "ab"}, bytes(4)),
        "overlaps",
    ),
    "bytes after the last tensor": (one(data=bytes(5)), "1 bytes too long"),
    "a last tensor cut short": (one(data=bytes(3)), "the download is incomplete"),
    "metadata that are numbers": (file({"__metadata__": {"a": 1}}), "not texts"),
    "metadata that are a list": (file({"__metadata__": ["a"]}), "not texts"),
    "no tensor at all": (file({}), "no U-Net in it"),
    "a model of another kind": (one(), "no U-Net in it"),
    "a tensor named like a path upwards": (one(name="../../etc/x"), "no U-Net in it"),
    "a tensor whose name holds terminal codes": (one(name="\x1b[2J\r\nx"), "no U-Net in it, only \\x1b[2J x"),
    "a tensor whose name is 5 KB long": (one(name="x" * 5000), "name has 5,000 letters"),
}  # fmt: skip


def check_refused(ran, words: str) -> None:
    """One printable line of moderate length on standard error, with these words, and exit code 3."""
    assert (ran.code, ran.out) == (3, b""), ran
    assert len(ran.err.splitlines()) == 1
    assert ran.err.strip().isprintable()
    assert words in ran.err
    assert len(ran.err) < 300


@pytest.mark.parametrize("what", NOT_A_MODEL)
def test_a_file_that_is_no_model_is_one_line_that_says_what_it_is(sd, what):
    data, words = NOT_A_MODEL[what]
    for name in ("x.safetensors", "x.ckpt", "x"):
        Path(name).write_bytes(data)
        if "a picture" not in words:  # `sd info` reads it as one
            check_refused(sd("info", name), words)
        check_refused(sd("txt2img", "a cat", "-m", f"./{name}"), words)


@pytest.mark.parametrize("name", ["~nosuchuser/x", "x" * 300, "me/" + "x" * 300, "x" * 300 + ".safetensors"])
@pytest.mark.parametrize("option", ["-m", "--vae"])
def test_a_name_that_no_file_can_have_is_one_line(sd, option, name):
    ran = sd("txt2img", "a cat", option, name)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (3, b"", 1), ran


def test_a_pipe_is_refused_and_not_waited_for(sd):
    os.mkfifo("x.safetensors")
    check_refused(sd("info", "x.safetensors"), "a pipe or a device")
    check_refused(sd("txt2img", "a cat", "--vae", "x.safetensors"), "a pipe or a device")


def test_a_vae_that_does_not_exist_is_named(sd, toy):
    ran = sd("txt2img", "a cat", "-m", toy, "--vae", "no.safetensors")
    check_refused(ran, "--vae no.safetensors: no such file")


def test_a_folder_that_holds_another_network_is_no_vae(sd, toy):
    check_refused(sd("txt2img", "a cat", "-m", toy, "--vae", toy / "unet"), "unet: no VAE in it")


def test_a_vae_whose_config_makes_no_sense_is_refused(sd, toy):
    folder = Path(shutil.copytree(toy / "vae", "other"))
    (folder / "config.json").write_text('{"down_block_types": ["x"]}')
    ran = sd("txt2img", "a cat", "-m", toy, "--vae", folder)
    check_refused(ran, "other: config.json describes no network")


TAESD_HALVES = {  # case -> the file that is named, the first tensor of each file, what the message says
    "the other half is missing": (
        "taesd_decoder",
        {"taesd_decoder": "1.weight"},
        "the other is not beside it as taesd_encoder.safetensors; get both",
    ),
    "the name says nothing of the other": (
        "small",
        {"small": "0.weight"},
        "half of a tiny autoencoder, and its name has no encoder",
    ),
    **{
        f"the other half has a tensor {name}": (
            "taesd_decoder",
            {"taesd_decoder": "1.weight", "taesd_encoder": name},
            f"{name} is no tensor of a tiny autoencoder's encoder",
        )
        for name in ("conv.weight", "01.weight", "1000000.weight")
    },
    "both lack layers": (
        "taesd_decoder",
        {"taesd_decoder": "1.weight", "taesd_encoder": "0.weight"},
        "missing",
    ),
}


@pytest.mark.parametrize("case", TAESD_HALVES)
def test_half_of_a_tiny_autoencoder_without_a_fitting_other_half_is_refused(sd, toy, case):
    named, tensors, words = TAESD_HALVES[case]
    for name, tensor in tensors.items():
        Path(f"{name}.safetensors").write_bytes(one(name=tensor))
    check_refused(sd("txt2img", "a cat", "-m", toy, "--vae", f"{named}.safetensors"), words)


def test_half_of_a_tiny_autoencoder_is_no_model(sd):
    Path("taesd_decoder.safetensors").write_bytes(one(name="1.weight"))
    check_refused(sd("info", "taesd_decoder.safetensors"), "half of a tiny autoencoder, which --vae takes")


@pytest.fixture
def broken(toy, tmp_path) -> Path:
    """A copy of the toy model, for a test to damage."""
    return Path(shutil.copytree(toy, tmp_path / "broken"))


def test_a_folder_whose_unet_has_the_names_of_a_single_file_is_refused(sd, broken):
    (broken / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(one(name="model.diffusion_model.x"))
    check_refused(sd("txt2img", "a cat", "-m", broken), "no conv_in.weight in it, as a folder's U-Net has")


SAYS_NOTHING = "does not say which file beside it holds which tensor"
BAD_SHARDS = {  # fault -> (tensor -> file, second file) of an index and its files, what the message says
    "the second file is missing": (lambda files, first, second: (files, None), "no such file"),
    "the index is empty": (lambda files, first, second: ({}, second.read_bytes()), SAYS_NOTHING),
    "the index is a list": (lambda files, first, second: ([1], second.read_bytes()), SAYS_NOTHING),
    "a file name is no text": (
        lambda files, first, second: ({"conv_in.bias": {}}, second.read_bytes()),
        SAYS_NOTHING,
    ),
    "the files are in another folder": (
        lambda files, first, second: (
            {k: f"../vae/{name}" for k, name in files.items()},
            second.read_bytes(),
        ),
        SAYS_NOTHING,
    ),
    "a tensor is in no file": (
        lambda files, first, second: (files | {"x": first.name}, second.read_bytes()),
        "is not where it says",
    ),
    "a tensor is not in the index": (
        lambda files, first, second: (dict(list(files.items())[1:]), second.read_bytes()),
        "is not where it says",
    ),
    "a tensor is in the other file": (
        lambda files, first, second: (files | {"conv_in.bias": second.name}, second.read_bytes()),
        "is not where it says",
    ),
    "both files are the same": (
        lambda files, first, second: (files, first.read_bytes()),
        "is in two of its files",
    ),
    "the second file is cut short": (
        lambda files, first, second: (files, second.read_bytes()[:-1]),
        "the download is incomplete",
    ),
}


@pytest.mark.parametrize("fault", BAD_SHARDS)
def test_an_index_and_files_that_disagree_are_refused(sd, broken, shard, fault):
    damage, words = BAD_SHARDS[fault]
    index, first, second = shard(broken / "unet")
    files, second_data = damage(json.loads(index.read_text())["weight_map"], first, second)
    index.write_text(json.dumps({"weight_map": files}))
    second.unlink() if second_data is None else second.write_bytes(second_data)
    check_refused(sd("txt2img", "a cat", "-m", broken), words)


BAD_INDEXES = {
    "an empty object": "{}",
    "half an object": "[",
    "deep JSON": "[" * 100_000,
    "millions of lists": '{"weight_map": [' + "[]," * 500_000,
}


@pytest.mark.parametrize("what", BAD_INDEXES)
def test_an_index_that_is_none_is_refused(sd, broken, shard, what):
    index, *_ = shard(broken / "unet")
    index.write_text(BAD_INDEXES[what])
    check_refused(sd("txt2img", "a cat", "-m", broken), SAYS_NOTHING)


def test_shards_without_an_index_are_refused(sd, broken, shard):
    index, *_ = shard(broken / "unet")
    index.unlink()
    check_refused(sd("txt2img", "a cat", "-m", broken), "no diffusion_pytorch_model.safetensors in it")


def test_an_index_that_is_a_pipe_is_refused_and_not_waited_for(sd, broken, shard):
    index, *_ = shard(broken / "unet")
    index.unlink()
    os.mkfifo(index)
    check_refused(sd("txt2img", "a cat", "-m", broken), "no diffusion_pytorch_model.safetensors in it")


def test_an_index_named_as_a_model_is_refused_with_what_to_name(sd, broken, shard):
    index, *_ = shard(broken / "unet")
    check_refused(sd("txt2img", "a cat", "-m", index), "a JSON file, not the model; name the folder it is in")


def test_a_config_of_a_megabyte_is_not_read(sd, broken):
    (broken / "unet" / "config.json").write_text(" " * 10**6 + "{}")
    check_refused(sd("txt2img", "a cat", "-m", broken), "far more than a config has")


def test_a_value_that_is_not_finite_is_reported_with_the_shard_it_is_in(sd, broken, shard):
    _, _, second = shard(broken / "unet")
    tensors = load_file(second)
    tensors[min(tensors)].fill_(torch.nan)
    save_file(tensors, second)
    check_refused(sd("txt2img", "a cat", "-m", broken), f"{second.name}: 1 tensor")
    check_refused(sd("models", "convert", broken, "out"), f"{second.name}: {min(tensors)}: not finite")


@pytest.mark.parametrize("what", [what for what, (_, words) in NOT_A_MODEL.items() if "U-Net" not in words])
def test_a_file_in_a_folder_that_is_no_model_is_one_line_that_says_what_it_is(sd, broken, what):
    data, words = NOT_A_MODEL[what]
    (broken / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(data)
    check_refused(sd("info", broken), words)
    check_refused(sd("txt2img", "a cat", "-m", broken), words)


def test_a_file_cut_short_anywhere_is_refused(toy, tmp_path):
    data = (toy / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    path = tmp_path / "x.safetensors"
    for size in [*range(0, len(data), 4096), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(ModelError):
            header.read(path)


@pytest.mark.parametrize("length", [0x0280, 0x0580, 0x8B1F])
def test_a_header_whose_length_looks_like_a_pickle_or_gzip_is_read(tmp_path, length):
    text = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    (tmp_path / "x.safetensors").write_bytes(headed(text, bytes(4)))
    assert list(header.read(tmp_path / "x.safetensors").tensors) == ["a"]


def test_weights_stored_as_whole_numbers_are_refused(tmp_path):
    path = write(tmp_path / "x.safetensors", published("sd15"))
    with open(path, "r+b") as opened:
        beginning = opened.read(4096)
        opened.seek(0)
        opened.write(beginning.replace(b'"F16"', b'"I16"'))
    with pytest.raises(ModelError, match="stored as I16"):
        checkpoint.read(str(path))


CONFIG = {
    "vocab_size": 20, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1,
    "max_position_embeddings": 5, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
}  # fmt: skip


def is_loaded(path: Path, network: torch.nn.Module, mutant: bytes) -> bool:
    """Load a damaged file as a model's is loaded; False if it is refused in one line.

    Any other error is a failure, and so is a weight that is not finite.
    """
    path.write_bytes(mutant)
    try:
        head = header.read(path)
        component = Component(CONFIG, head, {key: Source(key) for key in head.tensors})
        network.to("meta")
        check_tensors(component, shapes_of(network))
        load_weights("text_encoder", network, component, Placement(torch.device("cpu"), torch.float32))
    except ModelError as error:
        assert "\n" not in str(error)
        return False
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())
    return True


@pytest.fixture
def small():
    """(a text encoder, the bytes of its file)."""
    network = build_random("text_encoder", CONFIG)
    return network, save(network.state_dict())


def test_the_undamaged_file_is_loaded(small, tmp_path):
    assert is_loaded(tmp_path / "x", *small)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_is_refused_or_loaded_whole(small, tmp_path, seed):
    network, data = small
    loaded = sum(is_loaded(tmp_path / "x", network, mutant) for mutant in damaged(data, seed, 750))
    assert 0 < loaded < 600


@pytest.mark.slow
def test_a_million_damaged_files_are_refused_or_loaded_whole(small, tmp_path):
    network, data = small
    for mutant in damaged(data, 99, 1_000_000):
        is_loaded(tmp_path / "x", network, mutant)


HOSTILE_NAMES = {
    "a million tiny tensors": lambda: {f"t{i}": i for i in range(1_000_000)},
    "twenty thousand names of 5 KB": lambda: {f"{i:05}" + "x" * 4900: i for i in range(20_000)},
}


def write_hostile(path: Path, what: str) -> Path:
    if what == "brackets alone":
        text = b'{"a":[' + b"[]," * 30_000_000 + b"[]]}"
        path.write_bytes(headed(text))
        return path
    names = HOSTILE_NAMES[what]()
    entries = (
        f'"{name}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{i + 1}]}}' for name, i in names.items()
    )
    path.write_bytes(headed(("{" + ",".join(entries) + "}").encode(), bytes(len(names))))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("what", [*HOSTILE_NAMES, "brackets alone"])
def test_hostile_headers_cost_no_more_than_their_file_and_200_mb(tmp_path, what):
    path = write_hostile(tmp_path / "x.safetensors", what)
    program = (
        "import resource, sys; limit = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_AS, (limit, limit));"
        "from sdcli import cli; sys.exit(cli.run(['info', sys.argv[2]]))"
    )
    limit = path.stat().st_size + 200_000_000 + 100_000_000  # the last for the interpreter itself
    ran = subprocess.run(
        [sys.executable, "-c", program, str(limit), str(path)], capture_output=True, text=True
    )
    assert (ran.returncode, len(ran.stderr.splitlines())) == (3, 1), ran.stderr[-500:]
