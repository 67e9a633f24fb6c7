"""Published checkpoints, recognised and accounted for by their headers; the mapping of names is that of diffusers."""

import gzip
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sdcli import registry
from sdcli.checkpoints import checkpoint
from sdcli.checkpoints.keys import ldm
from sdcli.diffusion.levels import Levels
from sdcli.errors import ModelError
from sdcli.models import classes
from sdcli.models.load import DTYPES, check_tensors
from sdcli.models.load import _levels as levels
from tests.single_file import layout

GOLDEN = Path(__file__).parent.parent / "golden" / "names"
NORM = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
"""What the prediction type of SD 2 shows in."""
FAMILIES = {
    "sd15": ("sd1", "epsilon", 512),
    "sd15-inpaint": ("sd1_inpaint", "epsilon", 512),
    "sd21-v": ("sd2", "v_prediction", 768),
    "sd2-depth": ("sd2_depth", "epsilon", 512),
    "sd2-inpaint": ("sd2_inpaint", "epsilon", 512),
    "sdxl-base": ("sdxl", "epsilon", 1024),
    "x4-upscaler": ("x4_upscaler", "v_prediction", 512),
}


def published(family: str) -> dict[str, list[int]]:
    return json.loads(gzip.decompress((GOLDEN / f"{family}.json.gz").read_bytes()))


def write(
    path: Path, tensors: dict[str, list[int]], dtype: str = "F16", metadata: dict | None = None
) -> Path:
    """A safetensors file of these names and shapes as the published ones are laid out, its weights a hole of zeros."""
    header, place = {"__metadata__": metadata or {"format": "pt"}}, 0
    for name in sorted(tensors):
        size = DTYPES[dtype].itemsize
        for side in tensors[name]:
            size *= side
        header[name] = {"dtype": dtype, "shape": tensors[name], "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header, separators=(",", ":")).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + place)
    return path


def ones(path: Path, name: str, values: list[float]) -> None:
    """Write the values of one tensor into a file that `write` made."""
    with open(path, "r+b") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        entry = json.loads(file.read(length))[name]
        file.seek(8 + length + entry["data_offsets"][0])
        stored = torch.tensor(values).to(DTYPES[entry["dtype"]])
        file.write(stored.view(torch.uint8).numpy().tobytes())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_published_checkpoint_is_recognised_and_every_tensor_is_accounted_for(tmp_path, family):
    name, prediction, size = FAMILIES[family]
    path = write(tmp_path / "x.safetensors", published(family))
    if family == "sd21-v":  # its v-prediction shows in the weights alone
        ones(path, NORM, [0.2, -0.2] * 160)
    found = checkpoint.read(str(path))
    assert (found.family.name, found.prediction, found.size) == (name, prediction, size)
    taken = {source.key for network in found.networks.values() for source in network.sources.values()}
    assert taken | set(found.ignored) == set(published(family))
    for part, network in found.networks.items():
        check_tensors(network, classes.build_on_meta(part, network.config, "x"))


def tagged(tensors: dict[str, list[int]], prefix: str) -> dict[str, torch.Tensor]:
    """Tensors of the right rank whose one value is their number in the list."""
    keys = sorted(tensors)
    return {k: torch.full([1] * len(tensors[k]), float(keys.index(k))) for k in keys if k.startswith(prefix)}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("part", ["unet", "vae"])
def test_the_names_are_mapped_as_diffusers_maps_them(family, part):
    from diffusers.loaders import single_file_utils as theirs

    tensors = published(family)
    keys = sorted(tensors)
    prefix = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}[part]
    config = registry.find("families", FAMILIES[family][0]).configs[part]
    convert = {"unet": theirs.convert_ldm_unet_checkpoint, "vae": theirs.convert_ldm_vae_checkpoint}[part]
    net = classes.build_on_meta(part, config, "x")
    expected = convert(tagged(tensors, prefix), {**net.config})
    levels = len(config["block_out_channels"])
    ours = {}
    for key in keys:
        for target in ldm.targets(key) or []:
            if target.part == part:
                ours[ldm.settle(target, levels).name] = keys.index(key)
    assert ours == {name: int(tensor.flatten()[0]) for name, tensor in expected.items()}


def test_open_clip_is_mapped_as_diffusers_maps_it():
    from diffusers.loaders import single_file_utils as theirs

    tensors = published("sd21-v")
    config = registry.find("families", "sd2").configs["text_encoder"]
    net = classes.build_on_meta("text_encoder", config, "x")
    net.text_model = True  # as before transformers 5.6, which is what diffusers' function looks for
    prefix = "cond_stage_model.model."
    keys = sorted(tensors)
    whole = {}
    for number, key in enumerate(keys):
        if key.startswith(prefix):
            whole[key] = torch.full(tensors[key][:1] + [1] * (len(tensors[key]) - 1), float(number))
            if "in_proj" in key:
                whole[key] += torch.arange(3).repeat_interleave(1024).reshape(whole[key].shape) / 4
    expected = theirs.convert_open_clip_checkpoint(net, whole, prefix=prefix)
    ours = {}
    for number, key in enumerate(keys):
        for target in ldm.targets(key) or []:
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
    """Layouts of one checkpoint that people have."""
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
        "without buffers": {k: v for k, v in tensors.items() if not ldm.IGNORABLE.search(k)},
        "with position ids": tensors | {ids: [1, 77]},
    }


@pytest.mark.parametrize("variant", variants(published("sd15")))
@pytest.mark.parametrize("dtype", ["F16", "F32", "BF16", "F8_E4M3"])
def test_the_layouts_people_have_are_accepted(tmp_path, variant, dtype):
    found = checkpoint.read(
        str(write(tmp_path / "x.safetensors", variants(published("sd15"))[variant], dtype))
    )
    assert found.family.name == "sd1"
    assert {part: len(network.sources) for part, network in found.networks.items()} == {
        "text_encoder": 196,
        "unet": 686,
        "vae": 248,
    }


def test_a_text_encoder_named_as_in_sd_turbo_is_accepted(tmp_path):
    tensors = {
        key.replace("cond_stage_model.", "conditioner.embedders.0."): shape
        for key, shape in published("sd21-v").items()
    }
    found = checkpoint.read(str(write(tmp_path / "x.safetensors", tensors)))
    assert found.family.name == "sd2"
    for part, network in found.networks.items():
        check_tensors(network, classes.build_on_meta(part, network.config, "x"))


@pytest.mark.parametrize(
    ("spread", "metadata", "asked", "expected", "rule"),
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
def test_what_decides_the_prediction_of_sd2_is_told(tmp_path, spread, metadata, asked, expected, rule):
    path = write(tmp_path / "x.safetensors", published("sd21-v"), metadata=metadata)
    ones(path, NORM, [spread, -spread] * 160)
    found = checkpoint.read(str(path), asked)
    assert found.prediction == expected
    assert found.rule.startswith(rule)
    assert found.size == (768 if expected == "v_prediction" else 512)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_prediction_of_sd2_shows_in_weights_of_every_type(tmp_path, dtype):
    path = write(tmp_path / "x.safetensors", published("sd21-v"), dtype)
    ones(path, NORM, [0.2, -0.2] * 160)
    assert checkpoint.read(str(path)).prediction == "v_prediction"


@pytest.mark.parametrize(
    ("values", "words"),
    [([], "empty"), ([float("nan")] * 320, "not finite"), ([float("inf")] * 320, "not finite")],
)
def test_a_norm_of_sd2_that_tells_nothing_is_an_error(tmp_path, sd, values, words):
    path = write(tmp_path / "x.safetensors", published("sd21-v") | {NORM: [len(values)]})
    ones(path, NORM, values)
    with pytest.raises(ModelError, match=f"1 tensor .* {words}"):
        checkpoint.read(str(path))
    assert sd("info", path).code == 3


def test_a_prediction_type_that_is_not_known_is_an_error(tmp_path):
    metadata = {"modelspec.prediction_type": "garbage"}
    path = write(tmp_path / "x.safetensors", published("sd15"), metadata=metadata)
    with pytest.raises(
        ModelError, match="unknown prediction_type 'garbage'; say which it is with --prediction"
    ):
        checkpoint.read(str(path))


def test_the_marks_of_v_prediction_and_of_zero_terminal_snr_are_read(tmp_path):
    marked = published("sdxl-base") | {"v_pred": [0], "ztsnr": [0]}
    found = checkpoint.read(str(write(tmp_path / "x.safetensors", marked)))
    assert (found.prediction, found.rule) == ("v_prediction", "a tensor named v_pred")
    assert found.schedule == {"rescale_betas_zero_snr": True}
    assert levels(found) == Levels.scaled_linear().rescaled()
    plain = checkpoint.read(str(write(tmp_path / "y.safetensors", published("sdxl-base"))))
    assert levels(plain) == Levels.scaled_linear()


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
def test_a_tensor_that_no_network_needs_is_an_error_wherever_it_is(tmp_path, key):
    path = write(tmp_path / "x.safetensors", published("sd15") | {key: [768]})
    with pytest.raises(ModelError, match=r"1 tensor \(.*\) (of no network|too many)"):
        found = checkpoint.read(str(path))
        for part, network in found.networks.items():
            check_tensors(network, classes.build_on_meta(part, network.config, "x"))


def test_a_text_encoder_of_another_model_is_an_error(tmp_path):
    text = {key: shape for key, shape in published("sd21-v").items() if key.startswith("cond_stage")}
    rest = {key: shape for key, shape in published("sd15").items() if not key.startswith("cond_stage")}
    with pytest.raises(ModelError, match="text of width 1024, of which its U-Net reads 768"):
        checkpoint.read(str(write(tmp_path / "x.safetensors", text | rest)))


def test_the_vae_of_a_whole_checkpoint_will_do(tmp_path):
    whole = str(write(tmp_path / "x.safetensors", published("sd15")))
    plain, other = checkpoint.read(whole).networks["vae"], checkpoint.read(whole, vae=whole).networks["vae"]
    assert other.sources == plain.sources


OTHERS = {
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


@pytest.mark.parametrize("what", OTHERS)
def test_a_file_that_is_something_else_is_named(tmp_path, what):
    with pytest.raises(ModelError, match=what):
        checkpoint.read(str(write(tmp_path / "x.safetensors", OTHERS[what])))


def test_a_checkpoint_without_its_vae_or_with_a_strange_tensor_is_refused(tmp_path):
    tensors = published("sd15")
    without = {k: v for k, v in tensors.items() if not k.startswith("first_stage_model")}
    with pytest.raises(ModelError, match="no vae in it"):
        checkpoint.read(str(write(tmp_path / "x.safetensors", without)))
    with pytest.raises(ModelError, match=r"1 tensor \(strange\) of no network"):
        checkpoint.read(str(write(tmp_path / "y.safetensors", tensors | {"strange": [1]})))


EVERY = [name for name in registry.names("families") if name != "tiny"]
PROGRAM = """
import json, sys, time
from sdcli import cli
from sdcli.checkpoints import checkpoint
cli.run(["info", sys.argv[1]])  # what is imported and compiled once
for path in sys.argv[1:]:
    took = []
    for _ in range(3):
        start = time.process_time()
        found = checkpoint.read(path)
        took.append(time.process_time() - start)
    print(json.dumps([found.family.name, min(took)]))
print(json.dumps(sorted({"torch", "numpy", "diffusers", "transformers"} & set(sys.modules))))
"""


def test_every_family_is_told_from_its_header_in_a_blink_and_without_torch(tmp_path):
    paths = []
    for number, name in enumerate(EVERY):  # the file's name tells nothing
        family = registry.find("families", name)
        paths.append(str(write(tmp_path / f"{number}.safetensors", layout(family, family.configs))))
    ran = subprocess.run([sys.executable, "-c", PROGRAM, *paths], capture_output=True, text=True, check=True)
    *told, heavy = (json.loads(line) for line in ran.stdout.splitlines() if line.startswith("["))
    assert [name for name, _ in told] == EVERY
    assert {name: took for name, took in told if took > 0.1} == {}
    assert heavy == []


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layouts_made_for_tests_are_the_published_ones(family):
    ours = registry.find("families", FAMILIES[family][0])
    made, true = layout(ours, ours.configs), published(family)
    assert {key: true[key] for key in made} == made
