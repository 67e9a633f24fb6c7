"""C7 (black#2813, kohya_ss#1143): a user without HOME or an entry in the password file, as in containers."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows always knows a home folder")
WITHOUT_ENTRY = """
import os, pwd, sys
def no_entry(user): raise KeyError(f"getpwuid(): uid not found: {user}")
pwd.getpwuid = no_entry
from sdcli.__main__ import main
main()
"""
VARIABLES = (
    "HOME",
    "SDCLI_MODELS",
    "SDCLI_CACHE",
    "SDCLI_STYLES",
    "SDCLI_WILDCARDS",
    "SDCLI_EMBEDDINGS",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "HF_HOME",
    "HF_HUB_CACHE",
)


@pytest.fixture(params=["unset", "empty", pytest.param("relative", marks=pytest.mark.slow)])
def sd_homeless(request, tmp_path):
    """Run `sd` as a user without a home folder: sd_homeless("models") -> (code, output, lines of error)."""
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    environment |= {"empty": {"HOME": ""}, "relative": {"HOME": "nowhere"}}.get(request.param, {})

    def call(*arguments: object, **more: str):
        command = [sys.executable, "-c", WITHOUT_ENTRY, *map(str, arguments)]
        ran = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, env={**environment, **more}
        )
        return ran.returncode, ran.stdout, ran.stderr.splitlines()

    return call


@pytest.mark.parametrize(
    "arguments", [["models"], ["models", "--json"], ["info", "tiny"], ["samplers"]], ids=" ".join
)
def test_c7_what_needs_no_home_folder_works(sd_homeless, arguments):
    code, out, errors = sd_homeless(*arguments)
    assert (code, errors) == (0, [])
    assert "tiny" in out or "euler" in out


@pytest.mark.parametrize(
    "arguments",
    [["info", "some-name"], ["txt2img", "a cat", "-m", "some-name"], ["txt2img", "a cat", "-m", "~no/x.safetensors"],
     ["info", "owner/name"], ["txt2img", "a cat", "--vae", "~/vae.safetensors"]],
    ids=" ".join,
)  # fmt: skip
def test_c7_a_name_that_is_not_found_is_one_line(sd_homeless, arguments):
    code, _, errors = sd_homeless(*arguments)
    assert (code in (2, 3), len(errors)) == (True, 1)


def test_c7_a_model_folder_that_is_named_is_looked_through(sd_homeless, toy):
    code, out, errors = sd_homeless("models", "--json", SDCLI_MODELS=f"~/models:{toy.parent}")
    assert (code, errors) == (0, [])
    assert "toy" in {json.loads(line)["name"] for line in out.splitlines()}


def test_c7_a_picture_is_drawn_and_nothing_else_is_written(sd_homeless, toy, tmp_path):
    code, out, errors = sd_homeless("txt2img", "a cat", "-q", "-m", toy, "-s", 1, "--seed", 7)
    assert (code, out, errors) == (0, "a-cat-7.png\n", [])
    assert os.listdir(tmp_path) == ["a-cat-7.png"]


def test_c7_the_hash_of_a_large_file_is_computed_though_it_cannot_be_remembered(monkeypatch, tmp_path):
    from sdcli import settings
    from sdcli.checkpoints import hashes

    (tmp_path / "x").write_bytes(b"weights")
    monkeypatch.setattr(settings, "cache_folder", lambda: None)
    monkeypatch.setattr(hashes, "SMALL_FILE", 0)
    assert hashes.digest([tmp_path / "x"]) == hashlib.sha256(b"weights").hexdigest()


def test_c7_a_hub_model_needs_a_folder_to_be_fetched_into(monkeypatch):
    from huggingface_hub import constants

    from sdcli.checkpoints import hub
    from sdcli.errors import ModelError

    monkeypatch.setattr(constants, "HF_HUB_CACHE", "~/.cache/huggingface/hub")
    with pytest.raises(ModelError, match="no home folder to fetch it into; set HF_HOME"):
        hub.fetch("owner/name")
