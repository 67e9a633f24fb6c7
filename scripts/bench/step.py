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

import torch

from sdcli import registry
from sdcli.checkpoints import toy
from sdcli.models import classes, device

Calls = dict[str, Callable[[], object]]  # what is timed, by name
Rival = Callable[[str, int], tuple[str, Calls] | None]  # its name and calls, if it is installed


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def networks(
    model: str, dtype: torch.dtype, layout: torch.memory_format
) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The model's U-Net and VAE with random weights."""
    family = toy.family(model)[0] if model.startswith("test:") else registry.find("families", model)
    configs = toy.configs(family) if model.startswith("test:") else family.configs
    made = []
    for part in ("unet", "vae"):
        net = classes.build_random(part, configs[part]).eval().requires_grad_(False)
        made.append(net.to(dtype).to(memory_format=layout))
    return made[0], made[1]


def calls(model: str, dtype: torch.dtype, layout: torch.memory_format, side: int) -> Calls:
    """The step and the decode as torch runs them."""
    unet, vae = networks(model, dtype, layout)
    x = torch.randn(2, unet.config.in_channels, side, side, dtype=dtype).contiguous(memory_format=layout)
    z = torch.randn(1, 4, side, side, dtype=dtype).contiguous(memory_format=layout)
    context = torch.randn(2, 77, unet.config.cross_attention_dim, dtype=dtype)

    @torch.inference_mode()
    def step() -> object:
        return unet(x, torch.tensor(500.0), context, return_dict=False)

    @torch.inference_mode()
    def decode() -> object:
        return vae.decode(z, return_dict=False)

    return {"step": step, "decode": decode}


def openvino(model: str, side: int) -> tuple[str, Calls] | None:
    """The same through OpenVINO's own conversion, latency hint, its own choice of precision; None if not installed."""
    try:
        import openvino as ov
    except ImportError:
        return None
    unet, vae = networks(model, torch.float32, torch.contiguous_format)
    core, made = ov.Core(), {}
    x, context = (
        torch.randn(2, unet.config.in_channels, side, side),
        torch.randn(2, 77, unet.config.cross_attention_dim),
    )
    shapes = {"step": (x, torch.tensor(500.0), context)}
    shapes["decode"] = (torch.randn(1, 4, side, side),)

    class Decoder(torch.nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return vae.decode(z, return_dict=False)[0]

    class Step(torch.nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
            return unet(x, t, context, return_dict=False)[0]

    for name, module in {"step": Step(), "decode": Decoder()}.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            converted = ov.convert_model(module, example_input=shapes[name])
        compiled = core.compile_model(converted, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
        inputs = [tensor.numpy() for tensor in shapes[name]]
        made[name] = lambda compiled=compiled, inputs=inputs: compiled(inputs)
    return "openvino", made


def ours(model: str, side: int) -> tuple[str, Calls]:
    """As `load` sets torch up for a large network."""
    chosen = device.choose_device("cpu", "auto", 1_000_000_000)
    device.keep_memory()
    return f"sdcli ({str(chosen.dtype).removeprefix('torch.')})", calls(
        model, chosen.dtype, torch.channels_last, side
    )


def diffusers(model: str, side: int) -> tuple[str, Calls]:
    """As it comes."""
    return "diffusers (float32)", calls(model, torch.float32, torch.contiguous_format, side)


def serve(rival: Rival, model: str, side: int, line: Connection) -> None:
    """A rival in its own process, so that none inherits what another told torch or the C library."""
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
