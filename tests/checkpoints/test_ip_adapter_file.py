"""IP-Adapter files: which kind, for which model and image encoder, and what is refused in one line."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from sdcli.checkpoints import header, tensor_shapes
from sdcli.checkpoints.checkpoint import read
from sdcli.checkpoints.header import Entry, Header
from sdcli.checkpoints.image_encoder_file import ImageEncoderFile
from sdcli.checkpoints.ip_adapter_file import is_ip_adapter, read_header
from sdcli.checkpoints.ip_adapters import check_fit, cross_attentions
from sdcli.errors import ModelError, UsageError
from sdcli.request.ip_adapters import IpAdapter, parse
from tests import adapter_files

GOLDEN = Path(__file__).parent.parent / "golden" / "names" / "ip-adapters.json.gz"
LAYERS = [16] * 3


def write(path, shapes):
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return adapter_files.write(path, tensors)


@pytest.mark.parametrize(
    ("name", "kind", "trained_for", "encoder", "tokens", "layers"),
    [
        ("ip-adapter-sd15", "plain", "SD 1", "ViT-H/14", 4, 16),
        ("ip-adapter-plus-sd15", "plus", "SD 1", "ViT-H/14", 16, 16),
        ("ip-adapter-sdxl", "plain", "SDXL", "ViT-bigG/14", 4, 70),
        ("ip-adapter-plus-sdxl", "plus", "SDXL", "ViT-H/14", 16, 70),
    ],
)
def test_published_files_are_recognised_and_whole(
    monkeypatch, tmp_path, name, kind, trained_for, encoder, tokens, layers
):
    shapes = json.loads(gzip.decompress(GOLDEN.read_bytes()))[name]
    path = tmp_path / "x.safetensors"
    path.touch()
    entries = {key: Entry("F16", tuple(shape), 0, 0, path, key) for key, shape in shapes.items()}
    monkeypatch.setattr(header, "read", lambda path: Header(path, entries, {}))
    file = read_header(path)
    assert (file.kind, file.trained_for, file.encoder, file.tokens) == (kind, trained_for, encoder, tokens)
    family = "sd1" if trained_for == "SD 1" else "sdxl"
    from sdcli import registry

    unet = tensor_shapes.of_network("unet", registry.find("families", family).configs["unet"], "x")
    assert file.layers == tuple(unet[key][0] for key in cross_attentions(unet))
    assert len(file.layers) == layers


@pytest.mark.parametrize("kind", ["plain", "plus", "full_face"])
def test_a_tensor_that_is_missing_or_too_many_is_named(tmp_path, kind):
    shapes = adapter_files.ip_adapter_shapes(LAYERS, 16, kind)
    assert read_header(write(tmp_path / "whole.safetensors", shapes)).kind == kind
    for name in shapes:
        less = {key: shape for key, shape in shapes.items() if key != name}
        with pytest.raises(ModelError) as error:
            read_header(write(tmp_path / "less.safetensors", less))
        assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match=r"1 tensor \(image_proj.gate\) too many"):
        read_header(write(tmp_path / "more.safetensors", shapes | {"image_proj.gate": [1]}))


@pytest.mark.parametrize(
    "more",
    [
        {"ip_adapter.0.to_q_lora.down.weight": [4, 16]},
        {"image_proj.perceiver_resampler.proj_in.weight": [4, 16]},
        {"image_proj.proj.0.weight": [64, 512]},
    ],
)
def test_faceid_is_refused_by_name(tmp_path, more):
    path = write(tmp_path / "face.safetensors", adapter_files.ip_adapter_shapes(LAYERS, 16) | more)
    assert is_ip_adapter(path)
    with pytest.raises(ModelError, match="a FaceID adapter, which needs the face recognition of InsightFace"):
        read_header(path)


def test_another_file_is_none(tmp_path):
    path = write(tmp_path / "a.safetensors", {"x": [1]})
    assert not is_ip_adapter(path)
    with pytest.raises(ModelError, match="is no IP-Adapter"):
        read_header(path)
    with pytest.raises(ModelError, match="there is no such IP-Adapter"):
        read_header(tmp_path / "b.safetensors")


# --- what fits


def widths_of(model):
    found = read(model)
    unet = tensor_shapes.of_network("unet", found.components["unet"].config, "x")
    return found, [unet[key][0] for key in cross_attentions(unet)]


def test_a_file_of_another_family_is_refused_by_both_names(tmp_path):
    found, widths = widths_of("test:sd1")
    path = adapter_files.ip_adapter(tmp_path / "a.safetensors", widths, 768)
    with pytest.raises(ModelError, match=r"an IP-Adapter for SD 1 .*, and test:sd1 reads texts of width 16"):
        check_fit(found, [IpAdapter(str(path), "face.png")])
    path = adapter_files.ip_adapter(tmp_path / "b.safetensors", widths[:-1], 16)
    with pytest.raises(ModelError, match="cross-attention layers, and test:sd1 has"):
        check_fit(found, [IpAdapter(str(path), "face.png")])


def test_the_wrong_image_encoder_is_refused_and_the_right_one_named(tmp_path):
    found, widths = widths_of("test:sd1")
    path = adapter_files.ip_adapter(tmp_path / "a.safetensors", widths, 16, reads=1024)
    encoder = adapter_files.image_encoder(tmp_path / "vit")
    with pytest.raises(ModelError) as error:
        check_fit(found, [IpAdapter(str(path), "face.png", str(encoder))])
    assert "the wrong image encoder" in str(error.value)
    assert "a needs ViT-H/14, with 1024 values in the vector of a picture" in str(error.value)
    assert str(error.value).endswith(", with 24")


def test_an_image_encoder_must_be_named_once(tmp_path, monkeypatch):
    found, widths = widths_of("test:sd1")
    path = adapter_files.ip_adapter(tmp_path / "a.safetensors", widths, 16)
    monkeypatch.delenv("SDCLI_IMAGE_ENCODER", raising=False)
    with pytest.raises(UsageError, match="SDCLI_IMAGE_ENCODER"):
        check_fit(found, [IpAdapter(str(path), "face.png")])
    monkeypatch.setenv("SDCLI_IMAGE_ENCODER", str(adapter_files.image_encoder(tmp_path / "vit")))
    check_fit(found, [IpAdapter(str(path), "face.png")])


def test_a_plain_adapter_refuses_an_encoder_without_a_projection(tmp_path):
    file = read_header(adapter_files.ip_adapter(tmp_path / "a.safetensors", LAYERS, 16))
    encoder = ImageEncoderFile(Path("x"), {"hidden_size": 24, "projection_dim": 0}, file.component)
    with pytest.raises(ModelError, match="the wrong image encoder"):
        file.check_encoder(encoder)


# --- FILE:image=face.png


def test_the_settings_are_numbers_within_their_range():
    assert parse("a.safetensors:image=b.png:weight=0.5:start=0.1:end=0.6:encoder=c") == IpAdapter(
        "a.safetensors", "b.png", "c", 0.5, 0.1, 0.6
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "shows no picture; write a:image=face.png"),
        ("a:image=-", "cannot be standard input"),
        ("a:image=b:weight=x", "weight='x' is not a number"),
        ("a:image=b:start=0.5:end=0.5", "it would end at 0.5, before it starts"),
        ("a:image=b:wieght=1", "did you mean 'weight'?"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(text, message):
    with pytest.raises(UsageError) as error:
        parse(text)
    assert message in str(error.value)
