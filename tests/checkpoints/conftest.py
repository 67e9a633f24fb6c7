"""Fixtures: the folders of another tool, with a file of each kind."""

import json
import shutil

import pytest

from tests import embeddings, upscaler_files

LAYOUTS = {
    "comfyui": (
        "models/checkpoints",
        "models/vae",
        "models/loras",
        "models/embeddings",
        "models/upscale_models",
    ),
    "a1111": ("models/Stable-diffusion", "models/VAE", "models/Lora", "embeddings", "models/ESRGAN"),
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache and no folders but those that a test names."""
    monkeypatch.setenv("SDCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def single(tmp_path_factory):
    """A whole model in one file."""
    from sdcli.checkpoints import checkpoint
    from sdcli.convert import convert

    return convert(checkpoint.read("test:sd1"), tmp_path_factory.mktemp("single") / "m.safetensors")


@pytest.fixture(params=LAYOUTS)
def tool(request, tmp_path, single, monkeypatch, cache):
    """The folder of another tool, with a file of each kind in sub-folders and a damaged one."""
    root = tmp_path / "tool"
    models, vae, loras, embedded, upscalers = (root / each for each in LAYOUTS[request.param])
    (models / "anime").mkdir(parents=True)
    shutil.copy(single, models / "anime" / "dream_8.safetensors")
    (models / "broken.safetensors").write_bytes(b"\0" * 100)
    lora = {
        "lora_unet_x.lora_up.weight": ((4, 1), [0.0] * 4),
        "lora_unet_x.lora_down.weight": ((1, 4), [0.0] * 4),
    }
    embeddings.write(loras / "people" / "anna.safetensors", lora)
    (loras / "people" / "anna.json").write_text(json.dumps({"activation text": "ann4, woman"}))
    embeddings.a1111(embedded / "neg.safetensors")
    embeddings.write(vae / "mse.safetensors", {"decoder.conv_in.weight": ((1,), [0.0])})
    upscaler_files.write(upscalers / "sharp.safetensors", upscaler_files.compact())
    monkeypatch.setenv("SDCLI_MODELS", str(root))
    return root
