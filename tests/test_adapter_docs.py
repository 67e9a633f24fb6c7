"""The page on adapters: its examples with files that are not in the package run too, with files of a toy model."""

import re
import shlex
from pathlib import Path

import pytest

from sdcli.checkpoints import tensor_shapes
from sdcli.checkpoints.checkpoint import read
from sdcli.checkpoints.ip_adapters import cross_attentions
from tests import adapter_files
from tests.pictures import photo

PAGE = Path(__file__).parent.parent / "docs" / "adapters-image.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
EXAMPLES = [line for language, block in BLOCKS if not language for line in block.splitlines()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files that the page names, for test:sd1."""
    unet = tensor_shapes.of_network("unet", read("test:sd1").components["unet"].config, "x")
    widths = [unet[key][0] for key in cross_attentions(unet)]
    adapter_files.hypernet(tmp_path / "style.safetensors", (16,))
    adapter_files.ip_adapter(tmp_path / "ip-adapter_sd15.safetensors", widths, 16)
    adapter_files.image_encoder(tmp_path / "image_encoder")
    photo(40, 30).save(tmp_path / "face.png")
    monkeypatch.delenv("SDCLI_IMAGE_ENCODER", raising=False)
    return tmp_path


def test_the_examples_with_files_run_with_files_of_a_toy_model(sd, folder, monkeypatch):
    assert len(EXAMPLES) == 5
    for line in EXAMPLES:
        command, *words = shlex.split(line.replace("model.safetensors --", "test:sd1 --"))
        if command == "export":
            name, _, value = words[0].partition("=")
            monkeypatch.setenv(name, value)
            continue
        assert command == "sd"
        more = () if words[0] == "info" else ("--steps", 1)
        ran = sd(*words, *more)
        assert (ran.code, len(ran.lines) > 0) == (0, True), f"{line}: {ran.err}"
