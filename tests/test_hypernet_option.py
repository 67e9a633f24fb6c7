"""`sd` with hypernetworks: what is drawn, recorded and refused."""

import pytest
import torch

from sdcli.engine import generate
from sdcli.errors import ModelError
from sdcli.models.cache import ModelCache
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.request import Request
from tests import adapter_files


@pytest.fixture
def file(tmp_path):
    """A hypernetwork that fits the test models of SD 1, in which all widths are 16."""
    return adapter_files.hypernet(tmp_path / "style.safetensors", (16,))


def drawn(models=None, **options):
    request = Request("a cat", model="test:sd1", seed=3, steps=2, **options)
    return generate(request, models).latents


def test_a_hypernetwork_changes_its_own_picture_and_none_after_it(file):
    models = ModelCache()
    plain = drawn(models)
    one = drawn(models, hypernet=(str(file),))
    assert not torch.equal(one, plain)
    assert torch.equal(drawn(models), plain)
    assert torch.equal(drawn(models, hypernet=(f"{file}@0",)), plain)
    assert not torch.equal(drawn(models, hypernet=(f"{file}@0.5",)), one)
    assert not torch.equal(drawn(models, hypernet=(str(file), str(file))), one)


def test_the_networks_of_diffusers_are_changed_alike(file):
    options = {"hypernet": (str(file),)}
    assert torch.allclose(drawn(**options), drawn(networks="diffusers", **options), atol=1e-4)


def test_a_picture_records_it_and_again_notes_another_one(sd, file):
    from sdcli.checkpoints.hashes import digest

    (made,) = sd("txt2img", "a cat", "-m", "test:sd1", "--steps", 1, "--hypernet", f"{file}@0.5").lines
    facts = read_png_metadata(made).facts(made)
    assert facts["request"]["hypernet"] == [f"{file}@0.5"]
    assert facts["hypernets"] == {"style": {"file": "style.safetensors", "sha256": digest([file])}}
    assert "hypernet" not in sd("again", made).err
    adapter_files.hypernet(file, (16,), activation="tanh")
    ran = sd("again", made)
    assert f"{made} was made with another hypernetwork style; the picture will differ" in ran.err


def test_a_hypernetwork_of_another_family_is_refused_before_the_model_is_loaded(tmp_path, monkeypatch, sd):
    from sdcli.models import load

    monkeypatch.setattr(load, "load_model", None)
    path = adapter_files.hypernet(tmp_path / "other.safetensors", (32, 768))
    with pytest.raises(ModelError, match="is a hypernetwork for SD 1"):
        drawn(hypernet=(str(path),))
    ran = sd("txt2img", "a cat", "-m", "test:sd1", "--hypernet", path, "--plan")
    assert (ran.code, len(ran.err.splitlines())) == (3, 1)


def test_info_says_what_a_hypernetwork_is(sd, tmp_path):
    path = adapter_files.hypernet(tmp_path / "a.safetensors", (320, 768), activation="swish")
    ran = sd("info", path)
    assert ran.code == 0, ran.err
    assert ran.lines[:5] == [
        f"{path}: a hypernetwork for SD 1",
        "  changes: attention to contexts of width 320, 768",
        "  layers: 1 2 1 times the width",
        "  activation: swish",
        "  layer norms: no",
    ]


def test_a_prompt_names_one_of_the_folder(sd, file, monkeypatch):
    monkeypatch.setenv("SDCLI_HYPERNETS", str(file.parent))
    (made,) = sd("txt2img", "a cat <hypernet:style:0.5>", "-m", "test:sd1", "--steps", 1).lines
    request = read_png_metadata(made).facts(made)["request"]
    assert (request["prompt"], request["hypernet"]) == ("a cat ", [f"{file}@0.5"])
    ran = sd("txt2img", "a cat <hypernet:styel>", "-m", "test:sd1", "--steps", 1)
    assert "did you mean 'style'?" in ran.err


def test_the_words_of_other_tools_lead_to_it(sd):
    ran = sd("txt2img", "a cat", "--hypernetwork", "a.safetensors")
    assert "there is no such hypernetwork" in ran.err
