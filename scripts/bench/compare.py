"""Compare programs at one CFG step and one VAE decode in one run, in turns, and print a Markdown table.

    python scripts/bench/compare.py [--rounds 3] [--size 512] [--model sd1] [--only NAME ...] [--threads N]

Programs: sdcli in float32 and bfloat16, diffusers with its defaults, OpenVINO in float32 and bfloat16 (on our
networks), torch.compile (on our networks; needs a C++ compiler and minutes), and stable-diffusion.cpp, of which it is
said only whether its wheel is installed. Each is a process of its own; they take turns, so that what else the machine
does falls on all of them.
Given are CPU seconds and wall seconds, each as the median with the least and the most, and their ratio to the first
program's. The weights are random, because the time does not depend on them. Where other programs use the cores, give
--threads 1: threads that wait for each other count as working.
"""

import argparse
import importlib.util
import multiprocessing
import os
import platform
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import step
import torch

from sdcli.machine import helpful_threads, instructions
from sdcli.models import build, memory
from sdcli.models.architectures.packed import pack

Calls = dict[str, Callable[[], object]]


def threads() -> int:
    """How many threads each program uses: those of --threads, which its process inherits, or as many as help."""
    return int(os.environ.get("OMP_NUM_THREADS", 0)) or helpful_threads()


def ours(model: str, side: int, dtype: torch.dtype = torch.float32, compiled: bool = False) -> Calls:
    """sdcli's modules in a dtype, as it runs them, or through torch.compile."""
    torch.set_num_threads(threads())
    memory.keep_memory()
    parts = {
        part: step.ready(build.build_random(part, each), dtype, torch.channels_last)
        for part, each in step.settings(model).items()
    }
    pack(parts["unet"])
    arguments = step.inputs(model, dtype, side)
    unet, decode = parts["unet"], parts["vae"].decode
    if compiled:
        unet, decode = torch.compile(unet), torch.compile(decode)
    x, z = (each[0].contiguous(memory_format=torch.channels_last) for each in arguments.values())
    _, t, context = arguments["step"]

    def call(function: Callable[..., object], *values: torch.Tensor) -> object:
        with torch.no_grad():
            return function(*values)

    return {"step": lambda: call(unet, x, t, context), "decode": lambda: call(decode, z)}


def in_bfloat16(model: str, side: int) -> Calls:
    """sdcli in bfloat16."""
    return ours(model, side, torch.bfloat16)


def torch_compile(model: str, side: int) -> Calls:
    """sdcli's networks in float32 through torch.compile."""
    return ours(model, side, compiled=True)


def diffusers(model: str, side: int) -> Calls:
    """diffusers with its defaults."""
    torch.set_num_threads(threads())
    return step.diffusers(model, side)[1]


def openvino_in_bfloat16(model: str, side: int) -> Calls:
    """OpenVINO in bfloat16."""
    return openvino(model, side, "bf16")


def openvino(model: str, side: int, precision: str = "f32") -> Calls:
    """OpenVINO on sdcli's networks, with the settings of --engine openvino."""
    import openvino as ov

    from sdcli.models.engine_types import positional

    calls, core = {}, ov.Core()
    for part, name, what in (("unet", "unet", "step"), ("vae", "vae_decoder", "decode")):
        network = step.ready(
            build.build_random(part, step.settings(model)[part]), torch.float32, torch.preserve_format
        )
        values = step.inputs(model, torch.float32, side)[what]
        arguments = dict(zip(("x", "t", "context"), values, strict=False))
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            converted = ov.convert_model(positional(name, network, arguments), example_input=values)
        del network
        converted.reshape({i: [-1, *each.shape[1:]] if each.shape else [] for i, each in enumerate(values)})
        chosen = {
            "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads(),
        }  # fmt: skip
        request = core.compile_model(converted, "CPU", chosen).create_infer_request()
        arrays = [each.numpy() for each in values]
        calls[what] = lambda request=request, arrays=arrays: request.infer(arrays)
    return calls


PROGRAMS: dict[str, tuple[str, Callable[[str, int], Calls]]] = {
    "sdcli float32": ("torch", ours),
    "sdcli bfloat16": ("torch", in_bfloat16),
    "diffusers float32": ("diffusers", diffusers),
    "OpenVINO float32": ("openvino", openvino),
    "OpenVINO bfloat16": ("openvino", openvino_in_bfloat16),
    "torch.compile float32": ("torch", torch_compile),
}
"""Name -> the package it needs, and what makes its calls from a model and the side of its latents."""


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """(CPU seconds of all threads, wall seconds) of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def serve(make: Callable[[str, int], Calls], model: str, side: int, pipe: Connection) -> None:
    """Time one program's calls on demand; a call that fails is answered with the reason."""
    try:
        calls = make(model, side)
        for call in calls.values():
            call()  # the first one warms up, or compiles
    except Exception as error:
        pipe.send((str(error).splitlines() or [type(error).__name__])[0])
        return
    pipe.send(None)
    for what in iter(pipe.recv, None):
        pipe.send(timed(calls[what]))


def packages(*names: str) -> str:
    """`torch 2.9.0, openvino 2026.4.1`, of those that are installed."""
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def processor() -> str:
    """The name of the CPU, as it calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU")


def spread(values: list[float]) -> str:
    """The median, with the least and the most behind it."""
    return f"{median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def start(names: list[str], model: str, side: int) -> dict[str, Connection]:
    """A process for each program that is installed, when it is ready; what is left out is printed with the reason."""
    context, pipes = multiprocessing.get_context("spawn"), {}
    for name in names:
        package, make = PROGRAMS[name]
        if importlib.util.find_spec(package) is None:
            print(f"{name}: {package} is not installed")
            continue
        pipe, child = context.Pipe()
        context.Process(target=serve, args=(make, model, side, child), daemon=True).start()
        failure = pipe.recv()
        if failure:
            print(f"{name}: {failure}")
        else:
            pipes[name] = pipe
    return pipes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--model", default="sd1")
    parser.add_argument("--only", nargs="*", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    if importlib.util.find_spec("stable_diffusion_cpp") is None:
        print(
            "stable-diffusion.cpp: not installed (pip install stable-diffusion-cpp-python), and not compared"
        )
    pipes = start(options.only, options.model, options.size // 8)
    print(
        f"\n{options.model} at {options.size}x{options.size}, {options.rounds} rounds in turns; {processor()},"
    )
    print(f"{threads()} threads, {instructions()}; {packages('torch', 'diffusers', 'openvino')}\n")
    print(
        "| what | program | CPU seconds | wall seconds | CPU ratio | wall ratio |\n|---|---|---|---|---|---|"
    )
    for what in ("step", "decode"):
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in pipes}
        for _ in range(options.rounds):
            for name, pipe in pipes.items():
                pipe.send(what)
                times[name].append(pipe.recv())
        first: list[float] | None = None
        for name, pairs in times.items():
            both = [list(each) for each in zip(*pairs, strict=True)]
            medians = [median(each) for each in both]
            first = first or medians
            ratios = " | ".join(f"{mine / other:.2f}" for mine, other in zip(medians, first, strict=True))
            print(f"| {what} | {name} | {spread(both[0])} | {spread(both[1])} | {ratios} |", flush=True)
    for pipe in pipes.values():
        pipe.send(None)


if __name__ == "__main__":
    main()
