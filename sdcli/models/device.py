"""Device: where the networks run, in which number format, and with how many threads."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sdcli.errors import UsageError
from sdcli.machine import cpu_maker, helpful_threads

LARGE = 200_000_000  # parameters from which `auto` takes bfloat16; smaller models draw alike on more CPUs in float32


@dataclass(frozen=True)
class Placement:
    """The device that networks run on, and their dtype."""

    device: torch.device
    dtype: torch.dtype

    @property
    def facts(self) -> dict[str, object]:
        """What a picture's metadata says of the placement."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return {
            "arithmetic": arithmetic(self.device, self.dtype),
            "device": name,
            "dtype": str(self.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }


def choose_device(device: str, dtype: str, parameters: int, threads: int | None = None) -> Placement:
    """The placement of networks with so many parameters; `auto` is the fastest one that keeps the picture.

    `threads` are those that torch uses on the CPU; None is as many as help.
    CUDA takes float16. A CPU takes float32, but bfloat16 for large networks if it has instructions for it.
    Raises UsageError for a device that does not exist, or a dtype that it cannot run.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        return _on_cuda(device, dtype)
    return _on_cpu(dtype, parameters, threads)


def _on_cuda(device: str, dtype: str) -> Placement:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(device.partition(":")[2] or 0) >= count:
        raise UsageError(f"--device {device}: torch sees {count} CUDA devices here; use --device cpu")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False  # float32 was asked for: convolutions keep its 24 bits too
    return Placement(torch.device(device), torch.float16 if dtype == "auto" else getattr(torch, dtype))


def _on_cpu(dtype: str, parameters: int, threads: int | None) -> Placement:
    torch.set_num_threads(threads or helpful_threads())
    if dtype == "float16":
        raise UsageError("--dtype float16 is for CUDA; on a CPU use --dtype bfloat16 or float32")
    if dtype == "auto":
        dtype = "bfloat16" if parameters >= LARGE and multiplies_bf16() else "float32"
    return Placement(torch.device("cpu"), getattr(torch, dtype))


def multiplies_bf16() -> bool:
    """True if this CPU multiplies in bfloat16: a step of Stable Diffusion then takes 0.6 of the time, or far less."""
    return has_bf16_matrix_units() or _has_bf16_instructions()


def has_bf16_matrix_units() -> bool:
    """True if this CPU multiplies bfloat16 matrices in dedicated units (AMX)."""
    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(probe and probe())


def arithmetic(device: torch.device, dtype: torch.dtype) -> str:
    """The class of arithmetic, on which the last bits depend: `AMD AVX512`, `Intel AVX512 AMX`, or a GPU's `sm_90`.

    torch chooses its loops by the instruction set, MKL its matrix products by the maker of the CPU too, and oneDNN
    those in bfloat16 by whether the CPU has instructions or matrix units for it.
    """
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"sm_{major}{minor}"
    names = [cpu_maker(), torch.backends.cpu.get_cpu_capability()]
    if dtype == torch.bfloat16 and has_bf16_matrix_units():
        names.append("AMX")
    elif dtype == torch.bfloat16 and _has_bf16_instructions():
        names.append("BF16")
    return " ".join(names)


def _has_bf16_instructions() -> bool:
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())
