"""Time one CFG step and one VAE decode of full-size SD 1.5 at 512x512, alternating between the programs.

    python scripts/bench/step.py [--rounds 3] [--size 512] [--model sd1]

Compares sdcli (with the dtype, memory format and threads that it chooses), diffusers with its defaults (float32), and
OpenVINO if it is installed (`pip install openvino`). Prints the seconds, and their ratio to sdcli's. The weights are
random, because the time does not depend on them. --model takes a family or a test model by name; test:sd1 shows within
seconds that the benchmark works.
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
from sdcli.checkpoints import checkpoint, toy
from sdcli.checkpoints import network_config as config
from sdcli.models import build, memory
from sdcli.models.architectures.packed import pack
from sdcli.models.device import choose_device

Calls = dict[str, Callable[[], object]]  # what is timed, by name
Program = Callable[[str, int], tuple[str, Calls] | None]  # (model, latent side) -> its name and calls, if installed


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def settings(model: str) -> dict[str, dict[str, Any]]:
    """The complete settings of the model's U-Net and VAE: a family, tiny, or a test model by name."""
    if model == "tiny":
        components = checkpoint.read("tiny").components
        return {part: config.settings(part, components[part].config) for part in ("unet", "vae")}
    family = toy.family(model)[0] if model.startswith("test:") else registry.find("families", model)
    configs = toy.configs(family) if model.startswith("test:") else family.configs
    return {part: config.settings(part, configs[part]) for part in ("unet", "vae")}


def inputs(model: str, dtype: torch.dtype, side: int) -> dict[str, tuple[torch.Tensor, ...]]:
    """The arguments of a step and of a decode."""
    unet = settings(model)["unet"]
    x = torch.randn(2, unet["in_channels"], side, side, dtype=dtype)
    context = torch.randn(2, 77, unet["cross_attention_dim"], dtype=dtype)
    return {"step": (x, torch.tensor(500.0), context), "decode": (x[:1, :4],)}


def ready(network: torch.nn.Module, dtype: torch.dtype, layout: torch.memory_format) -> torch.nn.Module:
    """The network for inference, with its weights in this dtype and memory format."""
    return network.eval().requires_grad_(False).to(dtype).to(memory_format=layout)


def ours(model: str, side: int) -> tuple[str, Calls]:
    """sdcli's modules, with torch set up as `load` sets it up for a large network."""
    chosen = choose_device("cpu", "auto", 1_000_000_000)
    memory.keep_memory()
    parts = {
        part: ready(build.build_random(part, each), chosen.dtype, torch.channels_last)
        for part, each in settings(model).items()
    }
    pack(parts["unet"])
    arguments = inputs(model, chosen.dtype, side)
    x, t, context = arguments["step"]
    x, z = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, arguments["decode"][0]))

    @torch.inference_mode()
    def step() -> object:
        return parts["unet"](x, t, context)

    @torch.inference_mode()
    def decode() -> object:
        return parts["vae"].decode(z)

    return f"sdcli ({str(chosen.dtype).removeprefix('torch.')})", {"step": step, "decode": decode}


def library(model: str) -> tuple[Any, Any]:
    """diffusers' U-Net and VAE with random weights and its defaults: float32, contiguous."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    parts = settings(model)
    unet, vae = UNet2DConditionModel.from_config(parts["unet"]), AutoencoderKL.from_config(parts["vae"])
    return tuple(ready(each, torch.float32, torch.contiguous_format) for each in (unet, vae))


def diffusers(model: str, side: int) -> tuple[str, Calls]:
    """diffusers with its defaults."""
    (unet, vae), arguments = library(model), inputs(model, torch.float32, side)

    @torch.inference_mode()
    def step() -> object:
        return unet(*arguments["step"], return_dict=False)

    @torch.inference_mode()
    def decode() -> object:
        return vae.decode(*arguments["decode"], return_dict=False)

    return "diffusers (float32)", {"step": step, "decode": decode}


def openvino(model: str, side: int) -> tuple[str, Calls] | None:
    """diffusers' networks, converted by OpenVINO, with its latency hint and its choice of precision."""
    try:
        import openvino as ov
    except ImportError:
        return None
    (unet, vae), arguments = library(model), inputs(model, torch.float32, side)
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
            converted = ov.convert_model(module, example_input=arguments[name])
        compiled = core.compile_model(converted, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
        arrays = [tensor.numpy() for tensor in arguments[name]]
        calls[name] = lambda compiled=compiled, arrays=arrays: compiled(arrays)
    return "openvino", calls


def serve(program: Program, model: str, side: int, pipe: Connection) -> None:
    """Time one program's calls on demand, in a process of its own: settings of torch and the C library stay apart."""
    name_and_calls = program(model, side)
    pipe.send(name_and_calls[0] if name_and_calls else None)
    for what in iter(pipe.recv, None):
        assert name_and_calls is not None
        pipe.send(timed(name_and_calls[1][what]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--model", default="sd1")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    for program in (ours, diffusers, openvino):
        pipe, child = context.Pipe()
        arguments = (program, options.model, options.size // 8, child)
        context.Process(target=serve, args=arguments, daemon=True).start()
        name = pipe.recv()
        if name is None:
            pipe.send(None)
        else:
            pipes[name] = pipe
    for what in ("step", "decode"):
        times: dict[str, list[float]] = {name: [] for name in pipes}
        for _ in range(options.rounds + 1):
            for name, pipe in pipes.items():
                pipe.send(what)
                times[name].append(pipe.recv())
        medians = {name: median(seconds[1:]) for name, seconds in times.items()}  # the first round warms up
        first = next(iter(medians.values()))
        for name, seconds in medians.items():
            print(f"{what:7} {name:22} {seconds:7.2f} s   {seconds / first:5.2f} x sdcli")
    for pipe in pipes.values():
        pipe.send(None)


if __name__ == "__main__":
    main()
