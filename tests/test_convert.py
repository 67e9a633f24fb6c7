"""Checkpoints written anew: the names are the published ones, the bytes are stable, and the picture stays the same."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sdcli import registry
from sdcli.networks import ldm, names
from sdcli.networks.names import IGNORABLE
from tests.networks.test_checkpoint import FAMILIES, published


@pytest.mark.parametrize("family", FAMILIES)
def test_the_way_back_gives_the_published_names(family):
    keys = [key for key in published(family) if not IGNORABLE.search(key)]
    levels = len(registry.find("families", FAMILIES[family][0]).configs["vae"]["block_out_channels"])
    parts: dict[str, dict[str, tuple[str, str]]] = {}
    for key in keys:
        for target in names.targets(key) or []:
            settled = names.settle(target, levels)
            parts.setdefault(settled.part, {})[settled.name] = (key, settled.take)
    for part, own in parts.items():
        open_clip = any("resblocks" in key for key, _ in own.values())
        back = ldm.keys(part, list(own), FAMILIES[family][0], open_clip)
        assert {name: (source.key, source.take) for name, source in back.items()} == own


def test_a_converted_folder_draws_the_same_picture(sd, toy):
    assert sd("models", "convert", toy, "copy").lines == ["copy"]
    for model, name in ((toy, "a.png"), ("copy", "b.png")):
        ran = sd("txt2img", "a cat", "-m", model, "--seed", 1, "-s", 2, "--no-metadata", "-o", name)
        assert ran.code == 0, ran.err
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_the_dtype_of_the_weights_can_be_chosen(sd, toy):
    assert sd("models", "convert", toy, "half", "--dtype", "float16").lines == ["half"]
    for path in Path("half").rglob("*.safetensors"):
        assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}


def test_the_same_model_gives_the_same_bytes_and_nothing_is_overwritten(sd, toy):
    for out in ("a", "b"):
        assert sd("models", "convert", toy, out).code == 0
    files = sorted(path.relative_to("a") for path in Path("a").rglob("*") if path.is_file())
    assert files
    assert all((Path("a") / file).read_bytes() == (Path("b") / file).read_bytes() for file in files)
    again = sd("models", "convert", toy, "a")
    assert (again.code, len(again.err.splitlines())) == (2, 1)


def test_what_cannot_be_converted_is_one_line(sd, toy):
    for arguments, code in [(("test:sd1", "x"), 3), (("none", "x"), 3), ((toy, "x", "--dtype", "int8"), 2)]:
        ran = sd("models", "convert", *arguments)
        assert (ran.code, len(ran.err.splitlines())) == (code, 1)
