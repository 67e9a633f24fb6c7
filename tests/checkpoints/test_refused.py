"""What people save as a model by mistake, and what damage or malice makes of one: each is a line of its own."""

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
from sdcli.checkpoints.component import Component
from sdcli.checkpoints.keys.types import Source
from sdcli.errors import ModelError
from sdcli.models import build
from sdcli.models.device import Placement
from sdcli.models.load import check_tensors, load_weights
from tests.checkpoints.test_checkpoint import published, write
from tests.checkpoints.test_header import file


def one(dtype="F32", shape=(1,), offsets=(0, 4), data=bytes(4), name="a") -> bytes:
    """A file of one tensor, described as is told."""
    return file({name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}}, data)


def headed(text: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + data


CLASSES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "empty"),
    "one byte": (b"x", "only 1 bytes"),
    "seven bytes": (b"\1" * 7, "only 7 bytes"),
    "a length and no more": (bytes(8), "only 8 bytes"),
    "an LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2\n", "git lfs pull"),
    "a web page": (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
    "a page in small letters": (b"<!doctype html>" * 9, "a web page"),
    "a page behind blank lines": (b"\r\n\r\n  <HTML>" + b"x" * 99, "a web page"),
    "a page with a mark of its order": (b"\xef\xbb\xbf<html>" + b"x" * 99, "a web page"),
    "XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web page"),
    "an answer in JSON": (b'{"error": "Invalid username or password."}', "a text ('{\"error\""),
    "an answer in words": (b"Entry not found, sorry", "a text ('Entry not found"),
    "a zip": (b"PK\x03\x04" + bytes(99), "zip file"),
    **{f"a pickle of protocol {i}": (bytes([0x80, i]) + b"}q\0." * 9, "a pickle") for i in range(2, 6)},
    "an old torch pickle": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "a pickle"),
    "GGUF": (b"GGUF\3\0\0\0" + bytes(99), "a GGUF file"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
    "gzip": (b"\x1f\x8b\x08" + bytes(99), "unpack it first"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(99), "unpack it first"),
    "RAR": (b"Rar!\x1a\7" + bytes(99), "unpack it first"),
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
    "no JSON": (headed(b"nope nope"), "not JSON"),
    "a list": (headed(b"[]       "), "no JSON object"),
    "bad UTF-8": (headed(b'{"\xff":1}'), "not JSON"),
    "half a header": (headed(b'{"a":{"dtype":"F3'), "not JSON"),
    "deep JSON": (headed(b'{"a":' + b"[" * 50_000), "not JSON"),
    "a number of 5000 digits": (headed(b'{"a":' + b"9" * 5000 + b"}"), "not JSON"),
    "not a number": (headed(b'{"a":NaN}'), "not described"),
    "a key twice": (headed(b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":1}'), "a key twice"),
    "a shape twice": (headed(b'{"a":{"dtype":"F32","shape":[0],"shape":[0],"data_offsets":[0,0]}}'), "a key twice"),
    "a tensor that is a number": (file({"a": 1}), "not described"),
    "a tensor without a dtype": (file({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4)), "not described"),
    "a tensor without a place": (file({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)), "not described"),
    "a place of three numbers": (one(offsets=(0, 4, 4)), "not described"),
    "a shape of words": (one(shape=["1"]), "not described"),
    "a shape that is a number": (one(shape=1), "not described"),
    "a side of minus one": (one(shape=[-1]), "not described"),
    "a side of one and a half": (one(shape=[1.5]), "not described"),
    "a side that is true": (one(shape=[True]), "not described"),
    "a side of 2^62": (one(shape=[2**62, 4]), "bytes, not"),
    "a side of 2^64": (one(shape=[2**64]), "not described"),
    "a place before the data": (one(offsets=(-4, 0)), "not described"),
    "a place that ends before it begins": (one(offsets=(4, 0)), "bytes, not"),
    "a place of the wrong size": (one(shape=[2]), "has 4 bytes, not 8"),
    "a dtype that is not known": (one("F7"), "stored as 'F7'"),
    "a dtype that is a number": (file({"a": {"dtype": 7, "shape": [1], "data_offsets": [0, 4]}}), "not described"),
    "a hole": (one(offsets=(4, 8), data=bytes(8)), "leaves a hole"),
    "an overlap": (
        file({k: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for k in "ab"}, bytes(4)),
        "overlaps",
    ),
    "more than its tensors": (one(data=bytes(5)), "1 bytes too long"),
    "less than its tensors": (one(data=bytes(3)), "the download is incomplete"),
    "metadata that are numbers": (file({"__metadata__": {"a": 1}}), "not texts"),
    "metadata that are a list": (file({"__metadata__": ["a"]}), "not texts"),
    "no tensor at all": (file({}), "no U-Net in it"),
    "a model of another kind": (one(), "no U-Net in it"),
    "a name that goes up": (one(name="../../etc/x"), "no U-Net in it"),
    "a name that speaks to the terminal": (one(name="\x1b[2J\r\nx"), "no U-Net in it, only \\x1b[2J x"),
    "a name of 5 KB": (one(name="x" * 5000), "name has 5,000 letters"),
}  # fmt: skip


def refused(ran, words: str) -> None:
    assert (ran.code, ran.out) == (3, b""), ran
    assert len(ran.err.splitlines()) == 1
    assert ran.err.strip().isprintable()
    assert words in ran.err
    assert len(ran.err) < 300


@pytest.mark.parametrize("what", CLASSES)
def test_a_file_that_is_no_model_is_one_line_that_says_what_it_is(sd, what):
    data, words = CLASSES[what]
    for name in ("x.safetensors", "x.ckpt", "x"):
        Path(name).write_bytes(data)
        if "a picture" not in words:  # which `sd info` takes it for
            refused(sd("info", name), words)
        refused(sd("txt2img", "a cat", "-m", f"./{name}"), words)


@pytest.mark.parametrize("name", ["~nosuchuser/x", "x" * 300, "me/" + "x" * 300, "x" * 300 + ".safetensors"])
@pytest.mark.parametrize("option", ["-m", "--vae"])
def test_a_name_that_can_be_no_file_is_one_line(sd, option, name):
    ran = sd("txt2img", "a cat", option, name)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (3, b"", 1), ran


def test_a_pipe_is_no_model_and_is_not_waited_for(sd):
    os.mkfifo("x.safetensors")
    refused(sd("info", "x.safetensors"), "a pipe or a device")
    refused(sd("txt2img", "a cat", "--vae", "x.safetensors"), "a pipe or a device")


def test_another_vae_that_is_none_is_named(sd, toy):
    refused(
        sd("txt2img", "a cat", "-m", toy, "--vae", "no.safetensors"), "--vae no.safetensors: no such file"
    )
    refused(sd("txt2img", "a cat", "-m", toy, "--vae", toy / "unet"), "unet: no VAE in it")
    folder = Path(shutil.copytree(toy / "vae", "other"))
    (folder / "config.json").write_text('{"down_block_types": ["x"]}')
    refused(sd("txt2img", "a cat", "-m", toy, "--vae", folder), "other: config.json describes no network")


def test_half_of_a_tiny_autoencoder_is_named(sd, toy):
    def said(name, words):
        refused(sd("txt2img", "a cat", "-m", toy, "--vae", name), words)

    Path("taesd_decoder.safetensors").write_bytes(one(name="1.weight"))
    said("taesd_decoder.safetensors", "the other is not beside it as taesd_encoder.safetensors; get both")
    Path("small.safetensors").write_bytes(one(name="0.weight"))
    said("small.safetensors", "half of a tiny autoencoder, and its name has no encoder")
    for name in ("conv.weight", "01.weight", "1000000.weight"):
        Path("taesd_encoder.safetensors").write_bytes(one(name=name))
        said("taesd_decoder.safetensors", f"{name} is no tensor of a tiny autoencoder's encoder")
    Path("taesd_encoder.safetensors").write_bytes(one(name="0.weight"))
    said("taesd_decoder.safetensors", "missing")
    refused(sd("info", "taesd_decoder.safetensors"), "half of a tiny autoencoder, which --vae takes")


def test_a_folder_whose_unet_has_other_names_is_one_line(sd, broken):
    (broken / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(one(name="model.diffusion_model.x"))
    refused(sd("txt2img", "a cat", "-m", broken), "no conv_in.weight in it, as a folder's U-Net has")


def test_a_folder_in_several_files_that_do_not_agree_is_named(sd, broken, shard):
    index, first, second = shard(broken / "unet")
    told = json.loads(index.read_text())["weight_map"]
    data = second.read_bytes()
    elsewhere = {key: f"../vae/{name}" for key, name in told.items()}
    for words, names, stored in [
        ("no such file", told, None),
        ("does not say which file beside it holds which tensor", {}, data),
        ("does not say which file beside it holds which tensor", [1], data),
        ("does not say which file beside it holds which tensor", {"conv_in.bias": {}}, data),
        ("does not say which file beside it holds which tensor", elsewhere, data),
        ("is not where it says", told | {"x": first.name}, data),
        ("is not where it says", dict(list(told.items())[1:]), data),
        ("is not where it says", told | {"conv_in.bias": second.name}, data),
        ("is in two of its files", told, first.read_bytes()),
        ("the download is incomplete", told, data[:-1]),
    ]:
        index.write_text(json.dumps({"weight_map": names}))
        second.unlink(missing_ok=True) if stored is None else second.write_bytes(stored)
        refused(sd("txt2img", "a cat", "-m", broken), words)
    for text in ("{}", "[", "[" * 100_000, '{"weight_map": [' + "[]," * 500_000):
        index.write_text(text)
        refused(sd("txt2img", "a cat", "-m", broken), "does not say which file")
    index.unlink()
    refused(sd("txt2img", "a cat", "-m", broken), "no diffusion_pytorch_model.safetensors in it")
    os.mkfifo(index)  # which is not waited for
    refused(sd("txt2img", "a cat", "-m", broken), "no diffusion_pytorch_model.safetensors in it")


def test_a_config_of_a_megabyte_is_not_read(sd, broken):
    (broken / "unet" / "config.json").write_text(" " * 10**6 + "{}")
    refused(sd("txt2img", "a cat", "-m", broken), "far more than a config has")


def test_a_bad_number_is_looked_for_in_the_file_that_has_it(sd, broken, shard):
    _, _, second = shard(broken / "unet")
    tensors = load_file(second)
    tensors[min(tensors)].fill_(torch.nan)
    save_file(tensors, second)
    refused(sd("txt2img", "a cat", "-m", broken), f"{second.name}: 1 tensor")
    refused(sd("models", "convert", broken, "out"), f"{second.name}: {min(tensors)}: not finite")


def test_a_file_that_lists_others_is_no_model(sd, broken, shard):
    index, *_ = shard(broken / "unet")
    refused(sd("txt2img", "a cat", "-m", index), "a JSON file, not the model; name the folder it is in")


@pytest.fixture
def broken(toy, tmp_path) -> Path:
    """A copy of the toy model that a test may spoil."""
    return Path(shutil.copytree(toy, tmp_path / "broken"))


@pytest.mark.parametrize("what", [what for what, (_, words) in CLASSES.items() if "U-Net" not in words])
def test_a_file_in_a_folder_that_is_no_safetensors_is_named_for_what_it_is(sd, broken, what):
    data, words = CLASSES[what]
    (broken / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(data)
    refused(sd("info", broken), words)
    refused(sd("txt2img", "a cat", "-m", broken), words)


def test_a_file_cut_off_anywhere_is_refused(toy, tmp_path):
    whole = (toy / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    path = tmp_path / "x.safetensors"
    for size in [*range(0, len(whole), 4096), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError):
            header.read(path)


def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path):
    for length in (0x0280, 0x0580, 0x8B1F):
        text = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
        (tmp_path / "x.safetensors").write_bytes(headed(text, bytes(4)))
        assert list(header.read(tmp_path / "x.safetensors").tensors) == ["a"]


def test_weights_that_are_whole_numbers_are_refused(tmp_path):
    tensors = published("sd15")
    path = write(tmp_path / "x.safetensors", tensors)
    with open(path, "r+b") as opened:
        begin = opened.read(4096)
        opened.seek(0)
        opened.write(begin.replace(b'"F16"', b'"I16"'))
    found = checkpoint.read(str(path))
    with pytest.raises(ModelError, match="stored as I16"):
        for part, network in found.components.items():
            check_tensors(network, build.build_on_meta(part, network.config, "x"))


CONFIG = {
    "vocab_size": 20, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1,
    "max_position_embeddings": 5, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
}  # fmt: skip


def survive(path: Path, net: torch.nn.Module, mutant: bytes) -> bool:
    """Load a damaged file as a model's is loaded: it is refused in one line, or every weight is a finite number."""
    path.write_bytes(mutant)
    try:
        head = header.read(path)
        network = Component(CONFIG, head, {key: Source(key, "all") for key in head.tensors})
        net.to("meta")
        check_tensors(network, net)
        load_weights("text_encoder", net, network, Placement(torch.device("cpu"), torch.float32))
    except ModelError as error:
        assert "\n" not in str(error)
        return False
    assert all(torch.isfinite(each).all() for each in net.state_dict().values())
    return True


def damaged(whole: bytes, seed: int, count: int):
    """Mutants of a file: bytes changed, bits flipped, pieces cut, doubled or moved; mostly in the header."""
    draw = random.Random(seed)
    length = 8 + struct.unpack("<Q", whole[:8])[0]
    pieces = [
        b"0",
        b"9",
        b"-",
        b"e9",
        b'"',
        b"[",
        b"}",
        b"null",
        b"1e99",
        b"\\u0000",
        b"F16",
        b"I32",
        b"\xff",
        b"NaN",
    ]
    for _ in range(count):
        mutant = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(length if draw.random() < 0.8 else len(whole)) % max(1, len(mutant))
            kind = draw.randrange(6)
            size = draw.choice([1, 1, 2, 8, 64])
            if kind == 0:
                mutant[at : at + 1] = bytes([draw.randrange(256)])
            elif kind == 1:
                del mutant[at : at + size]
            elif kind == 2:
                mutant[at:at] = draw.choice(pieces)
            elif kind == 3:
                mutant[at : at + 1] = bytes([(mutant[at : at + 1] or b"\0")[0] ^ 1 << draw.randrange(8)])
            elif kind == 4:
                mutant[at:at] = mutant[at : at + size]
            else:
                mutant[at : at + 4] = draw.choice(
                    [b"\x00\x00\x80\x7f", b"\x00\x00\xc0\x7f", b"\xff\xff\xff\xff"]
                )
        yield bytes(mutant)


@pytest.fixture
def small():
    """(a blank text encoder, its file)"""
    net = build.build_random("text_encoder", CONFIG)
    return net, save(net.state_dict())


def test_the_undamaged_file_is_loaded(small, tmp_path):
    assert survive(tmp_path / "x", *small)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_is_refused_or_loaded_whole(small, tmp_path, seed):
    net, whole = small
    loaded = sum(survive(tmp_path / "x", net, mutant) for mutant in damaged(whole, seed, 750))
    assert 0 < loaded < 600


@pytest.mark.slow
def test_a_million_damaged_files_are_refused_or_loaded_whole(small, tmp_path):
    net, whole = small
    for mutant in damaged(whole, 99, 1_000_000):
        survive(tmp_path / "x", net, mutant)


HOSTILE = {
    "a million tiny tensors": lambda: {f"t{i}": i for i in range(1_000_000)},
    "twenty thousand names of 5 KB": lambda: {f"{i:05}" + "x" * 4900: i for i in range(20_000)},
}


def hostile(path: Path, what: str) -> Path:
    if what == "brackets alone":
        text = b'{"a":[' + b"[]," * 30_000_000 + b"[]]}"
        path.write_bytes(headed(text))
        return path
    names = HOSTILE[what]()
    entries = (
        f'"{name}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{i + 1}]}}' for name, i in names.items()
    )
    path.write_bytes(headed(("{" + ",".join(entries) + "}").encode(), bytes(len(names))))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("what", [*HOSTILE, "brackets alone"])
def test_hostile_headers_cost_no_more_than_their_file_and_200_mb(tmp_path, what):
    path = hostile(tmp_path / "x.safetensors", what)
    program = (
        "import resource, sys; most = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_AS, (most, most));"
        "from sdcli import cli; sys.exit(cli.run(['info', sys.argv[2]]))"
    )
    most = path.stat().st_size + 200_000_000 + 100_000_000  # the last for the interpreter and what it maps
    ran = subprocess.run(
        [sys.executable, "-c", program, str(most), str(path)], capture_output=True, text=True
    )
    assert (ran.returncode, len(ran.stderr.splitlines())) == (3, 1), ran.stderr[-500:]
