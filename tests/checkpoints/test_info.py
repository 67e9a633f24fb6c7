"""`sd info` shows what a model is, found by any of its names; revisions and model folders."""

import json
from pathlib import Path

import pytest

from sdcli.request.request import Request
from tests import judges
from tests.checkpoints.test_checkpoint import published, write


def test_info_shows_the_family_and_the_prediction_type(sd, toy):
    lines = sd("info", toy).lines
    assert lines[0] == f"{toy}: a tiny model"
    assert "  prediction: v_prediction, by scheduler_config.json" in lines


def test_info_shows_that_a_test_model_has_random_weights(sd):
    assert json.loads(sd("info", "test:sdxl", "--json").out)["unet"] == "random weights"


@pytest.mark.parametrize("name", ["model", "x.SAFETENSORS", "x.sft", "x.bin"])
def test_info_recognises_a_model_by_its_contents_whatever_its_name(sd, written, name):
    _, path = written("sd1")
    path.rename(name)
    assert sd("info", name).lines[0] == f"{name}: a sd1 model"


def test_info_finds_a_name_in_a_model_folder(sd, toy, monkeypatch):
    monkeypatch.setenv("SDCLI_MODELS", str(toy.parent))
    assert sd("info", toy.name).lines[0] == f"{toy.name}: a tiny model"
    assert "no such model" in sd("info", "there-is-none").err


def test_a_model_folder_may_hold_links(sd, tmp_path, toy, monkeypatch):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "linked").symlink_to(toy)
    monkeypatch.setenv("SDCLI_MODELS", str(folder))
    assert any(line.startswith("  linked  tiny") for line in sd("models").lines)
    assert sd("info", "linked").code == 0


def test_no_name_leads_out_of_a_model_folder(sd, tmp_path, toy, monkeypatch):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "linked").symlink_to(toy)
    monkeypatch.setenv("SDCLI_MODELS", str(folder))
    for name in (f"../{toy.name}", f"linked/../../{toy.name}", str(toy / "no")):
        assert "no such model here" in sd("info", name).err


def test_info_shows_the_prediction_type_that_is_given(sd, toy):
    assert "  prediction: sample, by --prediction" in sd("info", toy, "--prediction", "sample").lines


def test_info_shows_the_vae_that_is_given(sd, toy):
    config = json.loads((toy / "vae" / "config.json").read_text())
    judges.random("vae", config).half().save_pretrained("vae")
    own, other = (json.loads(sd("info", toy, "--json", *vae).out)["vae"] for vae in ([], ["--vae", "vae"]))
    assert (own[-3:], other[-3:]) == ("F32", "F16")


@pytest.mark.parametrize("command", [["info"], ["txt2img", "a cat", "-m"]])
@pytest.mark.parametrize("name", ["tiny", "test:sd1", "TOY"])
def test_a_revision_of_a_model_that_is_no_repo_is_refused(sd, toy, command, name):
    ran = sd(*command, toy if name == "TOY" else name, "--revision", "v9")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "--revision v9" in ran.err


def test_a_picture_by_a_revision_is_made_again_with_a_model_that_has_none(sd, toy):
    from PIL import Image

    from sdcli.request.picture import Picture

    request = Request("a cat", model="me/toy", revision="v9", seed=1, steps=1)
    Path("old.png").write_bytes(Picture(Image.new("RGB", (64, 64)), request).png())
    assert sd("again", "old.png", "-m", toy).code == 0


def test_info_lists_the_tensors_that_are_ignored(sd):
    surplus = {f"model_ema.{i}": [1] for i in range(9)} | {"v_pred": [1], "low_scale_model.\x1b[2J": [1]}
    write(Path("x.safetensors"), published("sd15") | surplus)
    ignored = json.loads(sd("info", "x.safetensors", "--json").out)["ignored"]
    assert {"betas", "model_ema.8", "v_pred"} <= set(ignored)
    line = sd("info", "x.safetensors").lines[-1]
    assert line.startswith(f"  ignored: {len(ignored)} tensors that no network needs: ")
    assert "low_scale_model.\\x1b[2J" in line
    assert f"{sum(key.startswith('model_ema.') for key in ignored)} of model_ema.*" in line
    assert "v_pred" in line
