"""Networks in several files: which files they are, and that they are the same model as in one file."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sdcli.checkpoints import checkpoint, hub, shards
from sdcli.convert import convert
from sdcli.models.load import load

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def sharded(toy, tmp_path, shard) -> Path:
    """The toy model with its U-Net and its text encoder in several files, as `save_pretrained` writes them."""
    from diffusers import UNet2DConditionModel

    folder = Path(shutil.copytree(toy, tmp_path / "sharded"))
    unet = UNet2DConditionModel.from_pretrained(toy / "unet")
    (folder / "unet" / WEIGHTS).unlink()
    unet.save_pretrained(folder / "unet", max_shard_size="200KB", variant="fp16")
    names = [path.name for path in (folder / "unet").glob("*")]
    assert len(names) > 3, names
    assert any("index" in name and "fp16" in name for name in names), names
    shard(folder / "text_encoder")
    return folder


def test_a_model_in_several_files_loads_the_same_weights(toy, sharded):
    own, other = (load(str(path), "cpu", "float32") for path in (toy, sharded))
    for part, network in own.networks.items():
        ours, theirs = network.state_dict(), other.networks[part].state_dict()
        assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_the_paths_of_a_checkpoint_are_the_files_of_its_weights_each_once(sharded):
    assert sorted(checkpoint.read(str(sharded)).paths) == sorted(sharded.rglob("*.safetensors"))


def test_converting_puts_several_files_into_one(toy, sharded, tmp_path):
    convert(checkpoint.read(str(sharded)), tmp_path / "converted")
    ours, theirs = (load_file(folder / "unet" / WEIGHTS) for folder in (tmp_path / "converted", toy))
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


STEM = "diffusion_pytorch_model"
SHARDS = [f"{STEM}-0000{i}-of-00002.safetensors" for i in (1, 2)]
HALF = [name.replace("model-", "model.fp16-") for name in SHARDS]
OLD_HALF = [name.replace(".safetensors", ".fp16.safetensors") for name in SHARDS]
INDEX, HALF_INDEX = f"{STEM}.safetensors.index.json", f"{STEM}.safetensors.index.fp16.json"
OTHER_HALF_INDEX, OLD_HALF_INDEX = (
    f"{STEM}.fp16.safetensors.index.json",
    f"{STEM}.safetensors.fp16.index.json",
)
FOLDERS = {  # case -> names in the folder, names of the weights
    "full precision before half": ([f"{STEM}.fp16.safetensors", WEIGHTS], [WEIGHTS]),
    "shards before one file in half": ([f"{STEM}.fp16.safetensors", *SHARDS, INDEX], [INDEX, *SHARDS]),
    "shards without an index": ([f"{STEM}.fp16.safetensors", *SHARDS], [f"{STEM}.fp16.safetensors"]),
    "shards in half": ([*HALF, HALF_INDEX], [HALF_INDEX, *HALF]),
    "shards in half, transformers' index": ([*HALF, OTHER_HALF_INDEX], [OTHER_HALF_INDEX, *HALF]),
    "shards in half, old names": ([*OLD_HALF, OLD_HALF_INDEX], [OLD_HALF_INDEX, *OLD_HALF]),
    "shards before shards in half": ([*SHARDS, *HALF, INDEX, HALF_INDEX], [INDEX, *SHARDS]),
    "a shard of another set": ([*SHARDS, SHARDS[0].replace("00002", "00003"), INDEX], [INDEX, *SHARDS]),
    "a shard missing": ([SHARDS[0], INDEX, f"{STEM}.fp16.safetensors"], []),
    "other names": ([f"py{STEM}.safetensors", "model.safetensors"], []),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_the_files_of_a_networks_weights_are_chosen_by_their_names(case):
    names, needed = FOLDERS[case]
    assert shards.needed(names, "unet") == needed


def test_weights_in_a_folder_further_in_are_not_taken():
    files = ["unet/config.json", f"unet/{STEM}.fp16.safetensors", f"unet/ema/{WEIGHTS}"]
    assert hub._needed("x", files) == ["unet/config.json", f"unet/{STEM}.fp16.safetensors"]
