"""Pickled files become safetensors, and whatever such a file holds, nothing in it is run."""

import json
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from sdcli.checkpoints import embedding_file, header, hypernet_file
from sdcli.convert import pickle_child
from sdcli.errors import ModelError
from tests import adapter_files

ZIP, LEGACY = {}, {"_use_new_zipfile_serialization": False}
FORMATS = pytest.mark.parametrize("format", [ZIP, LEGACY], ids=["zip", "legacy"])


def tensors(*names):
    return {name: torch.arange(6.0).reshape(2, 3) + i for i, name in enumerate(names)}


def save(value, path, format=ZIP):
    torch.save(value, path, **format)
    return path


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def equal(path, expected):
    found = load_file(path)
    assert found.keys() == expected.keys()
    return all(
        found[name].dtype == expected[name].dtype and found[name].equal(expected[name]) for name in found
    )


@pytest.fixture
def convert(sd, tmp_path):
    """Convert a file that becomes a safetensors file; returns that, and what was said on standard error."""

    def call(path, *options):
        ran = sd("models", "convert", path, "new.safetensors", *options)
        assert ran.code == 0, ran.err
        assert ran.lines == ["new.safetensors"]
        return tmp_path / "new.safetensors", ran.err

    return call


@pytest.fixture
def refused(sd, tmp_path):
    """The one line by which a file is refused; nothing is left behind."""

    def call(path, *options, code=3):
        before = {each.name for each in tmp_path.iterdir()}
        ran = sd("models", "convert", path, "new.safetensors", *options)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (code, b"", 1), ran.err
        assert {each.name for each in tmp_path.iterdir()} == before
        return ran.err

    return call


# --- what comes out


class ModelCheckpoint:
    """As a callback of Lightning is stored: an object with a state, and the class itself as a key."""

    def __init__(self):
        self.best = 1.0


ModelCheckpoint.__module__ = "pytorch_lightning.callbacks.model_checkpoint"


@FORMATS
def test_a_checkpoint_of_lightning_becomes_its_state_dict(convert, tmp_path, monkeypatch, format):
    import sys
    import types

    module = types.ModuleType(ModelCheckpoint.__module__)
    module.ModelCheckpoint = ModelCheckpoint
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, ModelCheckpoint.__module__, module)
    weights = OrderedDict(tensors("model.diffusion_model.a", "first_stage_model.b"))
    weights["scale"] = torch.tensor(3.0)
    weights["position_ids"] = torch.arange(77)[None]
    weights["turned"] = torch.arange(6.0).reshape(2, 3).T
    weights["shared"] = weights["model.diffusion_model.a"][0]
    checkpoint = {
        "epoch": 3,
        "state_dict": weights,
        "callbacks": {ModelCheckpoint: {"best_model_score": np.float64(0.5), "object": ModelCheckpoint()}},
        "optimizer_states": [{"state": {0: torch.ones(2)}}],
        "array": np.arange(3.0),
    }
    out, said = convert(save(checkpoint, tmp_path / "old.ckpt", format))
    assert equal(out, weights)
    assert said.count("\n") == 1
    assert "left out, as they are no weights: epoch, callbacks, optimizer_states, array" in said


@pytest.mark.parametrize("keys", [["params_ema"], ["model", "state_dict"]])
def test_tensors_one_or_two_levels_down_are_found(convert, tmp_path, keys):
    weights = nested = tensors("conv_first.weight", "body.0.bias")
    for key in keys:
        nested = {key: nested}
    assert equal(convert(save(nested, tmp_path / "old.pth"))[0], weights)


def test_the_average_is_taken_before_the_last_step_and_the_other_is_named(convert, tmp_path):
    file = save({"params": tensors("a"), "params_ema": tensors("x", "a")}, tmp_path / "old.pth")
    out, said = convert(file)
    assert equal(out, tensors("x", "a"))
    assert "no weights: params\n" in said


@FORMATS
def test_a_flat_file_keeps_its_names(convert, tmp_path, format):
    weights = tensors("control_model.zero_convs.0.0.weight", "lora_unet_x.lora_down.weight")
    out, said = convert(save(weights, tmp_path / "old.bin", format))
    assert equal(out, weights)
    assert said == ""


def test_an_ip_adapter_gets_the_names_of_its_safetensors_file(convert, tmp_path):
    parts = {"image_proj": tensors("proj.weight"), "ip_adapter": tensors("1.to_k_ip.weight")}
    out, _ = convert(save(parts, tmp_path / "old.bin"))
    assert set(load_file(out)) == {"image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"}


def test_a_dtype_is_that_of_the_floats_and_integers_stay(convert, tmp_path):
    weights = {**tensors("a"), "ids": torch.arange(3)}
    out, _ = convert(save(weights, tmp_path / "old.bin"), "--dtype", "float16")
    assert equal(out, {"a": weights["a"].half(), "ids": weights["ids"]})


@pytest.mark.parametrize(("holds", "format"), [(dict, ZIP), (dict, LEGACY), (torch.nn.ParameterDict, ZIP)])
def test_an_embedding_of_a1111_is_read_afterwards(sd, convert, tmp_path, holds, format):
    vectors = torch.randn(2, 768, generator=torch.Generator().manual_seed(0))
    embedding = {
        "string_to_token": {"*": torch.tensor(265)},
        "string_to_param": holds({"*": torch.nn.Parameter(vectors)}),
        "name": "cat",
        "step": 1000,
        "sd_checkpoint": "7460a6fa",
        "sd_checkpoint_name": None,
    }
    out, said = convert(save(embedding, tmp_path / "old.pt", format))
    assert equal(out, {"emb_params": vectors})
    assert metadata(out) == {"format": "pt", "name": "cat", "step": "1000", "sd_checkpoint": "7460a6fa"}
    assert said.endswith("left out, as they are no weights: string_to_token\n")
    assert "an embedding for SD 1" in sd("info", out).lines[0]


def test_an_embedding_of_diffusers_keeps_its_word(convert, tmp_path):
    out, _ = convert(save({"<cat-toy>": torch.ones(768)}, tmp_path / "learned_embeds.bin"))
    assert embedding_file.read_header(out).trigger == "<cat-toy>"


def test_a_pair_for_sdxl_stays_a_pair(convert, tmp_path):
    out, _ = convert(save({"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}, tmp_path / "old.pt"))
    assert embedding_file.read_header(out).trained_for == "SDXL"


def hypernet(path, **facts):
    """One of A1111's, for the test models of SD 1; returns the same as safetensors."""
    same = adapter_files.hypernet(path.with_name("same.safetensors"), (16,), activate_output=True)
    halves = [{}, {}]
    for name, tensor in load_file(same).items():
        _, half, rest = name.split(".", 2)
        halves[int(half)][rest] = tensor
    save({16: tuple(halves), **facts}, path)
    return same


def test_a_hypernetwork_draws_afterwards_as_the_one_it_was_made_from(sd, convert, tmp_path):
    facts = {
        "layer_structure": [1, 2, 1],
        "activation_func": "relu",
        "activate_output": True,
        "step": 9,
        "name": "x",
    }
    same = hypernet(tmp_path / "old.pt", optional_info=None, **facts)
    out, said = convert(tmp_path / "old.pt")
    assert said == ""
    assert equal(out, load_file(same))
    assert json.loads(metadata(out)["layer_structure"]) == [1, 2, 1]
    assert sd("info", out).lines[0].startswith(f"{out}: a hypernetwork")
    arguments = ("txt2img", "a cat", "-m", "test:sd1", "--steps", 1, "--seed", 3, "--json", "--hypernet")
    drawn = [sd(*arguments, file, "-o", f"{i}.png") for i, file in enumerate((out, same))]
    assert [ran.code for ran in drawn] == [0, 0], drawn[0].err
    from PIL import Image

    assert Image.open(tmp_path / "0.png").tobytes() == Image.open(tmp_path / "1.png").tobytes()


def test_a_very_old_hypernetwork_has_todays_names_and_the_defaults(convert, tmp_path):
    linear = {"linear1.weight": torch.ones(32, 16), "linear1.bias": torch.ones(32)}
    linear |= {"linear2.weight": torch.ones(16, 32), "linear2.bias": torch.ones(16)}
    out, _ = convert(save({16: (linear, dict(linear)), "name": "x"}, tmp_path / "old.pt"))
    found = hypernet_file.read_header(out)
    assert (found.structure, found.activation, found.widths) == ((1, 2, 1), "linear", (16,))
    assert "16.0.linear.1.weight" in header.read(out).tensors


# --- what is refused


class Runs:
    """Unpickled, it calls a function."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


MARK = "was-here"
MALICIOUS = {
    f"{os.system.__module__}.system": Runs(os.system, f"touch {MARK}"),
    "builtins.eval": Runs(eval, f"open('{MARK}', 'w')"),
    "builtins.__import__": Runs(__import__, "antigravity"),
    "builtins.getattr": Runs(getattr, "a", "upper"),
    "builtins.exec": Runs(exec, f"open('{MARK}', 'w')"),
}


@pytest.mark.parametrize(
    ("name", "format"), [*((name, ZIP) for name in MALICIOUS), ("builtins.eval", LEGACY)]
)
def test_a_file_that_would_run_code_is_refused_by_the_name_of_what_it_holds(refused, tmp_path, name, format):
    value = {"state_dict": tensors("a"), "callbacks": [{"x": MALICIOUS[name]}]}
    said = refused(save(value, tmp_path / "old.ckpt", format))
    assert f"old.ckpt: holds {name}, which could run code; it is not converted" in said
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_plain_pickle_that_would_run_code_runs_nothing(refused, tmp_path, protocol):
    path = tmp_path / "old.pt"
    path.write_bytes(pickle.dumps(MALICIOUS["builtins.eval"], protocol))
    refused(path)
    assert not (tmp_path / MARK).exists()


def test_code_hidden_behind_an_allowed_function_is_refused(refused, tmp_path):
    nested = Runs(torch._utils._rebuild_tensor_v2, Runs(os.system, f"touch {MARK}"), 0, (1,), (1,), False, {})
    assert "which could run code" in refused(save({"a": nested}, tmp_path / "old.pt"))
    assert not (tmp_path / MARK).exists()


def test_what_a_stand_in_is_made_from_and_told_is_ignored():
    made = pickle_child.StandIn("a", {"b": 1})
    made.__setstate__({"c": 2})
    assert vars(made) == {}


@pytest.mark.parametrize("gigabytes", [2, 10**6])
def test_a_file_that_asks_for_far_more_memory_than_its_size_is_refused(refused, tmp_path, gigabytes):
    bomb = Runs(bytearray, gigabytes * 10**9)
    assert "needs far more memory" in refused(save({"a": bomb, **tensors("b")}, tmp_path / "old.pt"))


def test_a_view_that_repeats_one_value_is_not_written_a_billion_times(refused, tmp_path):
    path = save({"a": torch.zeros(1).expand(10**9)}, tmp_path / "old.pt")
    assert "its tensors would take 4,000,000,000 bytes" in refused(path)


def test_a_damaged_and_a_truncated_file_are_one_line(refused, tmp_path):
    for format in (ZIP, LEGACY):
        whole = save(tensors("a", "b"), tmp_path / "whole.pt", format).read_bytes()
        for size in (len(whole) // 2, len(whole) - 20):
            path = tmp_path / "old.pt"
            path.write_bytes(whole[:size])
            assert "old.pt: " in refused(path)


def test_a_zip_that_is_compressed_or_not_of_torch_is_refused(refused, tmp_path):
    path = save(tensors("a"), tmp_path / "whole.pt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "old.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert "a compressed zip file" in refused(tmp_path / "old.pt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("a.txt", "a")
    assert "a zip file that torch did not write" in refused(tmp_path / "other.zip")


def test_the_tar_format_of_the_oldest_torch_is_refused(refused, tmp_path):
    import tarfile

    (tmp_path / "pickle").write_bytes(pickle.dumps({}, 2))
    with tarfile.open(tmp_path / "old.pt", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.add(tmp_path / "pickle", name)
    assert "a tar archive" in refused(tmp_path / "old.pt")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([torch.ones(1)], "holds a list, and no tensors by their names"),
        ({"epoch": 1}, "holds no tensors, but epoch"),
        ({"a": torch.ones(1, dtype=torch.complex64)}, "the tensor 'a' is stored as complex64"),
        ({"a": torch.eye(2).to_sparse()}, "the tensor 'a' is sparse"),
        ({"a": torch.tensor([float("nan")])}, "'a' has values that are not finite; the file is damaged"),
        ({"__metadata__": torch.ones(1)}, "a name that safetensors cannot hold"),
        ({"string_to_param": {"a": torch.ones(1), "b": torch.ones(1)}}, "an embedding of 2 words"),
    ],
)
def test_what_has_no_safetensors_form_is_refused_by_name(refused, tmp_path, value, words):
    assert words in refused(save(value, tmp_path / "old.pt"))


def test_a_dtype_that_is_too_narrow_is_refused(refused, tmp_path):
    path = save({"a": torch.tensor([1e6])}, tmp_path / "old.pt")
    assert "'a' has values that are not finite; float16 is too narrow" in refused(path, "--dtype", "float16")


def test_nothing_is_overwritten(refused, tmp_path):
    (tmp_path / "new.safetensors").write_bytes(b"mine")
    assert "nothing is overwritten" in refused(save(tensors("a"), tmp_path / "old.pt"), code=2)
    assert (tmp_path / "new.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize("option", ["--prediction", "--revision"])
def test_an_option_that_means_nothing_for_a_pickle_is_refused_by_name(refused, tmp_path, option):
    path = save(tensors("a"), tmp_path / "old.pt")
    assert f"{option} means nothing for a pickle" in refused(path, option, "epsilon", code=2)


def test_a_pickle_becomes_one_file_and_no_folder(sd, tmp_path):
    save(tensors("a"), tmp_path / "old.pt")
    ran = sd("models", "convert", "old.pt", "new")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "name it new.safetensors" in ran.err


def test_a_pickle_named_elsewhere_is_refused_with_the_command_that_converts_it(sd, tmp_path):
    path = save(tensors("a"), tmp_path / "old.ckpt")
    with pytest.raises(ModelError, match=r"`sd models convert FILE FILE\.safetensors` converts it"):
        header.read(path)
    assert (
        "`sd models convert FILE FILE.safetensors` converts it" in sd("txt2img", "a", "--embedding", path).err
    )


def test_the_process_that_reads_may_start_no_program_and_write_no_other_file(tmp_path):
    guard = pickle_child._only_writes(tmp_path / "out")
    guard("open", (str(tmp_path / "out"), "wb", os.O_WRONLY | os.O_CREAT))
    guard("open", (str(tmp_path / "in"), "rb", os.O_RDONLY))
    for event, details in [
        ("os.system", (b"x",)),
        ("open", ("other", "w", os.O_WRONLY)),
        ("socket.connect", ()),
    ]:
        with pytest.raises(PermissionError):
            guard(event, details)
