"""Pictures of other tools as their users published them: those in the source distribution of sd-parsers.

They are fetched with pip, since they are not ours to distribute. sd-parsers itself is the independent implementation.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest
from sd_parsers import ParserManager

from sdcli.request.other_tools.recognise import recognise
from sdcli.request.png_metadata import read_png_metadata

pytestmark = pytest.mark.slow

TOOLS = {
    "AUTOMATIC1111": "A1111",
    "ComfyUI": "ComfyUI",
    "Fooocus": "Fooocus",
    "InvokeAI": "InvokeAI",
    "NovelAI": "NovelAI",
}
"""Folder of the pictures -> what sd calls the tool that made them."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The pictures, in a folder for each tool."""
    folder = tmp_path_factory.mktemp("sd-parsers")
    wanted = f"sd-parsers=={version('sd-parsers')}"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--no-binary",
        "sd-parsers",
        wanted,
    ]
    subprocess.run(command, cwd=folder, check=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as file:
        file.extractall(folder, filter="data")
    found = sorted(folder.glob("*/tests/resources/parsers/*/*.*g"))
    assert {path.parent.name for path in found} == TOOLS.keys()
    return found


def _ours(path: Path):
    metadata = read_png_metadata(str(path), str(path))
    return recognise(metadata.texts, (metadata.width, metadata.height))


def _theirs(path: Path, seed: int):
    """What sd-parsers finds of the sampler with this seed; None if it cannot read the picture."""
    found = ParserManager().parse(path)
    samplers = found.samplers if found else []
    seeds = [int(each.parameters.get("seed", each.parameters.get("noise_seed", -1))) for each in samplers]
    return samplers[seeds.index(seed)] if samplers else None


def test_each_tool_is_recognised(pictures):
    assert [_ours(path).tool for path in pictures] == [TOOLS[path.parent.name] for path in pictures]


def test_sd_parsers_reads_the_same_from_them(pictures):
    compared = 0
    for path in pictures:
        ours = _ours(path)
        if (theirs := _theirs(path, ours.fields["seed"])) is None:
            continue
        compared += 1
        for ours_is, theirs_is in (("steps", "steps"), ("cfg", "cfg_scale")):
            if theirs_is in theirs.parameters:
                assert ours.fields[ours_is] == float(theirs.parameters[theirs_is]), path.name
        assert ours.fields["prompt"].strip() in [each.value.strip() for each in theirs.prompts], path.name
        negatives = [each.value.strip() for each in theirs.negative_prompts] or [""]
        assert ours.fields["negative"].strip() in negatives, path.name
        if theirs.model is not None and theirs.model.name:
            assert ours.model.startswith(Path(theirs.model.name).stem), path.name
    assert compared == len(pictures) - 1  # all but the picture whose text is hidden in its pixels
