"""Published checkpoints are recognised by their headers, and their tensors go where diffusers puts them."""

import functools
import gzip
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sdcli import registry
from sdcli.checkpoints import checkpoint, header
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.completeness import check_tensors
from sdcli.checkpoints.keys import single_file
from sdcli.diffusion.levels import Levels
from sdcli.errors import ModelError
from sdcli.models.build import build_on_meta
from sdcli.models.tensors import DTYPES
from tests import judges
from tests.single_file import layout
from tests.speed import allowed

GOLDEN = Path(__file__).parent.parent / "golden" / "names"
NORM = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
"""The tensor whose spread tells the prediction type of SD 2."""
FAMILIES = {  # published checkpoint -> family, prediction type, size
    "sd15": ("sd1", "epsilon", 512),
    "sd15-inpaint": ("sd1_inpaint", "epsilon", 512),
    "sd21-v": ("sd2", "v_prediction", 768),
    "sd2-depth": ("sd2_depth", "epsilon", 512),
    "sd2-inpaint": ("sd2_inpaint", "epsilon", 512),
    "sdxl-base": ("sdxl", "epsilon", 1024),
    "x4-upscaler": ("x4_upscaler", "v_prediction", 512),
}


def published(name: str) -> dict[str, list[int]]:
    """Key and shape of each tensor of a published checkpoint."""
    return json.loads(gzip.decompress((GOLDEN / f"{name}.json.gz").read_bytes()))


def write(
    path: Path, tensors: dict[str, list[int]], dtype: str = "F16", metadata: dict | None = None
) -> Path:
    """Write a safetensors file with these keys and shapes, laid out as the published ones; all weights are zero."""
    described, start = {"__metadata__": metadata or {"format": "pt"}}, 0
    for name in sorted(tensors):
        size = DTYPES[dtype].itemsize
        for side in tensors[name]:
            size *= side
        described[name] = {"dtype": dtype, "shape": tensors[name], "data_offsets": [start, start + size]}
        start += size
    text = json.dumps(described, separators=(",", ":")).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + start)  # a hole, which takes no room on the disk
    return path


def set_values(path: Path, name: str, values: list[float]) -> None:
    """Write the values of one tensor into a file that `write` made."""
    with open(path, "r+b") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        entry = json.loads(file.read(length))[name]
        file.seek(8 + length + entry["data_offsets"][0])
        stored = torch.tensor(values).to(DTYPES[entry["dtype"]])
        file.write(stored.view(torch.uint8).numpy().tobytes())


def shapes_of(network: torch.nn.Module) -> dict[str, list[int]]:
    """Name and shape of a network's tensors."""
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


def check_all_tensors(found: Checkpoint) -> None:
    """Raise ModelError unless every component has exactly the tensors that its network needs."""
    for part, component in found.components.items():
        check_tensors(component, shapes_of(build_on_meta(part, component.config, "x")))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_published_checkpoint_is_recognised_and_every_tensor_is_accounted_for(tmp_path, family):
    name, prediction, size = FAMILIES[family]
    path = write(tmp_path / "x.safetensors", published(family))
    if family == "sd21-v":  # only its weights show that it predicts v
        set_values(path, NORM, [0.2, -0.2] * 160)
    found = checkpoint.read(str(path))
    assert (found.family.name, found.prediction, found.size) == (name, prediction, size)
    used = {source.key for component in found.components.values() for source in component.sources.values()}
    assert used | set(found.ignored) == set(published(family))
    check_all_tensors(found)


def numbered(tensors: dict[str, list[int]], prefix: str) -> dict[str, torch.Tensor]:
    """A tensor for each key behind the prefix, of the right rank, whose one value is the key's number."""
    keys = sorted(tensors)
    return {k: torch.full([1] * len(tensors[k]), float(keys.index(k))) for k in keys if k.startswith(prefix)}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("part", ["unet", "vae"])
def test_unet_and_vae_keys_go_where_diffusers_puts_them(family, part):
    from diffusers.loaders import single_file_utils as theirs

    tensors = published(family)
    keys = sorted(tensors)
    prefix = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}[part]
    config = registry.find("families", FAMILIES[family][0]).configs[part]
    convert = {"unet": theirs.convert_ldm_unet_checkpoint, "vae": theirs.convert_ldm_vae_checkpoint}[part]
    network = judges.empty(part, config)
    expected = convert(numbered(tensors, prefix), {**network.config})
    ours = {}
    for key, targets in single_file.targets(keys).items():
        for target in targets or []:
            if target.part == part:
                ours[target.name] = keys.index(key)
    assert ours == {name: int(tensor.flatten()[0]) for name, tensor in expected.items()}


def test_open_clip_keys_go_where_diffusers_puts_them():
    from diffusers.loaders import single_file_utils as theirs

    tensors = published("sd21-v")
    config = registry.find("families", "sd2").configs["text_encoder"]
    network = judges.empty("text_encoder", config)
    if not hasattr(
        network, "text_model"
    ):  # diffusers' function looks for it; transformers has none since 5.6
        network.text_model = True
    prefix = "cond_stage_model.model."
    keys = sorted(tensors)
    stored = {}
    for number, key in enumerate(keys):
        if key.startswith(prefix):
            stored[key] = torch.full(tensors[key][:1] + [1] * (len(tensors[key]) - 1), float(number))
            if "in_proj" in key:  # each third of its rows gets a value of its own
                stored[key] += torch.arange(3).repeat_interleave(1024).reshape(stored[key].shape) / 4
    expected = theirs.convert_open_clip_checkpoint(network, stored, prefix=prefix)
    ours = {}
    for number, (_, targets) in enumerate(single_file.targets(keys).items()):
        for target in targets or []:
            if target.part == "text_encoder" and not (
                target.name.startswith("encoder.layers.23") or target.name == "proj"
            ):
                third = int(target.take[-1]) / 4 if target.take.startswith("third") else 0
                ours[target.name] = number + third
    ours.pop("text_projection.weight")
    theirs_plain = {k.removeprefix("text_model."): float(v.flatten()[0]) for k, v in expected.items()}
    theirs_plain.pop("text_projection.weight", None)
    assert {k: v for k, v in theirs_plain.items() if not k.endswith("position_ids")} == ours


def variants(tensors: dict[str, list[int]]) -> dict[str, dict[str, list[int]]]:
    """One checkpoint in the layouts that are in circulation."""
    ema = {
        "model_ema." + k.removeprefix("model.").replace(".", ""): v
        for k, v in tensors.items()
        if "diffusion" in k
    }
    bare = {k.replace("transformer.text_model.", "transformer."): v for k, v in tensors.items()}
    ids = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    return {
        "with an EMA copy": tensors | ema,
        "without text_model": bare,
        "without buffers": {k: v for k, v in tensors.items() if not single_file.IGNORABLE.match(k)},
        "with position ids": tensors | {ids: [1, 77]},
    }


@pytest.mark.parametrize("variant", variants(published("sd15")))
@pytest.mark.parametrize("dtype", ["F16", "F32", "BF16", "F8_E4M3"])
def test_the_layouts_in_circulation_are_accepted(tmp_path, variant, dtype):
    found = checkpoint.read(
        str(write(tmp_path / "x.safetensors", variants(published("sd15"))[variant], dtype))
    )
    assert found.family.name == "sd1"
    assert {part: len(component.sources) for part, component in found.components.items()} == {
        "text_encoder": 196,
        "unet": 686,
        "vae": 248,
    }


def test_a_text_encoder_with_the_prefix_that_sd_turbo_has_is_accepted(tmp_path):
    tensors = {
        key.replace("cond_stage_model.", "conditioner.embedders.0."): shape
        for key, shape in published("sd21-v").items()
    }
    found = checkpoint.read(str(write(tmp_path / "x.safetensors", tensors)))
    assert found.family.name == "sd2"
    check_all_tensors(found)


@pytest.mark.parametrize(
    ("spread", "metadata", "option", "expected", "decided_by"),
    [
        (0.02, {}, "auto", "epsilon", "the spread"),
        (0.2, {}, "auto", "v_prediction", "the spread"),
        (0.2, {"modelspec.prediction_type": "epsilon"}, "auto", "epsilon", "the file's metadata"),
        (0.02, {"modelspec.prediction_type": "v"}, "auto", "v_prediction", "the file's metadata"),
        (0.02, {"modelspec.prediction_type": "sample"}, "auto", "sample", "the file's metadata"),
        (0.2, {}, "epsilon", "epsilon", "--prediction"),
        (0.2, {"modelspec.prediction_type": "garbage"}, "epsilon", "epsilon", "--prediction"),
    ],
)
def test_the_prediction_type_of_sd2_is_decided_by_option_metadata_or_spread(
    tmp_path, spread, metadata, option, expected, decided_by
):
    path = write(tmp_path / "x.safetensors", published("sd21-v"), metadata=metadata)
    set_values(path, NORM, [spread, -spread] * 160)
    found = checkpoint.read(str(path), option)
    assert found.prediction == expected
    assert found.prediction_from.startswith(decided_by)
    assert found.size == (768 if expected == "v_prediction" else 512)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_spread_is_read_from_weights_of_every_dtype(tmp_path, dtype):
    path = write(tmp_path / "x.safetensors", published("sd21-v"), dtype)
    set_values(path, NORM, [0.2, -0.2] * 160)
    assert checkpoint.read(str(path)).prediction == "v_prediction"


@pytest.mark.parametrize(
    ("values", "words"),
    [([], "empty"), ([float("nan")] * 320, "not finite"), ([float("inf")] * 320, "not finite")],
)
def test_a_norm_of_sd2_that_is_empty_or_not_finite_is_an_error(tmp_path, sd, values, words):
    path = write(tmp_path / "x.safetensors", published("sd21-v") | {NORM: [len(values)]})
    set_values(path, NORM, values)
    with pytest.raises(ModelError, match=f"1 tensor .* {words}"):
        checkpoint.read(str(path))
    assert sd("info", path).code == 3


def test_an_unknown_prediction_type_is_an_error_that_names_it(tmp_path):
    metadata = {"modelspec.prediction_type": "garbage"}
    path = write(tmp_path / "x.safetensors", published("sd15"), metadata=metadata)
    with pytest.raises(
        ModelError, match="unknown prediction_type 'garbage'; say which it is with --prediction"
    ):
        checkpoint.read(str(path))


def test_the_markers_v_pred_and_ztsnr_are_read(tmp_path):
    marked = published("sdxl-base") | {"v_pred": [0], "ztsnr": [0]}
    found = checkpoint.read(str(write(tmp_path / "x.safetensors", marked)))
    assert (found.prediction, found.prediction_from) == ("v_prediction", "a tensor named v_pred")
    assert found.schedule == {"rescale_betas_zero_snr": True}
    assert found.levels == Levels.scaled_linear().rescaled()
    plain = checkpoint.read(str(write(tmp_path / "y.safetensors", published("sdxl-base"))))
    assert plain.levels == Levels.scaled_linear()


TEXT = "cond_stage_model.transformer.text_model."


@pytest.mark.parametrize(
    "twice",
    [
        ("cond_stage_model.transformer.final_layer_norm.bias", f"{TEXT}final_layer_norm.bias"),
        ("model.diffusion_model.input_blocks.0.0.bias", "unet.conv_in.bias"),
        ("first_stage_model.decoder.conv_in.bias", "vae.decoder.conv_in.bias"),
    ],
)
def test_two_names_of_one_tensor_are_an_error_that_names_both(tmp_path, twice):
    first, second = twice
    tensors = published("sd15")
    path = write(
        tmp_path / "x.safetensors", tensors | dict.fromkeys(twice, tensors.get(first) or tensors[second])
    )
    with pytest.raises(ModelError, match=f"{first} and {second} are two names of one tensor"):
        checkpoint.read(str(path))


@pytest.mark.parametrize(
    "key",
    [
        "text_encoder_2.junk",
        "depth_model.model.junk",
        "model.diffusion_model.sqrt_junk",
        "first_stage_model.logvar",
        f"{TEXT}encoder.layers.99.junk",
        f"{TEXT}encoder.layers.12.layer_norm1.bias",
    ],
)
def test_an_unknown_tensor_is_an_error_in_every_component(tmp_path, key):
    path = write(tmp_path / "x.safetensors", published("sd15") | {key: [768]})
    with pytest.raises(ModelError, match=r"1 tensor \(.*\) (of no network|too many)"):
        check_all_tensors(checkpoint.read(str(path)))


def test_a_text_encoder_of_another_model_is_an_error(tmp_path):
    text = {key: shape for key, shape in published("sd21-v").items() if key.startswith("cond_stage")}
    rest = {key: shape for key, shape in published("sd15").items() if not key.startswith("cond_stage")}
    with pytest.raises(ModelError, match="text of width 1024, of which its U-Net reads 768"):
        checkpoint.read(str(write(tmp_path / "x.safetensors", text | rest)))


def test_vae_takes_the_vae_of_a_whole_checkpoint(tmp_path):
    whole = str(write(tmp_path / "x.safetensors", published("sd15")))
    own, other = (checkpoint.read(whole, vae=vae).components["vae"] for vae in (None, whole))
    assert other.sources == own.sources


OTHER_FILES = {  # what the message says -> keys and shapes
    "a LoRA": {"lora_unet_down_blocks_0.lora_up.weight": [4, 4]},
    "a ControlNet": {"control_model.input_blocks.0.0.weight": [4, 4]},
    "a textual inversion": {"emb_params": [2, 768]},
    "a Flux model": {"double_blocks.0.img_attn.proj.weight": [4, 4]},
    "a VAE alone": {"encoder.down_blocks.0.x": [1], "decoder.conv_in.weight": [1]},
    "a U-Net alone; -m": {"down_blocks.0.resnets.0.conv1.weight": [1]},
    "a U-Net alone": {"diffusion_model.input_blocks.0.0.weight": [1]},
    "a text encoder alone": {"text_model.embeddings.token_embedding.weight": [1]},
    "only decoder, encoder": {"encoder.x": [1], "decoder.x": [1]},
    "only nothing": {},
}


@pytest.mark.parametrize("what", OTHER_FILES)
def test_a_file_without_a_unet_is_an_error_that_says_what_it_is(tmp_path, what):
    with pytest.raises(ModelError, match=what):
        checkpoint.read(str(write(tmp_path / "x.safetensors", OTHER_FILES[what])))


def test_a_checkpoint_without_its_vae_is_an_error(tmp_path):
    tensors = {
        key: shape for key, shape in published("sd15").items() if not key.startswith("first_stage_model")
    }
    with pytest.raises(ModelError, match="no VAE in it; name one with --vae"):
        checkpoint.read(str(write(tmp_path / "x.safetensors", tensors)))


def test_a_tensor_with_an_unknown_prefix_is_an_error_that_names_it(tmp_path):
    path = write(tmp_path / "x.safetensors", published("sd15") | {"strange": [1]})
    with pytest.raises(ModelError, match=r"1 tensor \(strange\) of no network"):
        checkpoint.read(str(path))


@pytest.fixture
def headers_read(monkeypatch) -> list[Path]:
    """The files whose headers were read, in order."""
    paths, read = [], header.read
    monkeypatch.setattr(header, "read", lambda path: paths.append(path) or read(path))
    return paths


def test_the_header_of_each_file_in_a_folder_is_read_once(toy, headers_read):
    found = checkpoint.read(str(toy))
    assert sorted(headers_read) == sorted(found.paths)
    assert len(headers_read) == 3


def test_the_header_of_each_shard_is_read_once(toy, tmp_path, shard, headers_read):
    folder = Path(shutil.copytree(toy, tmp_path / "sharded"))
    shard(folder / "unet")
    found = checkpoint.read(str(folder))
    assert sorted(headers_read) == sorted(found.paths)
    assert len(headers_read) == 4


def test_the_header_of_a_single_file_is_read_once_even_if_vae_names_it_too(tmp_path, headers_read):
    path = write(tmp_path / "x.safetensors", published("sd15"))
    checkpoint.read(str(path), vae=str(path))
    assert headers_read == [path]


def test_the_headers_of_a_repo_are_read_once_though_the_cache_is_checked_first(
    toy, monkeypatch, headers_read
):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(toy))
    found = checkpoint.read("me/toy", fetches=False)
    assert sorted(headers_read) == sorted(found.paths)
    assert len(headers_read) == 3


@functools.cache
def full_size(family: str) -> dict[str, list[int]]:
    """The layout of a single file of a family, as the tests build it."""
    found = registry.find("families", family)
    return layout(found, found.configs)


FAMILY_NAMES = [name for name in registry.names("families") if name != "tiny"]
PROGRAM = """
import json, sys, time
from sdcli import cli
from sdcli.checkpoints import checkpoint
cli.run(["info", sys.argv[1]])  # so that everything is imported
for path in sys.argv[1:]:
    seconds = []
    for _ in range(3):
        start = time.process_time()
        found = checkpoint.read(path)
        seconds.append(time.process_time() - start)
    print(json.dumps([found.family.name, min(seconds)]))
print(json.dumps(sorted({"torch", "numpy", "diffusers", "transformers"} & set(sys.modules))))
"""


def test_every_family_is_recognised_by_its_header_within_a_tenth_of_a_second_and_without_torch(tmp_path):
    paths = []
    for number, name in enumerate(FAMILY_NAMES):  # so that the file names say nothing
        paths.append(str(write(tmp_path / f"{number}.safetensors", full_size(name))))
    ran = subprocess.run([sys.executable, "-c", PROGRAM, *paths], capture_output=True, text=True, check=True)
    *recognised, heavy_imports = (
        json.loads(line) for line in ran.stdout.splitlines() if line.startswith("[")
    )
    assert [name for name, _ in recognised] == FAMILY_NAMES
    limit = allowed(0.1)
    assert {name: seconds for name, seconds in recognised if seconds > limit} == {}
    assert heavy_imports == []


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layouts_that_tests_build_are_the_published_ones(family):
    built, original = full_size(FAMILIES[family][0]), published(family)
    assert {key: original[key] for key in built} == built
