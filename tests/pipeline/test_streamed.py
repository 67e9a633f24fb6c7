"""A model whose weights are read layer by layer draws the same file, to the byte, whatever else changes the picture."""

import dataclasses
import json

import pytest
from safetensors.torch import save_file

from sdcli import estimate as estimates
from sdcli.batch.identity import request_key
from sdcli.checkpoints import checkpoint, tensor_shapes
from sdcli.checkpoints.ip_adapters import cross_attentions
from sdcli.engine import generate
from sdcli.errors import OutOfMemory
from sdcli.models.cache import ModelCache
from sdcli.models.load import load
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.request import Request
from tests import adapter_files, control_files
from tests.adapters import loras
from tests.conftest import TOY
from tests.pictures import half_mask, photo

WAYS = {
    "masked": {"image": "in.png", "mask": "mask.png"},
    "inpainting model": {"image": "in.png", "mask": "mask.png", "model": "test:inpaint"},
    "depth": {"image": "in.png", "depth": "depth.png", "model": "test:depth"},
    "control": {"control": ["canny.safetensors:image=in.png"]},
    "ip-adapter": {"ip_adapter": ["plus.safetensors:image=face.png:weight=0.8"]},
    "hypernet": {"hypernet": ["style.safetensors@0.7"]},
    "lora": {"lora": ["a.safetensors@0.7"]},
    "lora in some steps": {"lora": ["a.safetensors@0.7:0-0.5"]},
    "reference": {"reference": "face.png:mode=both"},
    "freeu": {"freeu": "auto,by=block"},
    "tome": {"tome": 0.5},
    "deepcache": {"deepcache": 2},
    "tile": {"tile": "both"},
    "pag": {"guidance": "pag"},
    "sag": {"guidance": "sag"},
}
TOGETHER = {
    key: value for way in ("control", "ip-adapter", "hypernet", "lora") for key, value in WAYS[way].items()
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Adapters for a small written checkpoint of SD 1, and pictures."""
    folder = tmp_path_factory.mktemp("streamed")
    unet = tensor_shapes.of_network("unet", checkpoint.read("test:sd1").components["unet"].config, "x")
    widths = [unet[key][0] for key in cross_attentions(unet)]
    adapter_files.hypernet(folder / "style.safetensors", (16,), layer_norm=True)
    adapter_files.ip_adapter(folder / "plus.safetensors", widths, 16, "plus", reads=32)
    adapter_files.image_encoder(folder / "vit")
    control_files.controlnet(folder, "test:sd1", "canny.safetensors")
    loras.write(folder / "a.safetensors")
    photo(40, 30).save(folder / "face.png")
    photo(64, 64).save(folder / "in.png")
    photo(64, 64).convert("L").save(folder / "depth.png")
    half_mask(64, 64).save(folder / "mask.png")
    return folder


@pytest.fixture(autouse=True)
def in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SDCLI_IMAGE_ENCODER", "vit")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The networks of test:sd1 in files, as diffusers writes them."""
    folder, model = tmp_path_factory.mktemp("models") / "sd1", load("test:sd1", "cpu", "float32")
    for part, component in checkpoint.read("test:sd1").components.items():
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(dict(component.config)))
        name = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        tensors = {key: value.contiguous() for key, value in model.networks[part].state_dict().items()}
        save_file(tensors, folder / part / f"{name}.safetensors")
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(TOY["scheduler"]))
    return str(folder)


@pytest.fixture(scope="module")
def models():
    return {stream: ModelCache() for stream in (False, True)}


def drawn(models, stream, **options):
    return generate(Request("a cat", seed=3, steps=2, stream=stream, **options), models[stream])


@pytest.mark.parametrize("way", WAYS)
def test_a_streamed_model_writes_the_same_file(models, written, way):
    options = {"model": written, **WAYS[way]}
    whole, streamed = (drawn(models, stream, **options) for stream in (False, True))
    assert (whole.networks, streamed.networks) == ("all at once", "layer by layer")
    assert streamed.picture.png() == whole.picture.png()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_all_adapters_together_write_the_same_file(models, written, dtype):
    whole, streamed = (drawn(models, s, model=written, dtype=dtype, **TOGETHER) for s in (False, True))
    assert streamed.picture.png() == whole.picture.png()


def test_the_next_streamed_picture_is_drawn_without_the_adapters(models, written):
    plain = drawn(models, True, model=written)
    drawn(models, True, model=written, **TOGETHER)
    assert drawn(models, True, model=written).picture.png() == plain.picture.png()


def test_a_picture_is_made_again_with_the_store_that_it_records_and_no_word_of_streaming(
    sd, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    options = ("-W", 64, "-H", 64, "--steps", 2, "--seed", 7, "--store", "fp8")
    assert sd("txt2img", "a cat", *options, "--stream", "-o", "a.png").code == 0
    request = read_png_metadata("a.png").facts("a.png")["request"]
    assert request["store"] == "fp8"
    assert "stream" not in request
    assert sd("again", "a.png", "-o", "b.png").code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert json.loads(sd("verify", "a.png", "--json").out)["verdict"] == "identical"


def test_a_job_is_another_one_with_another_store_and_the_same_one_streamed():
    plain = Request("a cat", seed=1)
    assert request_key(plain.replace(stream=True)) == request_key(plain)
    assert request_key(plain.replace(store="fp8")) != request_key(plain)
    assert Request.from_dict(plain.replace(stream=True).as_dict()).stream


def test_an_estimate_counts_how_weights_are_kept():
    found = checkpoint.read("tiny")
    ways = ({}, {"store": "bf16"}, {"store": "fp8"}, {"stream": True})
    sizes = [estimates.estimate(found, Request("x", **way)).bytes for way in ways]
    assert sizes == sorted(sizes, reverse=True)
    unet = load("tiny", "cpu", "float32").unet
    weights = sum(p.numel() for p in unet.parameters())
    assert sizes[0] - sizes[3] == pytest.approx(4 * weights, rel=0.2)
    keys = {estimates.speed_key(found, Request("x", **way)) for way in ways}
    assert len(keys) == len(ways)


def test_what_does_not_fit_is_refused_with_the_bytes_that_streaming_takes():
    found = checkpoint.read("tiny")
    whole, streamed = (estimates.estimate(found, Request("x", stream=s)).bytes for s in (False, True))
    between = dataclasses.replace(estimates.estimate(found, Request("x")), available=(whole + streamed) / 2)
    between.check("512x512")  # its weights would be streamed
    short = dataclasses.replace(between, bytes=9e9, streamed=4e9, available=2e9)
    with pytest.raises(
        OutOfMemory, match=r"take 9\.0 GB of memory, or 4\.0 GB with --stream, 2\.0 GB are free"
    ):
        short.check("512x512")
