"""--vae takes a VAE from a folder, from files with every naming, from a whole checkpoint, and a tiny autoencoder."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdcli.checkpoints import checkpoint
from sdcli.convert import convert
from sdcli.engine import generate
from sdcli.models.load import load
from sdcli.request.request import Request
from tests import judges

PREFIX = "first_stage_model."
NAMINGS = [
    "LDM names",
    "LDM names with prefix",
    "diffusers names",
    "diffusers names with prefix",
    "a whole checkpoint",
]


def doubled_vae(path: Path, naming: str) -> dict[str, torch.Tensor]:
    """The VAE of the single file `path`, each value doubled, with the keys of this naming."""
    stored = {key: 2 * value for key, value in load_file(path).items()}
    if naming == "a whole checkpoint":
        return stored
    if naming.startswith("diffusers"):
        own = load(str(path), "cpu", "float32").vae.state_dict()
        prefix = "vae." if naming.endswith("with prefix") else ""
        return {prefix + name: 2 * value.contiguous() for name, value in own.items()}
    vae = {key: value for key, value in stored.items() if key.startswith(PREFIX)}
    vae[f"{PREFIX}loss.logvar"] = torch.zeros(1)
    if naming.endswith("with prefix"):
        return vae
    return {key.removeprefix(PREFIX): value for key, value in vae.items()}


@pytest.mark.parametrize("naming", NAMINGS)
def test_the_vae_in_a_file_replaces_the_models_own_and_nothing_else(written, tmp_path, naming):
    _, path = written("sd1")
    save_file(doubled_vae(path, naming), tmp_path / "other.safetensors")
    own, other = (
        load(str(path), "cpu", "float32", vae=vae) for vae in (None, str(tmp_path / "other.safetensors"))
    )
    before, after = own.vae.state_dict(), other.vae.state_dict()
    assert [name for name in before if not torch.equal(2 * before[name], after[name])] == []
    assert torch.equal(own.unet.conv_in.weight, other.unet.conv_in.weight)


def test_another_vae_changes_the_picture_and_the_models_hash_but_not_the_latents(tmp_path, toy):
    vae = judges.random("vae", json.loads((toy / "vae" / "config.json").read_text()))
    with torch.no_grad():
        vae.decoder.conv_out.bias += 0.5
    vae.save_pretrained(tmp_path / "vae")
    own, other = (
        generate(Request("a cat", model=str(toy), seed=1, steps=2, vae=path))
        for path in (None, str(tmp_path / "vae"))
    )
    assert torch.equal(own.latents, other.latents)
    assert own.picture.image.tobytes() != other.picture.image.tobytes()
    assert other.picture.facts["model"]["sha256"] != own.picture.facts["model"]["sha256"]


@pytest.fixture(scope="module")
def taesd(tmp_path_factory):
    """(diffusers' tiny autoencoder with random weights, a folder with it in one file and in two)."""
    from diffusers import AutoencoderTiny

    folder = tmp_path_factory.mktemp("taesd")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = AutoencoderTiny()
    weights = network.state_dict()
    save_file(weights, folder / "whole.safetensors")
    halves = {"encoder": {}, "decoder": {}}  # two lists of layers; the decoder's begins with a clamp
    for name, tensor in weights.items():
        side, _, number, rest = name.split(".", 3)
        halves[side][f"{int(number) + (side == 'decoder')}.{rest}"] = tensor
    for side, tensors in halves.items():
        save_file(tensors, folder / f"autoencoder_{side}.safetensors")
    return network, folder


TAESD_FILES = ["whole", "autoencoder_decoder", "autoencoder_encoder"]


@pytest.mark.parametrize("name", TAESD_FILES)
def test_a_tiny_autoencoder_in_one_file_or_in_two_is_loaded_with_every_weight(toy, taesd, name):
    network, folder = taesd
    ours = load(str(toy), vae=str(folder / f"{name}.safetensors")).vae.state_dict()
    weights = network.state_dict()
    assert [key for key, tensor in weights.items() if not torch.equal(ours[key], tensor)] == []


def test_a_tiny_autoencoder_decodes_to_the_pixels_of_diffusers(toy, taesd):
    network, folder = taesd
    vae = str(folder / "whole.safetensors")
    result = generate(Request("a cat", model=str(toy), seed=1, steps=2, vae=vae))
    network.to(memory_format=torch.channels_last)  # the one it is drawn in; another sums in another order
    with torch.no_grad():
        decoded = network.decode(result.latents.contiguous(memory_format=torch.channels_last)).sample
    pixels = (decoded[0].clamp(-1, 1) * 127.5 + 127.5).round().byte().permute(1, 2, 0).contiguous()
    assert result.picture.image.tobytes() == pixels.numpy().tobytes()


def test_the_hash_is_the_same_whichever_half_of_a_tiny_autoencoder_is_named(toy, taesd):
    _, folder = taesd
    whole, decoder, encoder = (
        load(str(toy), vae=str(folder / f"{name}.safetensors")).facts["model"]["sha256"]
        for name in TAESD_FILES
    )
    assert whole != decoder == encoder


def test_a_tiny_autoencoder_is_converted_to_a_folder_that_diffusers_opens(tmp_path, toy, taesd):
    from diffusers import AutoencoderTiny

    network, folder = taesd
    vae = str(folder / "autoencoder_decoder.safetensors")
    convert(checkpoint.read(str(toy), vae=vae), tmp_path / "converted")
    theirs = AutoencoderTiny.from_pretrained(tmp_path / "converted" / "vae").state_dict()
    weights = network.state_dict()
    assert [key for key, tensor in weights.items() if not torch.equal(theirs[key], tensor)] == []
    index = json.loads((tmp_path / "converted" / "model_index.json").read_text())
    assert index["vae"] == ["diffusers", "AutoencoderTiny"]
