"""One CFG step and one VAE decode of full-size SD 1.5 at 512x512, in one run and in alternation; prints the ratios.

    python scripts/bench/step.py [--rounds 3] [--size 512] [--model sd1]

Compares sdcli (its own choice of dtype, memory format and threads), diffusers as it comes (float32), and OpenVINO where
`pip install openvino` was done. The weights are random: time does not depend on them. Another model is a family or a
test model by name, such as test:sd1 to see in seconds that all of it works.
"""

import argparse
import multiprocessing
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import torch

from sdcli import registry
from sdcli.checkpoints import toy
from sdcli.models import build, config, memory
from sdcli.models.device import choose_device

Calls = dict[str, Callable[[], object]]  # what is timed, by name
Rival = Callable[[str, int], tuple[str, Calls] | None]  # its name and calls, if it is installed


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def settings(model: str) -> dict[str, dict[str, Any]]:
    """The complete settings of the model's U-Net and VAE: a family, or a test model by name."""
    family = toy.family(model)[0] if model.startswith("test:") else registry.find("families", model)
    configs = toy.configs(family) if model.startswith("test:") else family.configs
    return {part: config.settings(part, configs[part]) for part in ("unet", "vae")}


def inputs(model: str, dtype: torch.dtype, side: int) -> dict[str, tuple[torch.Tensor, ...]]:
    """What a step and a decode take."""
    unet = settings(model)["unet"]
    x = torch.randn(2, unet["in_channels"], side, side, dtype=dtype)
    context = torch.randn(2, 77, unet["cross_attention_dim"], dtype=dtype)
    return {"step": (x, torch.tensor(500.0), context), "decode": (x[:1, :4],)}


def ready(network: torch.nn.Module, dtype: torch.dtype, layout: torch.memory_format) -> torch.nn.Module:
    return network.eval().requires_grad_(False).to(dtype).to(memory_format=layout)


def ours(model: str, side: int) -> tuple[str, Calls]:
    """Our modules, with torch set up as `load` does it for a large network."""
    chosen = choose_device("cpu", "auto", 1_000_000_000)
    memory.keep_memory()
    parts = {
        part: ready(build.build_random(part, each), chosen.dtype, torch.channels_last)
        for part, each in settings(model).items()
    }
    given = inputs(model, chosen.dtype, side)
    x, t, context = given["step"]
    x, z = (each.contiguous(memory_format=torch.channels_last) for each in (x, given["decode"][0]))

    @torch.inference_mode()
    def step() -> object:
        return parts["unet"](x, t, context)

    @torch.inference_mode()
    def decode() -> object:
        return parts["vae"].decode(z)

    return f"sdcli ({str(chosen.dtype).removeprefix('torch.')})", {"step": step, "decode": decode}


def library(model: str) -> tuple[Any, Any]:
    """diffusers' classes with random weights, as they come: float32, contiguous."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    parts = settings(model)
    unet, vae = UNet2DConditionModel.from_config(parts["unet"]), AutoencoderKL.from_config(parts["vae"])
    return tuple(ready(each, torch.float32, torch.contiguous_format) for each in (unet, vae))


def diffusers(model: str, side: int) -> tuple[str, Calls]:
    """As it comes."""
    (unet, vae), given = library(model), inputs(model, torch.float32, side)

    @torch.inference_mode()
    def step() -> object:
        return unet(*given["step"], return_dict=False)

    @torch.inference_mode()
    def decode() -> object:
        return vae.decode(*given["decode"], return_dict=False)

    return "diffusers (float32)", {"step": step, "decode": decode}


def openvino(model: str, side: int) -> tuple[str, Calls] | None:
    """diffusers' networks by OpenVINO's own conversion, latency hint and choice of precision; None if not installed."""
    try:
        import openvino as ov
    except ImportError:
        return None
    (unet, vae), given = library(model), inputs(model, torch.float32, side)
    core, calls = ov.Core(), {}

    class Decoder(torch.nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return vae.decode(z, return_dict=False)[0]

    class Step(torch.nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
            return unet(x, t, context, return_dict=False)[0]

    for name, module in {"step": Step(), "decode": Decoder()}.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            converted = ov.convert_model(module, example_input=given[name])
        compiled = core.compile_model(converted, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
        arrays = [tensor.numpy() for tensor in given[name]]
        calls[name] = lambda compiled=compiled, arrays=arrays: compiled(arrays)
    return "openvino", calls


def serve(rival: Rival, model: str, side: int, line: Connection) -> None:
    """A rival in its own process, so that none inherits another one's settings of torch or the C library."""
    made = rival(model, side)
    line.send(made[0] if made else None)
    for what in iter(line.recv, None):
        assert made is not None
        line.send(timed(made[1][what]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--model", default="sd1")
    told = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    rivals: dict[str, Connection] = {}
    for rival in (ours, diffusers, openvino):
        line, far = context.Pipe()
        context.Process(target=serve, args=(rival, told.model, told.size // 8, far), daemon=True).start()
        name = line.recv()
        if name is None:
            line.send(None)
        else:
            rivals[name] = line
    for what in ("step", "decode"):
        times: dict[str, list[float]] = {name: [] for name in rivals}
        for _ in range(told.rounds + 1):
            for name, line in rivals.items():
                line.send(what)
                times[name].append(line.recv())
        best = {name: median(each[1:]) for name, each in times.items()}  # the first round warms up
        first = next(iter(best.values()))
        for name, seconds in best.items():
            print(f"{what:7} {name:22} {seconds:7.2f} s   {seconds / first:5.2f} x sdcli")
    for line in rivals.values():
        line.send(None)


if __name__ == "__main__":
    main()
