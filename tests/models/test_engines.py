"""Engines run the U-Net and the decoder as torch does, to a stated tolerance, and refuse what they cannot do."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from sdcli.checkpoints import checkpoint
from sdcli.engine import generate
from sdcli.errors import ModelError, UsageError
from sdcli.models import engine_cache
from sdcli.models.compiling import compile_networks
from sdcli.models.device import choose_device
from sdcli.models.engine_networks import engine_networks
from sdcli.models.engines.compile import require_compiler
from sdcli.models.engines.cuda_graph import CudaGraph
from sdcli.models.load import load, load_own_network
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.request import Request

MOST = 1e-3
"""How far a network's output in float32 may be from torch's; measured are 4e-6 with OpenVINO."""
LEAST_PSNR = 40.0
"""dB between a picture in float32 and torch's; measured are 78 with OpenVINO on tiny at 512x512."""
COMMON = {"prompt": "a red apple", "model": "test:sd1", "seed": 7, "steps": 2, "width": 64, "height": 64}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("SDCLI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def openvino():
    """Skips the test where OpenVINO is not installed."""
    return pytest.importorskip("openvino")


def psnr(one: Image.Image, other: Image.Image) -> float:
    error = np.mean((np.asarray(one, dtype=float) - np.asarray(other, dtype=float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


REFUSED = {
    "--lora": {"lora": ("x.safetensors",)},
    "--freeu": {"freeu": "1.5,1.6,0.9,0.2,by=block"},
    "--tome": {"tome": 0.5},
    "--deepcache": {"deepcache": 2},
    "--tile x": {"tile": "x"},
    "--guidance pag": {"guidance": "pag"},
    "--guidance sag": {"guidance": "sag"},
    "--networks diffusers": {"networks": "diffusers"},
}


@pytest.mark.parametrize("option", REFUSED)
@pytest.mark.parametrize("engine", ["openvino", "compile", "cuda_graph"])
def test_what_alters_the_inside_of_a_network_is_refused_by_name(engine, option):
    with pytest.raises(UsageError, match=f"--engine {engine} runs the U-Net as a whole, and {option}"):
        generate(Request(**COMMON, **REFUSED[option], engine=engine))


def test_a_size_that_is_not_compiled_is_refused_with_the_command_that_compiles_it():
    with pytest.raises(
        UsageError,
        match="64x64 pixels in float32 on this CPU; run sd models compile test:sd1 --width 64 --height 64",
    ):
        generate(Request(**COMMON, engine="compile"))


def test_a_cuda_graph_without_a_gpu_is_refused():
    with pytest.raises(UsageError, match="--engine cuda_graph runs on a GPU; give --device cuda, or use"):
        generate(Request(**COMMON, device="cpu", engine="cuda_graph"))


def test_a_graph_is_captured_once_for_each_shape_and_gives_torch_s_bytes_for_other_values(tmp_path):
    """The capture is a stand-in, which does the work again as a graph does: in the same memory."""
    captured = []

    def capture(call):
        out = call()
        captured.append(out.shape)
        return lambda: out.copy_(call()), out

    found = checkpoint.read("test:sd1")
    graphs, loaded = CudaGraph(capture), []

    def load_once(part, placement):
        loaded.append(part)
        return load_own_network(found, part, placement)

    networks = engine_networks(found, "compile", choose_device("cpu", "float32", 0), load_once)
    reference = load("test:sd1", "cpu", "float32")
    functions = {}
    with torch.inference_mode():
        for side in (8, 8, 12, 8):
            values = {
                "x": torch.randn(2, 4, side, side),
                "t": torch.tensor(float(side)),
                "context": torch.randn(2, 77, reference.configs["unet"]["cross_attention_dim"]),
            }
            if side not in functions:
                functions[side] = graphs.function(networks.networks["unet"], values, tmp_path)
            noise = functions[side](list(values.values()))
            assert torch.equal(noise, reference.predict_noise(**values))
        z = {"x": torch.randn(1, 4, 8, 8)}
        decode = graphs.function(networks.networks["vae_decoder"], z, tmp_path)
        assert torch.equal(decode([z["x"]]), reference.decode(z["x"]))
    assert (len(captured), loaded) == (3, ["unet", "vae"])


def test_compiling_without_a_compiler_is_refused_politely(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler"):
        require_compiler()


def test_a_network_that_torch_cannot_compile_is_refused_in_one_line(monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("a constraint is violated\nand more")

    monkeypatch.setattr("torch.export.export", fails)
    request = Request(**COMMON, engine="compile")
    with pytest.raises(
        ModelError, match="torch cannot compile its unet: a constraint is violated; use --engine"
    ):
        list(compile_networks(checkpoint.read("test:sd1"), request.loading, 64, 64))


def test_without_openvino_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"openvino is not installed; pip install 'sdcli\[openvino\]'"):
        generate(Request(**COMMON, engine="openvino"))


def test_a_kept_folder_is_written_once_and_again_if_it_is_damaged(tmp_path):
    written = []

    def write(folder):
        written.append(folder)
        (folder / "a").write_text("network")

    folder = tmp_path / "cache" / "x"
    for _ in range(2):
        engine_cache.kept(folder, write)
    assert len(written) == 1
    (folder / "a").write_text("netwerk")
    engine_cache.kept(folder, write)
    assert (len(written), (folder / "a").read_text()) == (2, "network")
    assert [each.name for each in folder.parent.iterdir()] == ["x"]


def test_without_a_cache_folder_an_engine_says_so(monkeypatch):
    monkeypatch.setattr("sdcli.settings.cache_folder", lambda: None)
    with pytest.raises(UsageError, match="set SDCLI_CACHE"):
        engine_cache.engine_folder("openvino")


@pytest.mark.slow
@pytest.mark.parametrize("size", [(8, 8), (9, 13)])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_openvino_predicts_what_torch_predicts(openvino, size, rows):
    engine, reference = (load("test:sd1", "cpu", "float32", engine=each) for each in ("openvino", "torch"))
    width = reference.configs["unet"]["cross_attention_dim"]
    x, context = torch.randn(rows, 4, *size), torch.randn(rows, 77, width)
    with torch.inference_mode():
        noise = [
            model.predict_noise(x, torch.tensor(500.5), context=context) for model in (engine, reference)
        ]
        pixels = [model.decode(x[:1]) for model in (engine, reference)]
    torch.testing.assert_close(*noise, atol=MOST, rtol=0)
    torch.testing.assert_close(*pixels, atol=MOST, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "least"), [("openvino", LEAST_PSNR), ("openvino:int8=true", 25.0)])
def test_openvino_draws_the_picture_of_torch_and_records_its_version(openvino, engine, least, tmp_path):
    if "int8" in engine:
        pytest.importorskip("nncf")
    options = {**COMMON, "model": "tiny", "width": 256, "height": 256, "device": "cpu", "dtype": "float32"}
    drawn, again, torchs = (generate(Request(**options, engine=each)) for each in (engine, engine, "torch"))
    assert psnr(drawn.picture.image, torchs.picture.image) > least
    assert torch.equal(drawn.latents, again.latents)
    path = tmp_path / "a.png"
    path.write_bytes(drawn.picture.png())
    facts = read_png_metadata(str(path)).facts(str(path))
    assert (facts["request"]["engine"], facts["openvino"]) == (engine, openvino.__version__.split("-")[0])


@pytest.mark.slow
def test_a_compiled_network_draws_the_picture_of_torch(cache):
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    request = Request(**COMMON, engine="compile")
    folders = list(compile_networks(checkpoint.read("test:sd1"), request.loading, 64, 64))
    assert all(json.loads((each / "contents.json").read_text()) for each in folders)
    drawn, torchs = (generate(request.replace(engine=each)) for each in ("compile", "torch"))
    assert psnr(drawn.picture.image, torchs.picture.image) > LEAST_PSNR
