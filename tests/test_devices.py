"""The same picture on every device: with CUDA what scripts/test --gpu runs; on the CPU they test themselves."""

import functools
import gc
import io
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sdcli.batch.executors.batched import batched
from sdcli.diffusion.noise import STREAMS
from sdcli.engine import generate
from sdcli.models import memory
from sdcli.models.cache import ModelCache
from sdcli.models.device import choose_device
from sdcli.models.load import load
from sdcli.pipeline import unet
from sdcli.request.request import Loading, Request
from tests.batch.batches import drawn_here, events_of, files_in, task

HALF = {"cuda": "float16", "cpu": "bfloat16"}
DRAWN = {"seed": 7, "steps": 4, "sampler": "ddim"}


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    return request.param


def drawn(device: str, dtype: str = "float32", **more):
    return generate(Request("a red apple", device=device, dtype=dtype, **{**DRAWN, **more}))


@functools.cache
def drawn_on_cpu(model: str):
    return drawn("cpu", model=model)


def apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Relative L2 distance."""
    return float((ours.cpu() - theirs.cpu()).norm() / theirs.norm())


def furthest(one, other) -> int:
    """The largest difference of two pictures' pixels, of 255."""
    pixels = [torch.tensor(list(result.picture.image.tobytes())).int() for result in (one, other)]
    return int((pixels[0] - pixels[1]).abs().max())


def test_the_class_of_arithmetic_is_that_by_which_torch_chooses_its_loops():
    code = "from sdcli.models import device; print(device.choose_device('cpu', 'float32', 0).facts['arithmetic'])"
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ran.stdout.split()[-1] in ("DEFAULT", "NEON", "VSX"), ran.stderr
    assert len(ran.stdout.split()) == 2


def test_the_class_of_arithmetic_in_bfloat16_names_the_units_for_it(monkeypatch):
    classes = []
    for amx, bf16 in ((True, True), (False, True), (False, False)):
        monkeypatch.setattr("sdcli.models.device.has_bf16_matrix_units", lambda amx=amx: amx)
        monkeypatch.setattr("sdcli.models.device._has_bf16_instructions", lambda bf16=bf16: bf16)
        facts = [choose_device("cpu", dtype, 0).facts["arithmetic"] for dtype in ("float32", "bfloat16")]
        classes.append(str(facts[1]).removeprefix(str(facts[0])))
    assert classes == [" AMX", " BF16", ""]


@pytest.mark.parametrize(
    ("amx", "bf16", "parameters", "dtype"),
    [
        (False, False, 10**9, "float32"),
        (False, True, 10**9, "bfloat16"),
        (True, False, 10**9, "bfloat16"),
        (True, True, 10**7, "float32"),
    ],
)
def test_large_networks_take_bfloat16_where_the_cpu_multiplies_in_it(
    monkeypatch, amx, bf16, parameters, dtype
):
    monkeypatch.setattr("sdcli.models.device.has_bf16_matrix_units", lambda: amx)
    monkeypatch.setattr("sdcli.models.device._has_bf16_instructions", lambda: bf16)
    assert choose_device("cpu", "auto", parameters).facts["dtype"] == dtype


@pytest.mark.gpu
def test_the_class_of_arithmetic_of_a_gpu_is_its_compute_capability():
    assert str(choose_device("cuda", "auto", 0).facts["arithmetic"]).startswith("sm_")


@pytest.mark.parametrize("model", ["tiny", "test:sd2-v", "test:sdxl"])
def test_float32_draws_what_the_cpu_draws(device, model):
    here, there = drawn(device, model=model), drawn_on_cpu(model)
    assert apart(here.latents, there.latents) < 1e-3
    assert furthest(here, there) <= 4


@pytest.mark.parametrize("model", ["tiny", "test:sd1", "test:sdxl"])
def test_half_precision_is_finite_and_near(device, model):
    here, there = drawn(device, HALF[device], model=model), drawn_on_cpu(model)
    assert here.picture.facts["dtype"] == HALF[device]
    assert torch.isfinite(here.latents).all()
    assert apart(here.latents, there.latents) < 0.2


def test_the_same_run_gives_the_same_bytes(device):
    assert drawn(device).picture.png() == drawn(device).picture.png()


@pytest.mark.parametrize("rng", STREAMS)
@pytest.mark.parametrize("sampler", ["euler_a", "dpmpp_sde"])
def test_noise_is_the_same_on_every_device(device, rng, sampler):
    shape = (1, 4, 32, 24)
    here, there = (STREAMS[rng](7, shape, torch.device(each)) for each in (device, "cpu"))
    for sigmas in ((0.0, 0.0), (9.0, 4.0), (4.0, 1.0)):
        assert torch.equal(here(*sigmas).cpu(), there(*sigmas))
    drawings = [drawn(each, sampler=sampler, rng=rng, model="test:sd1") for each in (device, "cpu")]
    assert apart(drawings[0].latents, drawings[1].latents) < 1e-2


@pytest.mark.gpu
@pytest.mark.parametrize("model", ["tiny", "test:sdxl"])
def test_a_cuda_graph_draws_the_bytes_that_torch_draws(model):
    plain = drawn("cuda", "float16", model=model)
    assert drawn("cuda", "float16", model=model, engine="cuda_graph").picture.image == plain.picture.image


@pytest.mark.gpu
def test_pictures_drawn_at_once_are_those_drawn_alone_or_say_that_they_are_not():
    tasks = [task(number, "tiny", device="cuda", dtype="float16") for number in range(4)]
    alone, found = drawn_here(tasks), events_of(batched("4"), tasks)
    if all("batch" not in event.facts for event in found):
        assert files_in(found) == alone
    for event in found:
        before, now = (Image.open(io.BytesIO(data)) for data in (alone[event.number], event.encode()))
        assert np.abs(np.asarray(before, dtype=int) - np.asarray(now, dtype=int)).max() <= 8


def test_the_device_is_recorded(device):
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    assert drawn(device).picture.facts["device"] == name


@pytest.mark.gpu
def test_auto_takes_cuda_in_float16():
    facts = generate(Request("a red apple", **DRAWN)).picture.facts
    assert (facts["device"], facts["dtype"]) == (torch.cuda.get_device_name(), "float16")


def test_one_network_at_a_time_draws_the_same(device, monkeypatch):
    ample = drawn(device, model="test:sdxl")
    largest = max(
        sum(4 * p.numel() for p in net.parameters())
        for net in load("test:sdxl", device, "float32").networks.modules.values()
    )
    monkeypatch.setattr(memory, "free", lambda device: 1.25 * largest)
    scarce = drawn(device, model="test:sdxl")
    assert (ample.networks, scarce.networks) == ("all at once", "one at a time")
    assert ample.picture.png() == scarce.picture.png()


def test_running_out_of_memory_is_one_line_and_gives_the_memory_back(sd, device, monkeypatch):
    """A batch of another size may go on afterwards: nothing of the failed run is held."""
    command = ("txt2img", "a cat", "--device", device, "--dtype", "float32", "-s", 1, "--json")
    assert sd(*command).code == 0
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    held = []

    def full(model, x, *rest):
        mine = torch.zeros(1000, device=device)
        held.append(weakref.ref(mine))
        if device == "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines.")
        return torch.zeros(torch.cuda.mem_get_info()[1], device=device)  # as much as the whole card has

    with monkeypatch.context() as patch:
        patch.setattr(unet, "call_unet", full)
        ran = sd(*command)
    assert (ran.code, len(ran.err.splitlines())) == (5, 1)
    assert "out of memory while drawing 512x512 pixels; choose" in ran.err
    gc.collect()
    assert held[0]() is None
    if device == "cuda":
        assert torch.cuda.memory_allocated() == before
    again = sd(*command)
    assert again.code == 0
    assert Path(json.loads(again.out)["path"]).is_file()


@pytest.mark.gpu
def test_the_memory_of_a_model_is_given_back():
    gc.collect()
    before = torch.cuda.memory_allocated()
    models = ModelCache()
    with models.use(Loading(device="cuda", dtype="float16")):
        assert torch.cuda.memory_allocated() > before + 40e6
    models.unload()
    gc.collect()
    assert torch.cuda.memory_allocated() == before


def test_what_is_free_on_a_card_includes_what_torch_keeps_for_itself(monkeypatch):
    told = {"mem_get_info": (1000, 5000), "memory_reserved": 300, "memory_allocated": 100}
    for name, value in told.items():
        monkeypatch.setattr(torch.cuda, name, lambda device=None, value=value: value)
    assert memory.free(torch.device("cuda")) == 1200
