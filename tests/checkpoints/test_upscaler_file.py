"""Upscaler files: what their names and shapes say, and what is refused in one line."""

import numpy as np
import pytest

from sdcli.checkpoints.adapter_info import describe
from sdcli.checkpoints.upscaler_file import find, is_upscaler, read_header
from sdcli.errors import ModelError, SdError, UsageError
from tests import control_files, upscaler_files
from tests.adapters import loras
from tests.damaged import damaged


def read(tmp_path, tensors):
    return read_header(upscaler_files.write(tmp_path / "net.safetensors", tensors))


@pytest.mark.parametrize(
    ("upconvs", "unshuffle", "scale"),
    [(0, 1, 1), (1, 1, 2), (2, 1, 4), (3, 1, 8), (4, 1, 16), (2, 2, 2), (2, 4, 1)],
)
@pytest.mark.parametrize("names", [dict, upscaler_files.as_old, upscaler_files.as_trunk])
def test_an_esrgan_is_told_by_its_names_and_shapes(tmp_path, upconvs, unshuffle, scale, names):
    found = read(tmp_path, names(upscaler_files.rrdb(3, 8, 4, upconvs, unshuffle)))
    assert (found.kind, found.scale, found.network.unshuffle) == ("rrdb", scale, unshuffle)
    assert (found.network.blocks, found.network.width, found.network.settings["growth"]) == (3, 8, 4)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_a_compact_network_is_told_by_its_names_and_shapes(tmp_path, scale):
    found = read(tmp_path, upscaler_files.compact(5, 16, scale))
    assert (found.kind, found.scale) == ("compact", scale)
    assert (found.network.blocks, found.network.width) == (5, 16)


def test_a_network_of_the_published_size_has_its_published_number_of_weights(tmp_path):
    assert read(tmp_path, upscaler_files.rrdb(23, 64, 32)).parameters == 16_697_987
    assert read(tmp_path, upscaler_files.compact(32, 64, 4)).parameters == 1_213_296


@pytest.mark.parametrize("name", upscaler_files.SWINIRS)
def test_a_swinir_is_told_by_its_names_and_shapes(tmp_path, name):
    found = read(tmp_path, upscaler_files.SWINIRS[name])
    assert (found.kind, found.scale) == ("swinir", int(name[-1]))
    settings = found.network.settings
    assert (settings["window"], settings["heads"]) == (7 if "jpeg" in name else 8, (2, 2))


def test_a_swinir_of_the_published_size_has_its_published_number_of_weights(tmp_path):
    """11.9, 0.9 and 28 million, as the paper and its releases state."""
    classical = upscaler_files.swinir("pixelshuffle", 4, (6,) * 6, 180, 6, features=64)
    assert read(tmp_path, classical).parameters == 11_900_199
    light = upscaler_files.swinir("pixelshuffledirect", 2, (6,) * 4, 60, 6)
    assert read(tmp_path, light).parameters == 910_152


def test_the_buffers_of_a_swinir_are_not_read(tmp_path):
    tensors = upscaler_files.swinir()
    block = "layers.0.residual_group.blocks.1"
    tensors[f"{block}.attn.relative_position_index"] = np.zeros((64, 64), np.int64)
    tensors[f"{block}.attn_mask"] = np.zeros((64, 64, 64), np.float32)
    assert read(tmp_path, tensors).parameters == read(tmp_path, upscaler_files.swinir()).parameters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("conv_hr.bias"), r"a SwinIR upscaler with 1 tensor \(conv_hr.bias\) missing"),
        (lambda t: t.update({"conv_first.weight": np.zeros((8, 1, 3, 3))}), "takes 1 channels"),
        (lambda t: t.update(extra=np.zeros(3)), r"1 tensor \(extra\) unknown"),
        (lambda t: t.update({"conv_up9.weight": np.zeros((6, 6, 3, 3))}), "enlarges 512 times"),
    ],
)
def test_a_swinir_with_a_fault_is_refused_by_name(tmp_path, change, message):
    tensors = upscaler_files.swinir()
    change(tensors)
    with pytest.raises(ModelError, match=message):
        read(tmp_path, tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("body.0.rdb2.conv3.bias"), r"1 tensor \(body.0.rdb2.conv3.bias\) missing"),
        (lambda t: t.pop("conv_hr.weight"), r"1 tensor \(conv_hr.weight\) missing"),
        (lambda t: t.update(extra=np.zeros(3)), r"1 tensor \(extra\) unknown"),
        (lambda t: t.update({"conv_hr.bias": np.zeros(5)}), r"conv_hr.bias is \[5\], not \[8\]"),
        (lambda t: t.update({"conv_hr.bias": np.zeros(8, np.int32)}), "stored as I32"),
        (lambda t: t.update({"conv_first.weight": np.zeros((8, 4, 3, 3))}), "takes 4 channels"),
        (lambda t: t.update({"conv_first.weight": np.zeros(8)}), "no weight of a convolution"),
        (lambda t: t.update({"body.999.rdb1.conv1.weight": np.zeros((4, 8, 3, 3))}), "1000 blocks"),
    ],
)
def test_a_tensor_too_few_or_too_many_is_named(tmp_path, change, message):
    tensors = upscaler_files.rrdb()
    change(tensors)
    with pytest.raises(ModelError, match=message):
        read(tmp_path, tensors)


def test_two_names_of_one_tensor_are_refused(tmp_path):
    tensors = upscaler_files.rrdb()
    with pytest.raises(ModelError, match="two names of one tensor"):
        read(tmp_path, {**tensors, "HRconv.bias": tensors["conv_hr.bias"]})


def test_other_files_are_no_upscalers(tmp_path):
    lora = loras.write(tmp_path / "lora.safetensors")
    assert not is_upscaler(tmp_path / "lora.safetensors"), lora
    control = control_files.controlnet(tmp_path)
    assert not is_upscaler(type(tmp_path)(control))
    with pytest.raises(ModelError, match="is no ESRGAN, Real-ESRGAN or SwinIR upscaler"):
        read_header(tmp_path / "lora.safetensors")


def test_info_tells_the_scale_and_the_size(tmp_path):
    facts = describe(upscaler_files.write(tmp_path / "net.safetensors", upscaler_files.rrdb(unshuffle=2)))
    assert facts is not None
    assert list(facts.items())[:3] == [
        ("kind", "an ESRGAN upscaler"),
        ("enlarges", "2 times"),
        ("blocks", "2 of width 8"),
    ]


def test_a_name_is_found_in_the_folders_of_comfyui_and_a1111(tmp_path, monkeypatch):
    monkeypatch.setenv("SDCLI_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    path = upscaler_files.write(tmp_path / "upscale_models" / "sharp.safetensors", upscaler_files.compact())
    assert find("sharp") == find("sharp.safetensors") == path
    assert find("blunt") is None
    upscaler_files.write(tmp_path / "ESRGAN" / "sharp.safetensors", upscaler_files.compact())
    with pytest.raises(UsageError, match=r"-m sharp: may be .*; write the path of one"):
        find("sharp")


@pytest.mark.parametrize(
    "tensors",
    [upscaler_files.rrdb(1, 4, 2), upscaler_files.compact(1, 4, 2), upscaler_files.swinir(depths=(1,))],
)
def test_a_damaged_file_is_refused_in_one_line_or_read(tmp_path, tensors):
    whole = upscaler_files.write(tmp_path / "net.safetensors", tensors).read_bytes()
    refused = 0
    for mutant in damaged(whole, seed=1, count=300):
        (tmp_path / "net.safetensors").write_bytes(mutant)
        for use in (read_header, describe):
            try:
                use(tmp_path / "net.safetensors")
            except SdError as error:
                assert "\n" not in str(error)
                refused += 1
    assert refused > 200
