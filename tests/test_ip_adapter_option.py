"""`sd` with IP-Adapters: what is drawn, recorded and refused."""

import pytest
import torch
from PIL import Image

from sdcli.checkpoints import tensor_shapes
from sdcli.checkpoints.checkpoint import read
from sdcli.checkpoints.ip_adapters import cross_attentions
from sdcli.engine import generate
from sdcli.models.cache import ModelCache
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.request import Request
from tests import adapter_files
from tests.pictures import photo


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with face.png, an image encoder, and plain.safetensors and plus.safetensors for test:sd1."""
    monkeypatch.chdir(tmp_path)
    photo(40, 30).save("face.png")
    unet = tensor_shapes.of_network("unet", read("test:sd1").components["unet"].config, "x")
    widths = [unet[key][0] for key in cross_attentions(unet)]
    adapter_files.ip_adapter(tmp_path / "plain.safetensors", widths, 16)
    adapter_files.ip_adapter(tmp_path / "plus.safetensors", widths, 16, "plus", reads=32)
    adapter_files.ip_adapter(tmp_path / "other.safetensors", widths, 768)
    monkeypatch.setenv("SDCLI_IMAGE_ENCODER", str(adapter_files.image_encoder(tmp_path / "vit")))
    return tmp_path


def drawn(*adapters, models=None, **options):
    request = Request("a cat", model="test:sd1", seed=3, **{"steps": 2, **options}, ip_adapter=adapters)
    return generate(request, models).latents


@pytest.mark.parametrize("kind", ["plain", "plus"])
def test_a_picture_changes_its_own_result_and_none_after_it(folder, kind):
    models, typed = ModelCache(), f"{kind}.safetensors:image=face.png"
    plain, shown = drawn(models=models), drawn(typed, models=models)
    assert not torch.equal(shown, plain)
    assert torch.equal(drawn(models=models), plain)
    assert torch.equal(drawn(f"{typed}:weight=0", models=models), plain)
    assert torch.equal(drawn(typed, models=models), shown)
    Image.new("RGB", (30, 40), "red").save("red.png")
    assert not torch.equal(drawn(f"{kind}.safetensors:image=red.png", models=models), shown)


def test_it_acts_until_its_share_of_the_steps_is_made(folder):
    typed = "plain.safetensors:image=face.png"
    half = drawn(f"{typed}:end=0.5", steps=4)
    assert not torch.equal(half, drawn(steps=4))
    assert not torch.equal(half, drawn(typed, steps=4))


def test_the_networks_of_diffusers_are_changed_alike(folder):
    typed = "plain.safetensors:image=face.png"
    assert torch.allclose(drawn(typed), drawn(typed, networks="diffusers"), atol=1e-4)


def test_a_picture_records_the_adapter_its_encoder_and_the_picture(sd, folder):
    from sdcli.checkpoints.hashes import digest

    typed = "plain.safetensors:image=face.png:weight=0.8"
    ran = sd("txt2img", "a cat", "-m", "test:sd1", "--steps", 1, "--ip-adapter", typed)
    facts = read_png_metadata(ran.lines[0]).facts(ran.lines[0])
    assert facts["request"]["ip_adapter"] == [typed]
    assert facts["given"] == {"IP-Adapter picture 1": digest([folder / "face.png"])}
    assert facts["ip_adapters"] == {
        "plain": {
            "file": "plain.safetensors",
            "sha256": digest([folder / "plain.safetensors"]),
            "encoder": {
                "file": "model.safetensors",
                "sha256": digest([folder / "vit" / "model.safetensors"]),
            },
        }
    }
    photo(50, 30).save("face.png")
    again = sd("again", ran.lines[0])
    assert "was made with another IP-Adapter picture 1; the picture will differ" in again.err


def test_the_encoder_may_be_named_with_the_adapter(sd, folder, monkeypatch):
    monkeypatch.delenv("SDCLI_IMAGE_ENCODER")
    typed = "plain.safetensors:image=face.png"
    assert torch.equal(drawn(f"{typed}:encoder=vit"), drawn(f"{typed}:encoder=vit/model.safetensors"))
    ran = sd("txt2img", "a cat", "-m", "test:sd1", "--ip-adapter", typed)
    assert ran.code == 2
    assert "name its file with :encoder=FILE, or once for all with SDCLI_IMAGE_ENCODER" in ran.err


@pytest.mark.parametrize(
    ("typed", "code", "message"),
    [
        ("other.safetensors:image=face.png", 3, "an IP-Adapter for SD 1"),
        ("plain.safetensors:image=none.png", 4, "none.png"),
        ("none.safetensors:image=face.png", 3, "there is no such IP-Adapter"),
        ("plain.safetensors:image=face.png:encoder=none", 3, "there is no such image encoder"),
        ("plain.safetensors", 2, "shows no picture"),
    ],
)
def test_what_cannot_work_is_refused_by_a_plan_and_before_the_model_is_loaded(
    sd, folder, monkeypatch, typed, code, message
):
    from sdcli.models import load

    monkeypatch.setattr(load, "load_model", None)
    for more in ((), ("--plan",)):
        ran = sd("txt2img", "a cat", "-m", "test:sd1", "--ip-adapter", typed, *more)
        assert (ran.code, message in ran.err, len(ran.err.splitlines())) == (code, True, 1), ran.err


def test_info_says_of_a_faceid_adapter_that_it_is_one(sd, folder):
    shapes = adapter_files.ip_adapter_shapes([16], 16) | {"ip_adapter.0.to_q_lora.down.weight": [4, 16]}
    adapter_files.write(folder / "face.safetensors", adapter_files.network(shapes))
    ran = sd("info", "face.safetensors")
    assert (ran.code, "a FaceID adapter" in ran.err) == (3, True)


def test_info_says_what_the_files_are(sd, folder):
    assert sd("info", "plus.safetensors").lines[:4] == [
        "plus.safetensors: a plus IP-Adapter",
        "  image encoder: one, of width 32",
        "  tokens: 4",
        "  layers: 10",
    ]
    assert sd("info", "vit/model.safetensors").lines[:4] == [
        "vit/model.safetensors: an image encoder, of widths 32 and 24, unknown here",
        "  states: of width 32, 3 layers",
        "  vector of a picture: of width 24",
        "  pictures: 28x28",
    ]
