"""Checkpoints written anew: the names are the published ones, the bytes are stable, and the picture stays the same."""

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
from sdcli.checkpoints.tokenizer import framed, ids
from sdcli.models.load import load
from tests import judges
from tests.checkpoints.test_checkpoint import FAMILIES, published


@pytest.mark.parametrize("family", FAMILIES)
def test_the_way_back_gives_the_published_names(family):
    keys = [key for key in published(family) if not IGNORABLE.search(key)]
    parts: dict[str, dict[str, tuple[str, str]]] = {}
    for key, targets in single_file.targets(keys).items():
        for target in targets or []:
            parts.setdefault(target.part, {})[target.name] = (key, target.take)
    for part, forward in parts.items():
        open_clip = any("resblocks" in key for key, _ in forward.values())
        back = single_file.sources(part, list(forward), FAMILIES[family][0], open_clip)
        assert {name: (source.key, source.take) for name, source in back.items()} == forward


def halves(file: bytes) -> tuple[dict, bytes]:
    """The header and the data of a safetensors file."""
    end = 8 + int.from_bytes(file[:8], "little")
    return json.loads(file[8:end]), file[end:]


def told(path) -> str:
    """The prediction type that a checkpoint is read with."""
    return checkpoint.read(str(path)).prediction


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_single_file_tells_the_prediction_type(sd, written, family, prediction):
    _, path = written(family)
    for source, out, more in [
        (path, "folder", ("--prediction", prediction)),
        ("folder", "a.safetensors", ()),
    ]:
        assert sd("models", "convert", source, out, *more).code == 0
        assert told(out) == prediction


def scheduled(sd, path, **changes):
    """Convert a file to a folder whose scheduler says these things."""
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
def test_what_a_single_file_cannot_tell_is_refused(sd, written, changes):
    scheduled(sd, written("sdxl")[1], **changes)
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
def test_a_setting_that_no_tensor_shows_is_not_lost_silently(sd, written, part, changes):
    assert sd("models", "convert", written("sd1")[1], "folder").code == 0
    config = Path("folder", part, "config.json")
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
    ran = sd("models", "convert", "folder", "a.safetensors")
    assert (ran.code, len(ran.err.splitlines()), Path("a.safetensors").exists()) == (3, 1, False)
    assert f"the {next(iter(changes))} of its {part.replace('_', ' ')}" in ran.err


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_zero_terminal_signal_is_told_by_the_markers_people_use(sd, written, family):
    scheduled(sd, written(family)[1], rescale_betas_zero_snr=True, prediction_type="v_prediction")
    assert sd("models", "convert", "folder", "a.safetensors", "--dtype", "float16").code == 0
    tensors = load_file("a.safetensors")
    assert [tensors[mark].shape for mark in ("v_pred", "ztsnr")] == [(0,), (0,)]
    assert told("a.safetensors") == "v_prediction"
    assert checkpoint.read("a.safetensors").schedule == {"rescale_betas_zero_snr": True}


@pytest.mark.parametrize("family", ["sd1", "sd2", "x4_upscaler", "sdxl", "sdxl_refiner"])
def test_a_single_file_comes_back_from_a_folder_with_every_tensor(sd, written, family):
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
    (head, data), (reference, same) = halves(Path("a.safetensors").read_bytes()), halves(save(after))
    assert list(head.pop("__metadata__")) == ["format", "modelspec.prediction_type"]
    assert (list(head.items()), data) == (list(reference.items()), same)
    for file in Path("folder").rglob("*.*"):
        assert file.read_bytes() == (Path("again") / file.relative_to("folder")).read_bytes()


@pytest.mark.parametrize("family", ["sd1_inpaint", "pix2pix", "sd2", "sdxl", "sdxl_refiner"])
@pytest.mark.filterwarnings("ignore")
def test_diffusers_opens_a_converted_folder_and_finds_the_same_networks(sd, written, family):
    from diffusers import DiffusionPipeline

    told, path = written(family)
    assert sd("models", "convert", path, "folder", "--dtype", "float32").code == 0
    pipe = DiffusionPipeline.from_pretrained("folder", local_files_only=True)
    assert type(pipe).__name__ == told.pipeline
    ours = load("folder", "cpu", "float32")
    for part, net in ours.networks.items():
        theirs = judges.weights(getattr(pipe, part))
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in net.state_dict().items())
    for part, reader in told.text_encoders.items():
        cutter = getattr(pipe, part.replace("text_encoder", "tokenizer"))
        cut = cutter("a red apple, größer", padding="max_length", max_length=77).input_ids
        assert cut == framed(ids("a red apple, größer"), reader.pad)


@pytest.mark.filterwarnings("ignore")
def test_diffusers_draws_with_the_embedded_model_once_it_is_written_out(sd):
    from diffusers import StableDiffusionPipeline

    assert sd("models", "convert", "tiny", "folder").code == 0
    pipe = StableDiffusionPipeline.from_pretrained("folder", local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    image = pipe("a red apple", num_inference_steps=1, output_type="np").images[0]
    assert image.shape == (512, 512, 3)
    with pytest.raises(ValueError, match="tokenizer"):  # the one in the package has none, and says so
        StableDiffusionPipeline.from_pretrained(str(files("sdcli.tiny")), local_files_only=True)


def test_a_model_that_no_single_file_can_hold_is_refused(sd):
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
def test_a_place_that_cannot_be_written_in_is_one_line_without_options_of_other_commands(sd, written, out):
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
    for arguments, code in [
        (("test:sd1", "x"), 3),
        (("none", "x"), 3),
        ((toy, "x", "--dtype", "int8"), 2),
        ((toy, "x", "--prediction", "vv"), 2),
    ]:
        ran = sd("models", "convert", *arguments)
        assert (ran.code, len(ran.err.splitlines())) == (code, 1)
