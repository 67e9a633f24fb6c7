"""Compare programs on a GPU at one CFG step and one VAE decode in one run, in turns, and print a Markdown table.

    python scripts/bench/gpu.py [--rounds 20] [--size 512] [--model sd1] [--dtype float16] [--only NAME ...]

Programs: sdcli as it draws (channels last, torch's fused attention), sdcli as a CUDA graph and through torch.compile,
diffusers with its defaults, and diffusers through torch.compile (mode max-autotune, the fastest that its documents
name). All are in one process and take turns; one after the other is loaded, so memory holds them all: --only picks
some. Given are the milliseconds of a call until the GPU is idle, as the median with the least and the most, the ratio
to the first program, and the most memory that its calls took. The weights are random, because the time does not depend
on them. --device cpu with --model test:sd1 shows within a minute that the script works.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import step
import torch
from compare import packages, spread

from sdcli.models import build
from sdcli.models.engines.cuda_graph import captured

Calls = dict[str, Callable[[], object]]
Networks = tuple[Callable[..., object], Callable[..., object]]  # the U-Net, and the decoder


def ours(model: str, device: str, dtype: torch.dtype) -> Networks:
    """sdcli's networks as it runs them."""
    unet, vae = (
        step.ready(build.build_random(part, each), dtype, torch.channels_last).to(device)
        for part, each in step.settings(model).items()
    )
    return unet, vae.decode


def theirs(model: str, device: str, dtype: torch.dtype) -> Networks:
    """diffusers' networks with its defaults."""
    unet, vae = (each.to(device, dtype) for each in step.library(model))
    return (
        lambda *values: unet(*values, return_dict=False)[0],
        lambda z: vae.decode(z, return_dict=False)[0],
    )


def compiled(networks: Networks, mode: str) -> Networks:
    """The networks through torch.compile."""
    unet, decode = (torch.compile(each, mode=mode) for each in networks)
    return unet, decode


def calls_of(networks: Networks, model: str, device: str, dtype: torch.dtype, side: int) -> Calls:
    """A step and a decode by these networks."""
    arguments = {
        what: [each.to(device) for each in values]
        for what, values in step.inputs(model, dtype, side).items()
    }
    for values in arguments.values():
        values[0] = values[0].contiguous(memory_format=torch.channels_last)
    unet, decode = networks

    def call(network: Callable[..., object], values: list[torch.Tensor]) -> object:
        with torch.inference_mode():
            return network(*values)

    return {
        "step": lambda: call(unet, arguments["step"]),
        "decode": lambda: call(decode, arguments["decode"]),
    }


def graphed(calls: Calls) -> Calls:
    """The calls as CUDA graphs: recorded once, for this size, and replayed without the work of the CPU."""
    return {what: captured(call)[0] for what, call in calls.items()}


def timed(call: Callable[[], object], device: str) -> tuple[float, float]:
    """(milliseconds until the device is idle, GB of its memory that were in use at most)."""
    if device == "cpu":
        start = time.perf_counter()
        call()
        return 1000 * (time.perf_counter() - start), 0.0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start), torch.cuda.max_memory_allocated() / 1e9


def programs(model: str, device: str, dtype: torch.dtype, side: int) -> dict[str, Callable[[], Calls]]:
    """Name -> what makes its calls."""

    def calls(networks: Networks) -> Calls:
        return calls_of(networks, model, device, dtype, side)

    found: dict[str, Callable[[], Calls]] = {"sdcli": lambda: calls(ours(model, device, dtype))}
    if device != "cpu":
        found["sdcli, CUDA graph"] = lambda: graphed(calls(ours(model, device, dtype)))
    found["sdcli, torch.compile"] = lambda: calls(compiled(ours(model, device, dtype), "max-autotune"))
    found["diffusers"] = lambda: calls(theirs(model, device, dtype))
    found["diffusers, torch.compile"] = lambda: calls(
        compiled(theirs(model, device, dtype), "max-autotune")
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--model", default="sd1")
    parser.add_argument("--dtype", default="float16", choices=("float16", "bfloat16", "float32"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device; --device cpu --dtype float32 --model test:sd1 tries the script")
    dtype = getattr(torch, options.dtype)
    offered = programs(options.model, options.device, dtype, options.size // 8)
    if unknown := set(options.only or ()) - offered.keys():
        parser.error(f"no program is called {unknown.pop()!r}; there are: {', '.join(offered)}")
    ready: dict[str, Calls] = {}
    for name in options.only or offered:
        ready[name] = offered[name]()
        for call in ready[name].values():
            for _ in range(3):  # the first ones compile
                call()
    device = torch.cuda.get_device_name() if options.device != "cpu" else "cpu"
    print(f"{options.model} at {options.size}x{options.size} in {options.dtype}, {options.rounds} rounds in turns;")
    print(f"{device}; {packages('torch', 'diffusers', 'triton')}\n")
    print("| what | program | milliseconds | ratio | GB |\n|---|---|---|---|---|")
    for what in ("step", "decode"):
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ready}
        for _ in range(options.rounds):
            for name, calls in ready.items():
                times[name].append(timed(calls[what], options.device))
        first = median(each for each, _ in next(iter(times.values())))
        for name, pairs in times.items():
            milliseconds, memory = ([*each] for each in zip(*pairs, strict=True))
            ratio = median(milliseconds) / first
            print(f"| {what} | {name} | {spread(milliseconds)} | {ratio:.2f} | {max(memory):.1f} |", flush=True)


if __name__ == "__main__":
    main()
