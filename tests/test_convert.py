"""Converted checkpoints have the published keys, the same bytes every time, and draw the same picture."""

import json
import math
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from sdcli.checkpoints import checkpoint
from sdcli.checkpoints.keys import single_file
from sdcli.checkpoints.keys.single_file import IGNORABLE
from sdcli.models.load import load
from sdcli.tokenizer import framed, ids
from tests import judges
from tests.checkpoints.test_checkpoint import FAMILIES, published


def mostly(always: str, others: str) -> list:
    """Names of families: those that always run, and others that only scripts/test --all runs."""
    return [*always.split(), *(pytest.param(name, marks=pytest.mark.slow) for name in others.split())]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_published_key_is_given_back_from_its_name_in_the_network(family):
    keys = [key for key in published(family) if not IGNORABLE.match(key)]
    parts: dict[str, dict[str, tuple[str, str]]] = {}
    for key, targets in single_file.targets(keys).items():
        for target in targets or []:
            parts.setdefault(target.part, {})[target.name] = (key, target.take)
    for part, read in parts.items():
        open_clip = any("resblocks" in key for key, _ in read.values())
        back = single_file.sources(part, list(read), FAMILIES[family][0], open_clip)
        assert {name: (source.key, source.take) for name, source in back.items()} == read


def split_file(file: bytes) -> tuple[dict, bytes]:
    """The header and the data of a safetensors file."""
    end = 8 + int.from_bytes(file[:8], "little")
    return json.loads(file[8:end]), file[end:]


def prediction_of(path) -> str:
    """The prediction type that a checkpoint is recognised as."""
    return checkpoint.read(str(path)).prediction


@pytest.mark.parametrize("family", mostly("sd2 sdxl", "sd1"))
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_prediction_type_is_recognised_in_a_converted_folder_and_file(sd, written, family, prediction):
    _, path = written(family)
    for source, out, more in [
        (path, "folder", ("--prediction", prediction)),
        ("folder", "a.safetensors", ()),
    ]:
        assert sd("models", "convert", source, out, *more).code == 0
        assert prediction_of(out) == prediction


def convert_to_folder(sd, path, **changes):
    """Convert a file to a folder, and change these keys of its scheduler_config.json."""
    assert sd("models", "convert", path, "folder").code == 0
    config = Path("folder/scheduler/scheduler_config.json")
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"beta_end": 0.02},
        {"beta_schedule": "linear"},
        {"prediction_type": "sample"},
    ],
)
def test_a_schedule_or_prediction_type_that_a_single_file_cannot_state_is_refused(sd, written, changes):
    convert_to_folder(sd, written("sdxl")[1], **changes)
    ran = sd("models", "convert", "folder", "a.safetensors")
    assert (ran.code, len(ran.err.splitlines()), Path("a.safetensors").exists()) == (3, 1, False)
    assert "name a folder" in ran.err


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("vae", {"scaling_factor": 0.5}),
        ("unet", {"norm_eps": 1e-3}),
        ("text_encoder", {"num_attention_heads": 1}),
    ],
)
def test_a_setting_that_a_single_file_would_lose_is_refused(sd, written, part, changes):
    assert sd("models", "convert", written("sd1")[1], "folder").code == 0
    config = Path("folder", part, "config.json")
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
    ran = sd("models", "convert", "folder", "a.safetensors")
    assert (ran.code, len(ran.err.splitlines()), Path("a.safetensors").exists()) == (3, 1, False)
    assert f"the {next(iter(changes))} of its {part.replace('_', ' ')}" in ran.err


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_zero_terminal_snr_is_marked_by_the_tensors_v_pred_and_ztsnr(sd, written, family):
    convert_to_folder(sd, written(family)[1], rescale_betas_zero_snr=True, prediction_type="v_prediction")
    assert sd("models", "convert", "folder", "a.safetensors", "--dtype", "float16").code == 0
    tensors = load_file("a.safetensors")
    assert [tensors[mark].shape for mark in ("v_pred", "ztsnr")] == [(0,), (0,)]
    assert prediction_of("a.safetensors") == "v_prediction"
    assert checkpoint.read("a.safetensors").schedule == {"rescale_betas_zero_snr": True}


@pytest.mark.parametrize("family", mostly("sd1 sd2 sdxl", "x4_upscaler sdxl_refiner"))
def test_a_single_file_converted_to_a_folder_and_back_has_the_same_tensors_and_bytes(sd, written, family):
    _, path = written(family)
    for source, out in [
        (path, "folder"),
        ("folder", "a.safetensors"),
        ("a.safetensors", "again"),
        ("again", "b.safetensors"),
    ]:
        ran = sd("models", "convert", source, out)
        assert (ran.code, ran.err) == (0, "")
    before, after = load_file(path), load_file("a.safetensors")
    assert before.keys() == after.keys()
    assert all(
        torch.equal(before[key], after[key]) and before[key].dtype == after[key].dtype for key in before
    )
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()
    (head, data), (reference, same) = split_file(Path("a.safetensors").read_bytes()), split_file(save(after))
    assert list(head.pop("__metadata__")) == ["format", "modelspec.prediction_type"]
    assert (list(head.items()), data) == (list(reference.items()), same)
    for file in Path("folder").rglob("*.*"):
        assert file.read_bytes() == (Path("again") / file.relative_to("folder")).read_bytes()


@pytest.mark.parametrize("family", mostly("sd1_inpaint sd2 sdxl", "pix2pix sdxl_refiner"))
@pytest.mark.filterwarnings("ignore")
def test_diffusers_opens_a_converted_folder_and_finds_the_same_networks(sd, written, family):
    from diffusers import DiffusionPipeline

    expected, path = written(family)
    assert sd("models", "convert", path, "folder", "--dtype", "float32").code == 0
    pipe = DiffusionPipeline.from_pretrained("folder", local_files_only=True)
    assert type(pipe).__name__ == expected.pipeline
    ours = load("folder", "cpu", "float32")
    for part, network in ours.networks.items():
        theirs = judges.weights(getattr(pipe, part))
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in network.state_dict().items())
    for part, use in expected.text_encoders.items():
        tokenizer = getattr(pipe, part.replace("text_encoder", "tokenizer"))
        tokens = tokenizer("a red apple, größer", padding="max_length", max_length=77).input_ids
        assert tokens == framed(ids("a red apple, größer"), use.pad)


@pytest.mark.filterwarnings("ignore")
def test_diffusers_draws_with_the_embedded_model_after_conversion(sd):
    from diffusers import StableDiffusionPipeline

    assert sd("models", "convert", "tiny", "folder").code == 0
    pipe = StableDiffusionPipeline.from_pretrained("folder", local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    image = pipe("a red apple", num_inference_steps=1, output_type="np").images[0]
    assert image.shape == (512, 512, 3)
    with pytest.raises(ValueError, match="tokenizer"):  # the one in the package has none, and says so
        StableDiffusionPipeline.from_pretrained(str(files("sdcli.tiny")), local_files_only=True)


def test_the_embedded_model_is_refused_as_a_single_file(sd):
    ran = sd("models", "convert", "tiny", "x.safetensors")
    assert (ran.code, len(ran.err.splitlines()), list(Path().iterdir())) == (3, 1, [])
    assert "name a folder" in ran.err


@pytest.mark.parametrize(
    ("value", "reason"), [(1e30, "float16 is too narrow for it, leave out --dtype"), (math.nan, "damaged")]
)
def test_weights_that_are_not_finite_are_refused_and_nothing_is_left(sd, toy, value, reason):
    copy = Path(shutil.copytree(toy, "copy"))
    path = next((copy / "vae").glob("*.safetensors"))
    tensors = load_file(path)
    tensors["decoder.conv_in.bias"][0] = value
    save_file(tensors, path)
    ran = sd("models", "convert", copy, "half", "--dtype", "float16")
    assert (ran.code, len(ran.err.splitlines()), list(Path().iterdir())) == (3, 1, [copy])
    assert f"{path}: decoder.conv_in.bias: not finite" in ran.err
    assert reason in ran.err


@pytest.mark.parametrize("out", ["taken/folder", "taken/a.safetensors"])
def test_a_path_that_cannot_be_written_is_one_line_without_options_of_other_commands(sd, written, out):
    Path("taken").write_text("")
    ran = sd("models", "convert", written("sd1")[1], out)
    assert (ran.code, len(ran.err.splitlines())) == (6, 1)
    assert ran.err.endswith("choose another place\n")


def test_a_converted_folder_draws_the_same_picture(sd, toy):
    assert sd("models", "convert", toy, "copy").lines == ["copy"]
    for model, name in ((toy, "a.png"), ("copy", "b.png")):
        ran = sd("txt2img", "a cat", "-m", model, "--seed", 1, "-s", 2, "--no-metadata", "-o", name)
        assert ran.code == 0, ran.err
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_the_dtype_of_the_weights_can_be_chosen(sd, toy):
    assert sd("models", "convert", toy, "half", "--dtype", "float16").lines == ["half"]
    paths = list(Path("half").rglob("*.safetensors"))
    assert len(paths) == 3
    assert {tensor.dtype for path in paths for tensor in load_file(path).values()} == {torch.float16}


def test_converting_twice_gives_the_same_bytes_and_overwrites_nothing(sd, toy):
    for out in ("a", "b"):
        assert sd("models", "convert", toy, out).code == 0
    files = sorted(path.relative_to("a") for path in Path("a").rglob("*") if path.is_file())
    assert files
    assert all((Path("a") / file).read_bytes() == (Path("b") / file).read_bytes() for file in files)
    again = sd("models", "convert", toy, "a")
    assert (again.code, len(again.err.splitlines())) == (2, 1)
    assert all((Path("a") / file).read_bytes() == (Path("b") / file).read_bytes() for file in files)


def test_a_missing_model_is_refused_in_one_line(sd):
    ran = sd("models", "convert", "none", "x")
    assert (ran.code, len(ran.err.splitlines())) == (3, 1)


@pytest.mark.parametrize("option", [("--dtype", "int8"), ("--prediction", "vv")])
def test_an_option_with_an_unknown_value_is_refused_in_one_line(sd, toy, option):
    ran = sd("models", "convert", toy, "x", *option)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
