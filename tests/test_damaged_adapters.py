"""Damaged adapter files are refused in one line, or used: never a traceback, and the model is as it was afterwards."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from sdcli.checkpoints.adapter_info import describe
from sdcli.engine import generate
from sdcli.errors import SdError
from sdcli.models.cache import ModelCache
from sdcli.request.request import Request
from tests import adapter_files, control_files, embeddings, pictures
from tests.adapters import loras
from tests.adapters.test_lora import fingerprint
from tests.damaged import damaged

KINDS = ("lora", "loha", "hypernet", "ip_adapter", "control", "embedding")


def small(kind: str, folder: Path) -> bytes:
    """A small adapter file for test:sd1, of few modules, so that a mutant is soon tried."""
    path = folder / "whole.safetensors"
    if kind == "lora":
        tensors = loras.tensors("test:sd1", alpha=1.0)
        return save({key: value for key, value in tensors.items() if "conv_in" in key or "mid_block" in key})
    if kind == "loha":
        names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
        shapes = {"a": (16, 2), "b": (2, 36)}
        return save({f"lora_unet_conv_in.{name}": torch.ones(shapes[name[-1]]) for name in names})
    if kind == "hypernet":
        adapter_files.hypernet(path, [16])
    elif kind == "ip_adapter":
        layers = [name for name in loras.shapes("test:sd1")["unet"] if name.endswith("attn2.to_k.weight")]
        adapter_files.ip_adapter(path, [16] * len(layers), 16)
    elif kind == "control":
        return Path(control_files.controlnet(folder)).read_bytes()
    else:
        embeddings.a1111(path, 2, 16)
    return path.read_bytes()


def asked(kind: str, path: Path, folder: Path) -> Request:
    """A request that uses the file."""
    picture, encoder = folder / "picture.png", folder / "encoder" / "model.safetensors"
    option = {
        "lora": {"lora": (str(path),)},
        "loha": {"lora": (str(path),)},
        "hypernet": {"hypernet": (str(path),)},
        "ip_adapter": {"ip_adapter": (f"{path}:image={picture}:encoder={encoder}",)},
        "control": {"control": (f"{path}:image={picture}",)},
        "embedding": {"embedding": (str(path),)},
    }[kind]
    return Request(prompt="a mutant", model="test:sd1", seed=1, steps=1, allow_partial=True, **option)


def is_used(path: Path, request: Request, models: ModelCache) -> bool:
    """Look at the file and draw with it; False if it is refused, which must be in one line."""
    for use in (lambda: describe(path), lambda: generate(request, models)):
        try:
            use()
        except SdError as error:
            assert "\n" not in str(error)
            return False
    return True


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A folder with a picture and an image encoder, and a cache that holds test:sd1."""
    folder = tmp_path_factory.mktemp("damaged")
    pictures.photo().save(folder / "picture.png")
    adapter_files.image_encoder(folder / "encoder")
    return folder, ModelCache()


def try_mutants(setting, kind: str, seed: int, count: int) -> int:
    """How many of so many damaged files of a kind are used; the model is as it was afterwards."""
    folder, models = setting
    path = folder / "mutant.safetensors"
    path.write_bytes(small(kind, folder))
    request = asked(kind, path, folder)
    assert is_used(path, request, models)
    with models.use(request.loading) as model:
        before = fingerprint(model)
        used = 0
        for mutant in damaged(path.read_bytes(), seed, count):
            path.write_bytes(mutant)
            used += is_used(path, request, models)
        assert fingerprint(model) == before
    return used


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_adapter_is_refused_in_one_line_or_used(setting, kind):
    assert try_mutants(setting, kind, seed=1, count=60) < 60


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_thousand_damaged_adapters_are_refused_in_one_line_or_used(setting, kind):
    assert try_mutants(setting, kind, seed=2, count=100_000 // len(KINDS)) < 80_000
